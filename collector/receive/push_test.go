package receive

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles/store"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "agent", "testdata", "push", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const goldenBoundary = "sonde-golden-boundary"

// The agent's golden bytes are the contract between the two modules.
func TestGoldenPushes(t *testing.T) {
	m := new(memory)
	h, mux, _ := newTest(t, m, nil)
	next := func() (*httptest.ResponseRecorder, answer) {
		return do(t, mux, pushRequest(bytes.NewReader(golden(t, "push-next.multipart")), goldenBoundary))
	}
	first := func() (*httptest.ResponseRecorder, answer) {
		return do(t, mux, pushRequest(bytes.NewReader(golden(t, "push-first.multipart")), goldenBoundary))
	}
	if w, a := next(); w.Code != http.StatusPreconditionRequired || !strings.Contains(a.Hint, "process object") {
		t.Errorf("a window of an unknown process: %d %+v, want 428", w.Code, a)
	}
	if w, a := first(); w.Code != 200 || a.Status != "ok" || a.Settings != nil || !strings.Contains(w.Body.String(), `"settings":null`) {
		t.Errorf("first window: %d %s", w.Code, w.Body)
	}
	if w, a := next(); w.Code != 200 || a.Status != "ok" {
		t.Errorf("next window: %d %+v", w.Code, a)
	}
	if w, a := next(); w.Code != 200 || a.Status != "duplicate" {
		t.Errorf("next window again: %d %+v, want a duplicate", w.Code, a)
	}
	h.known = processCache{} // a collector that started anew
	if w, a := first(); w.Code != 200 || a.Status != "duplicate" {
		t.Errorf("first window after a restart: %d %+v, want a duplicate", w.Code, a)
	}
	if w, a := next(); w.Code != 200 || a.Status != "duplicate" {
		t.Errorf("next window after a restart: %d %+v, want a duplicate", w.Code, a)
	}
	if len(m.got) != 2 {
		t.Fatalf("%d pushes stored, want 2", len(m.got))
	}
	got := m.got[0]
	if k := got.key; k.Instance != "9f86d081884c7d659a2feaa0c55ad015" || k.Window != 1 || k.Part != 0 {
		t.Errorf("key %+v", k)
	}
	if p := got.process; p.Service != "cart" || p.Version != "v1.2.0" || p.PID != 4711 || p.PIDNS != 4026531836 || p.StartTicks != 1234567 ||
		p.Host != "n1" || p.BuildID != "6f1c3a" || p.Gatherer != "agent" || p.LabelsHash != "581682de9d26f68b" || len(p.NSPIDs) != 1 {
		t.Errorf("process %+v", p)
	}
	if b := got.build; b == nil || b.Module != "example.com/cart" || b.Version != "v1.2.0" || b.GoBuildID != "a/b/c/d" {
		t.Errorf("build %+v", b)
	}
	wantLabels := `{host_name="n1", process_pid="4711", service_instance_id="9f86d081884c7d659a2feaa0c55ad015", service_name="cart", service_version="v1.2.0"}`
	for _, s := range m.got {
		if len(s.profiles) != 2 {
			t.Fatalf("%d profiles", len(s.profiles))
		}
		for i, typ := range []string{"cpu", "heap"} {
			if p := s.profiles[i]; p.typ != typ || p.labels != wantLabels || p.samples == 0 || p.end-p.start != 15000 {
				t.Errorf("profile %+v", p)
			}
		}
	}
}

