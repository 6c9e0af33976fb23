package receive

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// record is one of a batch, as its sections.
type record struct {
	meta, process []byte
	parts         [][]byte
}

// of makes a record of w, whose process object, if there is one, becomes a section of its own.
func (w *window) record(t testing.TB) record {
	t.Helper()
	var r record
	if p, ok := w.meta["process"].(json.RawMessage); ok {
		r.process = p
		delete(w.meta, "process")
	}
	var err error
	if r.meta, err = json.Marshal(w.meta); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.parts {
		r.parts = append(r.parts, p.data)
	}
	return r
}

func encode(records ...record) []byte {
	out := []byte(wire.Magic)
	for _, r := range records {
		var parts []byte
		for _, p := range r.parts {
			parts = wire.AppendSection(parts, p)
		}
		out = append(append(out, wire.RecordHead(r.meta, r.process, len(parts))...), parts...)
	}
	return out
}

func doBatch(t testing.TB, h http.Handler, body []byte) (int, wire.BatchAnswer) {
	t.Helper()
	r := httptest.NewRequest("POST", "/api/v1/batch", bytes.NewReader(body))
	r.Header.Set("Content-Type", wire.ContentType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var a wire.BatchAnswer
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("answer %q: %v", w.Body, err)
		}
	} else {
		a.Error = w.Body.Bytes()
	}
	return w.Code, a
}

// statuses returns what became of each record: its status and what it was answered.
func statuses(a wire.BatchAnswer) (out []string) {
	for _, r := range a.Results {
		s := r.Status
		if r.Code != 0 {
			s += fmt.Sprint(" ", r.Code)
		}
		if r.Retry {
			s += " retry"
		}
		out = append(out, s)
	}
	return out
}

func TestBatch(t *testing.T) {
	m := new(memory)
	on := false
	h, mux, reg := newTest(t, m, func(c *Config) {
		c.Settings = func(process labels.Labels) *Settings {
			return &Settings{Rev: process.Get("service_name"), Enabled: &on}
		}
	})
	broken := newWindow(t, 5, false).record(t)
	broken.parts[0] = []byte("no profile")
	cut := newWindow(t, 6, false).record(t)
	cut.parts = nil
	long := newWindow(t, 6, false).record(t)
	long.parts = append(long.parts, []byte("more"))
	stranger := newWindow(t, 1, false)
	stranger.meta["instance"] = strings.Repeat("f", 32)
	script := newWindow(t, 1, true)
	script.meta["instance"], script.meta["window"], script.meta["idempotency"] = "", 0, "once"
	body := encode(
		newWindow(t, 1, false).record(t), // before its process object
		newWindow(t, 2, true).record(t),
		newWindow(t, 3, false).record(t),
		newWindow(t, 2, true).record(t),
		broken,
		stranger.record(t),
		cut, long,
		script.record(t),
		newWindow(t, 4, false).record(t),
	)
	code, a := doBatch(t, mux, body)
	want := []string{"unknown 428", "ok", "ok", "duplicate", "refused 422", "unknown 428", "refused 400", "refused 422", "ok", "ok"}
	if code != 200 || !slices.Equal(statuses(a), want) || a.Error != nil {
		t.Fatalf("%d %s %v, want %v", code, a.Error, statuses(a), want)
	}
	if got := string(a.Settings[testInstance]); len(a.Settings) != 1 || got != `{"rev":"cart","enabled":false}` {
		t.Errorf("settings %s", a.Settings)
	}
	if !strings.Contains(string(a.Results[4].Error), `profile \"cpu\"`) {
		t.Errorf("the error of a broken profile: %s", a.Results[4].Error)
	}
	var windows []uint64
	for _, s := range m.got {
		if s.key.Instance == testInstance {
			windows = append(windows, s.key.Window)
		}
		if s.process.LabelsHash == "" && s.key.Idempotency == "" {
			t.Errorf("window %d: until the batch's process object is stored, each push says all of it: %+v", s.key.Window, s.process)
		}
	}
	if len(windows) != 3 || !slices.Contains(windows, 2) || !slices.Contains(windows, 3) || !slices.Contains(windows, 4) {
		t.Errorf("windows %v are stored", windows)
	}
	// The same once more: all that was stored is a duplicate, and what was unknown is known.
	_, a = doBatch(t, mux, body)
	if got := statuses(a); !slices.Equal(got, []string{"ok", "duplicate", "duplicate", "duplicate", "refused 422", "unknown 428", "refused 400", "refused 422", "duplicate", "duplicate"}) {
		t.Errorf("again: %v", got)
	}
	if got := testutil.ToFloat64(h.metrics.records.WithLabelValues("duplicate")); got != 6 {
		t.Errorf("%v duplicates counted, want 6", got)
	}
	if n, err := testutil.GatherAndCount(reg, "sonde_push_batch_records_total"); err != nil || n != 4 {
		t.Errorf("%d statuses in the metrics, %v", n, err)
	}
}

