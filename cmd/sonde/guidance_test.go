package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// collecting answers each path with its text; it keeps the last query of each.
func collecting(answers map[string]string, got map[string]url.Values) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if got != nil {
			got[r.URL.Path] = r.URL.Query()
		}
		io.WriteString(w, body)
	}
}

// TestNothingFound: what was asked for is not there, and the answer says what is.
func TestNothingFound(t *testing.T) {
	time.Local = time.UTC
	const nothing = `{"type":{"id":"cpu:cpu","kind":"interval"},"from":1795258800000,"to":1795262400000,"rows":[],"stats":{}}`
	services := fmt.Sprintf(`{"services":[{"name":"cart","last":%d},{"name":"check\u001bout","last":1795262300000}]}`, now.Add(-3*time.Hour).UnixMilli())
	const types = `{"types":[{"id":"heap:inuse_space","profile":"heap"},{"id":"cpu:cpu","profile":"cpu"}]}`
	tests := []struct {
		name            string
		services, types string
		args            []string
		want            string
	}{
		{"unknown service", services, types, []string{"-s", "crat"}, `there is no service "crat" in the last 7 days; there is cart, check?out`},
		{"unknown type", services, types, []string{"-s", "cart", "-t", "nonsense"}, "it has no such type there; it has heap:inuse_space, cpu:cpu"},
		{"unknown column", services, types, []string{"-s", "cart", "-t", "heap:foo"}, "it has no such type there"},
		{"older data", services, `{"types":[]}`, []string{"-s", "cart"}, "its latest profile is of 2026-11-21 09:00:00: --from 2026-11-21T08:00:00Z"},
		{"empty store", `{"services":[]}`, `{"types":[]}`, nil, "the store is empty"},
		{"the collector does not say", "", "", nil, "`sonde ps` shows what is profiled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answers := map[string]string{"/api/v1/top": nothing, "/api/v1/types": tt.types, "/api/v1/profile": "x"}
			if tt.services != "" {
				answers["/api/v1/services"] = tt.services
			}
			r := sonde(t, collecting(answers, nil), "", append([]string{"top"}, tt.args...)...)
			if r.code != 0 || !strings.Contains(r.stdout, tt.want) {
				t.Errorf("exit %d, stdout %q, stderr %q, want %q", r.code, r.stdout, r.stderr, tt.want)
			}
		})
	}
	// A build must not go on with an empty default.pgo.
	answers := map[string]string{"/api/v1/services": services, "/api/v1/types": `{"types":[]}`, "/api/v1/profile": "x"}
	if r := sonde(t, collecting(answers, nil), "", "get", "-s", "crat", "-o", "pgo"); r.code != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, `there is no service "crat"`) {
		t.Errorf("get of nothing: %+v", r)
	}
}

// TestCoverage: a mean over an hour of which there is data for a minute only is said to be one, with what cures it.
func TestCoverage(t *testing.T) {
	time.Local = time.UTC
	answer := func(kind string, first, last time.Time) string {
		return fmt.Sprintf(`{"type":{"id":"heap:inuse_space","profile":"heap","unit":"bytes","kind":%q},"from":%d,"to":%d,"total":1024,
"rows":[{"function":"main.work","self":1024,"total":1024}],"stats":{"profiles":4,"first":%d,"last":%d}}`, kind, now.Add(-time.Hour).UnixMilli(), now.UnixMilli(), first.UnixMilli(), last.UnixMilli())
	}
	min := func(n int) time.Time { return now.Add(time.Duration(-n) * time.Minute) }
	tests := []struct {
		name, kind  string
		first, last time.Time
		want        string
	}{
		{"begins late", "gauge", min(1), min(0), "note: there is data from 2026-11-21 11:59:00 only, and means are over the whole range; --from 2026-11-21T11:59:00Z narrows it\n"},
		{"ends early", "gauge", min(60), min(30), "note: there is data up to 2026-11-21 11:30:00 only, and means are over the whole range; --from 2026-11-21T11:00:00Z --to 2026-11-21T11:30:00Z narrows it\n"},
		{"both", "gauge", min(40), min(30), "note: there is data from 2026-11-21 11:20:00 to 2026-11-21 11:30:00 only, and means are over the whole range; --from 2026-11-21T11:20:00Z --to 2026-11-21T11:30:00Z narrows it\n"},
		{"a capture or two", "gauge", min(58), min(1), ""},
		{"a sum is none the worse", "interval", min(1), min(0), ""},
		{"not known", "gauge", time.UnixMilli(0), time.UnixMilli(0), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if r := sonde(t, answers("/api/v1/top", answer(tt.kind, tt.first, tt.last), nil), "", "top", "-t", "heap"); r.code != 0 || r.stderr != tt.want {
				t.Errorf("exit %d, stderr %q, want %q", r.code, r.stderr, tt.want)
			}
		})
	}
}