func TestPushRefuses(t *testing.T) {
	cpu := gz(t, cpuProfile(5))
	disagree := raw(t, cpuProfile(5))
	// A third sample type for which no sample has a value: field 1, an empty message.
	disagree = append([]byte{0x0a, 0x00}, disagree...)
	many := map[string]string{"service_name": "cart"}
	for i := range 10_000 {
		many["label_"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/26%90)+strings.Repeat("z", i/2340)] = "v"
	}
	for _, tt := range []struct {
		name   string
		change func(*window)
		status int
		want   string // in the error
		limit  string
	}{
		{"version", func(w *window) { w.meta["v"] = 2 }, 422, "version 2", ""},
		{"instance", func(w *window) { w.meta["instance"] = "cart-1" }, 422, `"cart-1" is not 32 hex digits`, ""},
		{"window 0", func(w *window) { w.meta["window"] = 0 }, 422, "window 0", ""},
		{"hash", func(w *window) { w.meta["process_hash"] = "0123456789abcdef" }, 422, "is not that of the process object", ""},
		{"end before start", func(w *window) { w.meta["end"] = w.meta["start"] }, 422, "is not after start", ""},
		{"seconds", func(w *window) { w.meta["start"] = testNow.Unix() }, 422, "longer than 24h", ""},
		{"future", func(w *window) { w.meta["end"] = testNow.UnixMilli() + 700_000 }, 422, "in the future", ""},
		{"old", func(w *window) {
			w.meta["start"], w.meta["end"] = testNow.UnixMilli()-8*86400_000, testNow.UnixMilli()-8*86400_000+15000
		}, 422, "older than the retention", ""},
		{"profile's interval", func(w *window) { w.meta["profiles"].([]map[string]any)[0]["end"] = 5 }, 422, `profile "cpu"`, ""},
		{"type", func(w *window) { w.meta["profiles"].([]map[string]any)[0]["type"] = "c p u" }, 422, "cannot name a type", ""},
		{"listed twice", func(w *window) {
			ps := w.meta["profiles"].([]map[string]any)
			w.meta["profiles"] = append(ps, ps[0])
		}, 422, "listed twice", ""},
		{"too many profiles", func(w *window) { w.meta["profiles"] = make([]map[string]any, 65) }, 422, "too many profiles", "max_profiles"},
		{"missing part", func(w *window) { w.parts = nil }, 422, "lists 1 parts, 0 came", ""},
		{"unlisted part", func(w *window) { w.part("heap", cpu) }, 422, `"heap" is not listed`, ""},
		{"part twice", func(w *window) { w.part("cpu", cpu) }, 422, "came twice", ""},
		{"meta not first", func(w *window) { w.meta["process"] = "x" }, 422, "process_hash", ""},
		{"no service", func(w *window) { w.labels(t, map[string]string{"host_name": "n1"}) }, 422, "no service_name", ""},
		{"10,000 labels", func(w *window) { w.labels(t, many) }, 422, "too many labels", "max_labels"},
		{"label name", func(w *window) { w.labels(t, map[string]string{"service_name": "a", "service.x": "b"}) }, 422, `"service.x"`, ""},
		{"reserved label", func(w *window) { w.labels(t, map[string]string{"service_name": "a", "__x": "b"}) }, 422, `"__x"`, ""},
		{"long name", func(w *window) {
			w.labels(t, map[string]string{"service_name": "a", strings.Repeat("n", 129): "b"})
		}, 422, "too long", "max_label_name_bytes"},
		{"long value", func(w *window) {
			w.labels(t, map[string]string{"service_name": "a", "x": strings.Repeat("n", 1025)})
		}, 422, "too long", "max_label_value_bytes"},
		{"truncated gzip", func(w *window) { w.parts[0].data = cpu[:len(cpu)/2] }, 400, "truncated", ""},
		{"broken gzip", func(w *window) {
			w.parts[0].data = append(bytes.Clone(cpu[:len(cpu)-8]), 0, 0, 0, 0, 0, 0, 0, 0)
		}, 400, "gzip", ""},
		{"not a profile", func(w *window) { w.parts[0].data = []byte("hello, world") }, 422, "decode profile", ""},
		{"empty profile", func(w *window) { w.parts[0].data = nil }, 422, "no data", ""},
		{"values disagree with types", func(w *window) { w.parts[0].data = disagree }, 422, "2 values", ""},
		{"too many samples", func(w *window) { w.parts[0].data = gz(t, cpuProfile(1001)) }, 422, "samples", "max_samples"},
		{"too many bytes", func(w *window) { w.parts[0].data = gz(t, bigProfile()) }, 413, "too many decompressed bytes", "max_decompressed_bytes"},
		{"body", func(w *window) { w.parts[0].data = make([]byte, 2<<20) }, 413, "too large", "max_body_bytes"},
		{"meta too large", func(w *window) { w.meta["x"] = strings.Repeat("x", 1<<20) }, 413, "meta", "max_meta_bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := new(memory)
			h, mux, reg := newTest(t, m, func(c *Config) {
				c.Limits.Samples, c.Limits.DecompressedBytes, c.Limits.BodyBytes = 1000, 1<<20, 3<<19
			})
			w := newWindow(t, 1, true)
			tt.change(w)
			rec, a := do(t, mux, w.request(t))
			if rec.Code != tt.status || !strings.Contains(a.Error, tt.want) || a.Limit != tt.limit {
				t.Errorf("answer %d %q limit %q, want %d with %q, limit %q", rec.Code, a.Error, a.Limit, tt.status, tt.want, tt.limit)
			}
			if tt.limit != "" && a.Max == 0 {
				t.Error("no max in the answer")
			}
			if len(m.got) != 0 {
				t.Error("something was stored")
			}
			if n := testutil.CollectAndCount(reg, "sonde_push_refused_total"); n != 1 {
				t.Errorf("%d refusals counted", n)
			}
			if left, all := h.budget.left.Load(), inflightFactor*h.cfg.Limits.DecompressedBytes; left != all {
				t.Errorf("%d of %d bytes of the budget came back", left, all)
			}
			if len(h.slots) != 0 {
				t.Error("a slot is still taken")
			}
		})
	}
}

