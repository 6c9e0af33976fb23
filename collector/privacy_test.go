package collector

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// TestPrivacy scrapes a target whose samples carry labels, and takes a capture of it: what is not to leave is in neither.
func TestPrivacy(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := &profile.Function{ID: 1, Name: "main.work"}
		l := &profile.Location{ID: 1, Line: []profile.Line{{Function: f, Line: 1}}}
		p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "goroutine", Unit: "count"}}, Function: []*profile.Function{f}, Location: []*profile.Location{l},
			Sample: []*profile.Sample{{Location: []*profile.Location{l}, Value: []int64{3_000_000}, Label: map[string][]string{"user": {"u1"}, "note": {"of ann@example.com"}}}}}
		if err := p.Write(w); err != nil {
			t.Error(err)
		}
	}))
	defer target.Close()
	cfg := testConfig(t.TempDir())
	cfg.Targets = []Target{{Service: "cart", URL: target.URL + "/debug/pprof", Types: []string{"goroutine"}}}
	cfg.ScrapePeriod = Duration(200 * time.Millisecond)
	cfg.Privacy = Privacy{DropLabels: []string{"user"}, Redact: []string{`[\w.]+@[\w.]+`}}
	r := start(t, cfg, nil)

	var got struct {
		Labels []struct {
			Name   string
			Values []struct{ Value string }
		}
	}
	for deadline := time.Now().Add(30 * time.Second); len(got.Labels) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			var text string
			r.get(t, "/api/v1/samplelabels?query=cart&type=goroutine", &text)
			t.Fatalf("nothing was scraped: %s\n%s", text, r.log)
		}
		r.get(t, "/api/v1/samplelabels?query=cart&type=goroutine", &got)
	}
	if len(got.Labels) != 1 || got.Labels[0].Name != "note" || got.Labels[0].Values[0].Value != "of [redacted]" {
		t.Errorf("labels %+v, want note alone, redacted", got.Labels)
	}

	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Post(r.url+"/api/v1/captures?service=cart&kind=goroutine", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) { // until the executor has said that it reaches the target
			t.Fatalf("a capture was asked for: %s\n%s", resp.Status, r.log)
		}
	}
	var list struct {
		Captures []struct{ ID, State, Error, Result string }
	}
	for deadline := time.Now().Add(30 * time.Second); len(list.Captures) == 0 || list.Captures[0].Result == ""; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was captured: %+v\n%s", list, r.log)
		}
		r.get(t, "/api/v1/captures", &list)
	}
	file, err := http.Get(r.url + list.Captures[0].Result)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Body.Close()
	p, err := profile.Parse(file.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text := p.String(); strings.Contains(text, "u1") || strings.Contains(text, "ann@") || !strings.Contains(text, "[redacted]") {
		t.Errorf("the capture says\n%s", text)
	}
}