// A record that has been on its way for a day says when its process was seen, not when it came.
func TestBatchOfYesterday(t *testing.T) {
	m := new(memory)
	_, mux, _ := newTest(t, m, nil)
	w := newWindow(t, 1, true)
	start := testNow.Add(-24 * time.Hour).UnixMilli()
	w.meta["start"], w.meta["end"] = start, start+15000
	if _, a := doBatch(t, mux, encode(w.record(t))); !slices.Equal(statuses(a), []string{"ok"}) {
		t.Fatal(statuses(a))
	}
	if p := m.got[0].process; p.LastSeen != start+15000 || p.FirstSeen != start+15000 {
		t.Errorf("seen from %d to %d, want %d", p.FirstSeen, p.LastSeen, start+15000)
	}
}

func TestBatchThatCannotBeRead(t *testing.T) {
	good := encode(newWindow(t, 1, true).record(t))
	many := make([]record, maxBatchRecords+2)
	for i := range many {
		many[i] = record{meta: []byte("{")}
	}
	for _, tt := range []struct {
		name    string
		body    []byte
		code    int
		results []string
		error   string
	}{
		{"nothing", nil, 400, nil, "ends too early"},
		{"no batch", []byte("POST / HTTP/1.1"), 400, nil, "not a batch"},
		{"no records", []byte(wire.Magic), 200, nil, ""},
		{"cut in the second record", append(bytes.Clone(good), good[len(wire.Magic):len(good)-3]...), 200, []string{"ok"}, "ends too early"},
		{"cut in the first", good[:len(good)-1], 400, nil, "ends too early"},
		{"a length of 4 GiB", append(bytes.Clone(good), 0xff, 0xff, 0xff, 0xff), 200, []string{"ok", "refused 413"}, "ends too early"},
		{"an empty record", binary.LittleEndian.AppendUint32([]byte(wire.Magic), 0), 200, []string{"refused 400"}, ""},
		{"a large meta", encode(record{meta: bytes.Repeat([]byte(" "), maxMetaBytes+1)}), 200, []string{"refused 413"}, ""},
		{"no JSON", encode(record{meta: []byte("{")}), 200, []string{"refused 400"}, ""},
		{"too many", encode(many...), 200, slices.Repeat([]string{"refused 400"}, maxBatchRecords), "max_batch_records"},
		{"too large", append([]byte(wire.Magic), make([]byte, batchFactor*testLimits.BodyBytes)...), 413, nil, "max_body_bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, mux, _ := newTest(t, new(memory), nil)
			code, a := doBatch(t, mux, tt.body)
			if code != tt.code || !slices.Equal(statuses(a), tt.results) || !strings.Contains(string(a.Error), tt.error) || tt.error == "" && a.Error != nil {
				t.Errorf("%d %v %s", code, statuses(a), a.Error)
			}
		})
	}
}