func TestPushUnreadable(t *testing.T) {
	good := newWindow(t, 1, true).body(t)
	for _, tt := range []struct {
		name, contentType string
		body              []byte
		status            int
		want              string
	}{
		{"no content type", "", good, 415, "want multipart/form-data"},
		{"unknown content type", "application/json", good, 415, `"application/json"`},
		{"no boundary", "multipart/form-data", good, 400, "boundary"},
		{"wrong boundary", "multipart/form-data; boundary=zzz", good, 400, "multipart"},
		{"empty", "multipart/form-data; boundary=b", nil, 400, "too early"},
		{"cut in meta", "multipart/form-data; boundary=b", good[:100], 400, "read meta: ends too early"},
		{"cut in a profile", "multipart/form-data; boundary=b", good[:len(good)-40], 400, `profile "cpu": ends too early`},
		{"cut before the end", "multipart/form-data; boundary=b", good[:len(good)-4], 400, ""},
		{"meta is not JSON", "multipart/form-data; boundary=b", bytes.Replace(good, []byte(`{"end"`), []byte(`["end"`), 1), 400, "read meta"},
		{"first part is not meta", "multipart/form-data; boundary=b", bytes.Replace(good, []byte(`"meta"`), []byte(`"atem"`), 1), 400, `"atem"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := new(memory)
			_, mux, _ := newTest(t, m, nil)
			r := httptest.NewRequest("POST", "/api/v1/push", bytes.NewReader(tt.body))
			if tt.contentType != "" {
				r.Header.Set("Content-Type", tt.contentType)
			}
			rec, a := do(t, mux, r)
			if rec.Code != tt.status || !strings.Contains(a.Error, tt.want) {
				t.Errorf("answer %d %q, want %d with %q", rec.Code, a.Error, tt.status, tt.want)
			}
			if len(m.got) != 0 {
				t.Error("something was stored")
			}
		})
	}
}

func TestPushSettings(t *testing.T) {
	off := false
	m := new(memory)
	_, mux, _ := newTest(t, m, func(c *Config) {
		c.Settings = func(ls labels.Labels) *Settings {
			if ls.Get("service_version") == "v1" {
				return &Settings{Rev: "a1", Enabled: &off, PeriodMs: 60000}
			}
			return nil
		}
	})
	_, a := do(t, mux, newWindow(t, 1, true).request(t))
	if a.Settings == nil || a.Settings.Rev != "a1" || *a.Settings.Enabled || a.Settings.PeriodMs != 60000 {
		t.Errorf("settings %+v", a.Settings)
	}
	// A duplicate carries them too: the first answer may be the one that was lost.
	if _, a := do(t, mux, newWindow(t, 1, true).request(t)); a.Status != "duplicate" || a.Settings == nil {
		t.Errorf("duplicate %+v", a)
	}
}

func TestPushStoreErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
		retry  string
		limit  string
	}{
		{"series", &store.LimitError{Limit: "max_series_per_service", Max: 20000, Got: 20001, What: "service cart has 20000 series within 2 h"}, 429, "60", "max_series_per_service"},
		{"full disk", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, 503, "30", ""},
		{"what no retry cures", fmt.Errorf("append push: %w: sample type cpu is there twice", store.ErrInvalid), 422, "", ""},
		{"broken disk", errors.New("input/output error"), 503, "5", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &memory{err: tt.err}
			h, mux, _ := newTest(t, m, nil)
			rec, a := do(t, mux, newWindow(t, 1, true).request(t))
			if rec.Code != tt.status || rec.Header().Get("Retry-After") != tt.retry || a.Limit != tt.limit {
				t.Errorf("answer %d %v %+v", rec.Code, rec.Header(), a)
			}
			if strings.Contains(a.Error, "input/output") {
				t.Error("the cause is for the log")
			}
			// The process object came with a push that failed: it is not known.
			m.err = nil
			if rec, _ := do(t, mux, newWindow(t, 2, false).request(t)); rec.Code != http.StatusPreconditionRequired {
				t.Errorf("next window: %d, want 428", rec.Code)
			}
			if len(h.known.m) != 0 {
				t.Error("the process was remembered")
			}
		})
	}
}

// A process that changes its labels sends them anew; the old hash is no longer good.
func TestPushProcessChanges(t *testing.T) {
	m := new(memory)
	h, mux, _ := newTest(t, m, nil)
	push := func(w *window, want int) {
		t.Helper()
		if rec, a := do(t, mux, w.request(t)); rec.Code != want {
			t.Fatalf("%d %+v, want %d", rec.Code, a, want)
		}
	}
	push(newWindow(t, 1, true), 200)
	changed := newWindow(t, 2, false).labels(t, map[string]string{"service_name": "cart", "tier": "gold"})
	push(changed, 200)
	old := newWindow(t, 3, false)
	push(old, 428)
	again := newWindow(t, 3, false).labels(t, map[string]string{"service_name": "cart", "tier": "gold"})
	delete(again.meta, "process")
	push(again, 200)
	h.known = processCache{}
	again.meta["window"] = 4
	push(again, 200) // from the catalogue
	want := `{service_instance_id="` + testInstance + `", service_name="cart", tier="gold"}`
	if got := m.got[3].profiles[0].labels; got != want {
		t.Errorf("labels %s, want %s", got, want)
	}
}

func TestConcurrentPushes(t *testing.T) {
	m := new(memory)
	h, mux, _ := newTest(t, m, nil)
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	rec, a := do(t, mux, newWindow(t, 1, true).request(t))
	if rec.Code != 429 || rec.Header().Get("Retry-After") != "1" || a.Limit != "max_concurrent_pushes" || a.Max != 4 {
		t.Errorf("%d %v %+v", rec.Code, rec.Header(), a)
	}
	<-h.slots
	if rec, _ := do(t, mux, newWindow(t, 1, true).request(t)); rec.Code != 200 {
		t.Errorf("%d with a free slot", rec.Code)
	}
	h.budget.take(h.budget.left.Load())
	rec, a = do(t, mux, newWindow(t, 2, true).request(t))
	if rec.Code != 429 || rec.Header().Get("Retry-After") != "1" || a.Limit != "max_inflight_bytes" {
		t.Errorf("%d %v %+v", rec.Code, rec.Header(), a)
	}
}

func TestAgentLosses(t *testing.T) {
	m := new(memory)
	h, mux, _ := newTest(t, m, nil)
	for i, dropped := range []int{2, 5, 5} {
		w := newWindow(t, i+1, true)
		w.meta["stats"] = map[string]any{"windows_dropped": dropped}
		do(t, mux, w.request(t))
	}
	if got := testutil.ToFloat64(h.metrics.agent.WithLabelValues("windows_dropped")); got != 5 {
		t.Errorf("%v windows dropped, want 5", got)
	}
}