// TestWhileProfiled: CPU time is set against the time in which it was measured, not against the range.
func TestWhileProfiled(t *testing.T) {
	time.Local = time.UTC
	body := strings.Replace(topJSON, `"series":1`, `"series":1,"covered_ms":40000`, 1)
	r := sonde(t, answers("/api/v1/top", body, nil), "", "top")
	if want := "4.00s in 4 profiles over 40.0s of process time (100 mcores a process)\n"; !strings.Contains(r.stdout, want) {
		t.Errorf("no %q in\n%s", want, r.stdout)
	}
}

// TestPsOrder: what is profiled comes first, what nobody can change last; all is asked for by name.
func TestPsOrder(t *testing.T) {
	body := `{"processes":[
{"pid":1,"service":"go","state":"running","reason":"denied by path rule: /usr/local/go/bin/go"},
{"pid":2,"service":"billing","state":"running","reason":"no endpoint: it listens on no TCP port"},
{"pid":3,"service":"old","gatherer":"agent","state":"exited"},
{"pid":4,"service":"cart","gatherer":"agent","state":"running"},
{"pid":5,"service":"api","gatherer":"scrape","state":"running"}],"summary":""}`
	got := map[string]url.Values{}
	h := collecting(map[string]string{"/api/v1/processes": body}, got)
	r := sonde(t, h, "", "ps")
	var order []string
	for _, line := range strings.Split(strings.TrimSpace(r.stdout), "\n")[1:] {
		order = append(order, strings.Fields(line)[1])
	}
	if want := "api cart billing go old"; strings.Join(order, " ") != want {
		t.Errorf("order %v, want %s", order, want)
	}
	if s := got["/api/v1/processes"].Get("state"); s != "running" {
		t.Errorf("state = %q, want running", s)
	}
	sonde(t, h, "", "ps", "--all", "--since", "2d")
	if q := got["/api/v1/processes"]; q.Get("state") != "all" || q.Get("since") != unixMs(now.Add(-48*time.Hour).UnixMilli()) {
		t.Errorf("--all --since 2d asks for %v", q)
	}
	r = sonde(t, collecting(map[string]string{"/api/v1/processes": `{"processes":[],"summary":"s"}`}, nil), "", "ps", "-s", "nosuch")
	if r.stdout != "" || !strings.Contains(r.stderr, `knows no process of service "nosuch" that runs; --all`) {
		t.Errorf("ps of nothing: %+v", r)
	}
}

// TestSort: by what is called too, the row that the collector has far down comes first.
func TestSort(t *testing.T) {
	time.Local = time.UTC
	var q url.Values
	body := strings.Replace(topJSON, `{"function":"runtime.mallocgc","file":"","kind":"runtime","self":1000000000,"total":1000000000}`,
		`{"function":"main.main","self":0,"total":4100000000}`, 1)
	r := sonde(t, answers("/api/v1/top", body, &q), "", "top", "--sort", "total", "-n", "1")
	if lines := strings.Split(r.stdout, "\n"); len(lines) != 4 || !strings.HasSuffix(lines[2], "main.main") || q.Get("limit") != "10000" {
		t.Errorf("limit %s,\n%s", q.Get("limit"), r.stdout)
	}
	for by, want := range map[string]string{"total": "main.same", "self": "main.slow"} {
		body := strings.Replace(diffJSON, `"self":1000,"total":1000`, `"self":500,"total":2900`, 1)
		r := sonde(t, answers("/api/v1/diff", body, nil), "", "diff", "--sort", by)
		if lines := strings.Split(r.stdout, "\n"); !strings.HasSuffix(lines[2], want) {
			t.Errorf("by %s:\n%s", by, r.stdout)
		}
	}
}

// TestNarrowTerminal: lines fit the terminal; a pipe gets all of it.
func TestNarrowTerminal(t *testing.T) {
	long := "github.com/someone/something/internal/very/deep/package/tree.(*Thing).Method"
	srv := httptest.NewServer(answers("/api/v1/top", strings.Replace(topJSON, "main.work", long, 1), nil))
	defer srv.Close()
	for _, columns := range []int{0, 20, 60, 80, 200} {
		var out bytes.Buffer
		a := newApp(nil, &out, io.Discard)
		a.columns = columns
		if err := a.run(t.Context(), []string{"top", "--server", srv.URL}); err != nil {
			t.Fatal(err)
		}
		row := strings.Split(out.String(), "\n")[2]
		if wide := utf8.RuneCountInString(row); columns >= 60 && wide > columns {
			t.Errorf("%d columns: a row of %d: %s", columns, wide, row)
		}
		if !strings.HasSuffix(row, "Method") || (columns < 60 || columns == 200) != strings.HasSuffix(row, long) {
			t.Errorf("%d columns: %s", columns, row)
		}
	}
}

func TestVersionFlag(t *testing.T) {
	if got, want := sonde(t, nil, "", "--version"), sonde(t, nil, "", "version"); got.stdout != want.stdout || got.code != 0 {
		t.Errorf("--version = %+v, version = %+v", got, want)
	}
}