// What a retry may cure is told from what it does not.
func TestBatchRetry(t *testing.T) {
	m := &memory{err: &store.LimitError{Limit: "max_series_per_service", Max: 1, Got: 2}}
	_, mux, _ := newTest(t, m, nil)
	body := encode(newWindow(t, 1, true).record(t))
	if _, a := doBatch(t, mux, body); !slices.Equal(statuses(a), []string{"refused 429 retry"}) || a.Results[0].RetryAfter != 60 {
		t.Errorf("%+v", a)
	}
	m.err = fmt.Errorf("disk: %w", io.ErrClosedPipe)
	if _, a := doBatch(t, mux, body); !slices.Equal(statuses(a), []string{"refused 503 retry"}) {
		t.Errorf("%+v", a)
	}
	m.err = store.ErrInvalid
	if _, a := doBatch(t, mux, body); !slices.Equal(statuses(a), []string{"refused 422"}) {
		t.Errorf("%+v", a)
	}
}

// slow is a Sink that takes pushes over at once and stores them when it is told to.
type slow struct {
	*memory
	store chan struct{}
	taken chan uint64
}

func (s slow) Append(ctx context.Context, p store.Push) error {
	if err := s.memory.Append(ctx, p); err != nil {
		return err
	}
	s.taken <- p.Key.Window
	p.Taken()
	<-s.store
	return nil
}

// All records of a batch wait for their segments together, in the order in which they came, and hold no memory meanwhile.
func TestBatchWaitsOnce(t *testing.T) {
	s := slow{memory: new(memory), store: make(chan struct{}), taken: make(chan uint64, 100)}
	h, mux, _ := newTest(t, s.memory, func(c *Config) { c.Sink = s })
	start := testNow.Add(-time.Hour).UnixMilli()
	var records []record
	for i := 1; i <= 100; i++ {
		w := newWindow(t, i, i == 1)
		w.meta["start"], w.meta["end"] = start, start+15000
		w.meta["profiles"] = []map[string]any{{"part": "cpu", "type": "cpu", "start": start, "end": start + 15000}}
		records = append(records, w.record(t))
	}
	var done sync.WaitGroup
	done.Go(func() {
		if _, a := doBatch(t, mux, encode(records...)); len(a.Results) != 100 || slices.ContainsFunc(a.Results, func(r wire.Result) bool { return r.Status != "ok" }) {
			t.Errorf("%v", statuses(a))
		}
	})
	for i := range 100 {
		if got := <-s.taken; got != uint64(i+1) {
			t.Errorf("window %d was taken as the %dth", got, i+1)
		}
	}
	if left := h.budget.left.Load(); left < h.inflight()-2<<20 {
		t.Errorf("a batch that waits holds %d bytes", h.inflight()-left)
	}
	close(s.store)
	done.Wait()
}

func TestWeightEventsSeenAndKey(t *testing.T) {
	m := new(memory)
	var values []int64
	var events []catalog.Event
	var key catalog.Key
	var seen []catalog.Process
	_, mux, _ := newTest(t, m, func(c *Config) {
		c.Sink = watched{m, func(p store.Push) {
			values, events, key = slices.Clone(p.Profiles[0].Data.Values[:2]), p.Events, p.Key
			if l := p.Profiles[0].Labels; l.Get("zone") != "a" || l.Get("service_instance_id") != "other" {
				t.Errorf("the profile's own labels are %v", l)
			}
			if p.Process.Gatherer != "perf" || p.Process.State != "profiling" || p.Process.Reason != "" {
				t.Errorf("process %+v", p.Process)
			}
		}}
		c.Seen = func(_ context.Context, ps []catalog.Process) error {
			seen = ps
			return nil
		}
	})
	w := newWindow(t, 1, false)
	process := json.RawMessage(`{"labels":{"service_name":"cart"},"build":"b1","gatherer":"perf","state":"profiling"}`)
	w.meta["process"], w.meta["process_hash"] = process, wire.ProcessHash(process)
	w.meta["key"] = "perf/0011223344556677/" + testInstance
	entry := w.meta["profiles"].([]map[string]any)[0]
	entry["weight"] = 400
	entry["labels"] = map[string]string{"service_name": "cart", "zone": "a", "service_instance_id": "other"}
	w.meta["events"] = []map[string]any{{"time": testNow.UnixMilli(), "kind": "oom_kill", "service": "cart", "text": "killed", "attrs": map[string]string{"instance": testInstance}}}
	w.meta["seen"] = []map[string]any{{"instance": "i2", "labels": map[string]string{"service_name": "nats"}, "state": "running", "reason": "needs root", "last_seen": 5}}
	if rec, a := do(t, mux, w.request(t)); rec.Code != 200 {
		t.Fatalf("%d %+v", rec.Code, a)
	}
	if !slices.Equal(values, []int64{400, 4_000_000_000}) {
		t.Errorf("values %v, want those of the profile times 400", values)
	}
	if len(events) != 1 || events[0].Kind != "oom_kill" || events[0].Attrs["instance"] != testInstance {
		t.Errorf("events %+v", events)
	}
	if key.Instance != w.meta["key"] || key.Window != 1 {
		t.Errorf("key %+v", key)
	}
	if len(seen) != 1 || seen[0].Instance != "i2" || seen[0].Reason != "needs root" || seen[0].Gatherer != "" || seen[0].LastSeen != 5 || seen[0].Service != "nats" {
		t.Errorf("seen %+v", seen)
	}
	for name, tt := range map[string]struct {
		change func(*window)
		limit  string
	}{
		"weight":          {func(w *window) { w.meta["profiles"].([]map[string]any)[0]["weight"] = maxWeight + 1 }, "max_weight"},
		"negative weight": {func(w *window) { w.meta["profiles"].([]map[string]any)[0]["weight"] = -1 }, "max_weight"},
		"events":          {func(w *window) { w.meta["events"] = make([]struct{}, maxEvents+1) }, "max_events"},
		"event":           {func(w *window) { w.meta["events"] = make([]struct{}, 1) }, ""},
		"seen":            {func(w *window) { w.meta["seen"] = make([]struct{}, maxSeen+1) }, "max_seen"},
		"nobody seen":     {func(w *window) { w.meta["seen"] = make([]struct{}, 1) }, ""},
		"key":             {func(w *window) { w.meta["key"] = strings.Repeat("k", maxKeyBytes+1) }, ""},
		"idempotency":     {func(w *window) { w.meta["idempotency"] = "x" }, ""},
		"too heavy": {func(w *window) {
			w.meta["profiles"].([]map[string]any)[0]["weight"] = maxWeight
			p := cpuProfile(1)
			p.Sample[0].Value[1] = 1 << 60
			w.parts[0].data = gz(t, p)
		}, "max_value"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWindow(t, 2, true)
			tt.change(w)
			if rec, a := do(t, mux, w.request(t)); rec.Code != 422 || a.Limit != tt.limit {
				t.Errorf("%d %+v", rec.Code, a)
			}
		})
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(encode(newWindow(f, 1, true).record(f), newWindow(f, 2, false).record(f)))
	f.Add([]byte(wire.Magic))
	f.Add(encode(record{meta: []byte(`{"v":1,"key":"k","window":1,"start":1795241470000,"end":1795241480000,"profiles":[],"seen":[{"instance":"a","labels":{"service_name":"b"}}]}`)}))
	h, mux, _ := newTest(f, new(memory), func(c *Config) {
		c.Limits.DecompressedBytes, c.Limits.BodyBytes = 1<<20, 1<<20
		c.Seen = func(context.Context, []catalog.Process) error { return nil }
	})
	full := h.budget.left.Load()
	f.Fuzz(func(t *testing.T, body []byte) {
		code, a := doBatch(t, mux, body)
		if code == 500 || slices.ContainsFunc(a.Results, func(r wire.Result) bool { return r.Code == 500 || r.Status == "" }) {
			t.Fatalf("%d %+v", code, a)
		}
		if h.budget.left.Load() != full {
			t.Fatal("the budget leaks")
		}
	})
}
