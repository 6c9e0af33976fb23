package receive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// memory is a Sink and Processes that keeps what a store would, so that handlers can be tested without one.
type memory struct {
	mu    sync.Mutex
	err   error // returned by Append instead of storing
	seen  map[catalog.Key]bool
	procs map[string]catalog.Process
	got   []stored
	lost  bool // store, then fail: an answer that got lost
}

// stored is what is left of a push once its profiles' memory is gone.
type stored struct {
	key      catalog.Key
	process  catalog.Process
	build    *catalog.Build
	profiles []storedProfile
	events   []catalog.Event
}

type storedProfile struct {
	labels, typ string
	start, end  int64
	samples     int
}

func (m *memory) Append(_ context.Context, p store.Push) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if p.Key != (catalog.Key{}) && m.seen[p.Key] {
		return &catalog.DuplicateError{Keys: []int{0}}
	}
	if m.seen == nil {
		m.seen, m.procs = map[catalog.Key]bool{}, map[string]catalog.Process{}
	}
	m.seen[p.Key] = true
	s := stored{key: p.Key, build: p.Build, events: p.Events}
	if p.Process != nil {
		s.process = *p.Process
		if p.Process.LabelsHash != "" {
			m.procs[p.Process.Instance] = *p.Process
		}
	}
	for _, pr := range p.Profiles {
		s.profiles = append(s.profiles, storedProfile{pr.Labels.String(), pr.Type, pr.Start, pr.End, len(pr.Data.Samples)})
	}
	m.got = append(m.got, s)
	if m.lost {
		return fmt.Errorf("answer lost")
	}
	return nil
}

func (m *memory) Process(_ context.Context, instance string) (catalog.Process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.procs[instance]
	if !ok {
		return p, fmt.Errorf("process %s: %w", instance, catalog.ErrNotFound)
	}
	return p, nil
}

var testLimits = Limits{BodyBytes: 16 << 20, DecompressedBytes: 64 << 20, Samples: 500_000, Labels: 64, LabelNameBytes: 128, LabelValueBytes: 1024,
	Concurrent: 4, MaxAge: 7 * 24 * time.Hour}

// testNow lies just after the golden pushes.
var testNow = time.UnixMilli(1795241480000)

func newTest(t testing.TB, m *memory, change func(*Config)) (*Handler, http.Handler, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg := Config{Sink: m, Processes: m, Limits: testLimits, Registerer: reg, Now: func() time.Time { return testNow }}
	if change != nil {
		change(&cfg)
	}
	h := New(cfg)
	mux := http.NewServeMux()
	h.Register(mux)
	return h, mux, reg
}

// answer is the decoded body of any answer.
type answer struct {
	Status   string    `json:"status"`
	Error    string    `json:"error"`
	Limit    string    `json:"limit"`
	Max      int64     `json:"max"`
	Got      int64     `json:"got"`
	Hint     string    `json:"hint"`
	Settings *Settings `json:"settings"`
	Profiles int       `json:"profiles"`
	Samples  int       `json:"samples"`
}

func do(t testing.TB, h http.Handler, r *http.Request) (*httptest.ResponseRecorder, answer) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("answer %d is not JSON: %q", w.Code, w.Body)
	}
	return w, a
}

// window is a push that can be spoiled before it is written.
type window struct {
	meta  map[string]any
	parts []struct {
		name string
		data []byte
	}
	boundary string
}

const testInstance = "00112233445566778899aabbccddeeff"

func newWindow(t testing.TB, n int, withProcess bool) *window {
	t.Helper()
	start := testNow.Add(time.Duration(n-3) * 15 * time.Second).UnixMilli()
	process := json.RawMessage(`{"labels":{"service_name":"cart","service_version":"v1"},"go_version":"go1.26.8","go_build_id":"a/b","pid":7}`)
	sum := sha256.Sum256(process)
	w := &window{boundary: "b", meta: map[string]any{
		"v": 1, "instance": testInstance, "window": n, "part": 0, "start": start, "end": start + 15000, "process_hash": hex.EncodeToString(sum[:8]),
		"profiles": []map[string]any{{"part": "cpu", "type": "cpu", "start": start, "end": start + 15000}},
	}}
	if withProcess {
		w.meta["process"] = process
	}
	w.part("cpu", gz(t, cpuProfile(5)))
	return w
}

func (w *window) part(name string, data []byte) *window {
	w.parts = append(w.parts, struct {
		name string
		data []byte
	}{name, data})
	return w
}

// labels replaces the process object by one with these labels.
func (w *window) labels(t testing.TB, ls map[string]string) *window {
	t.Helper()
	b, err := json.Marshal(map[string]any{"labels": ls})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	w.meta["process"], w.meta["process_hash"] = json.RawMessage(b), hex.EncodeToString(sum[:8])
	return w
}

func (w *window) body(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	mw := multipart.NewWriter(&buf)
	if err := mw.SetBoundary(w.boundary); err != nil {
		t.Fatal(err)
	}
	meta, err := json.Marshal(w.meta)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append([]struct {
		name string
		data []byte
	}{{"meta", meta}}, w.parts...) {
		pw, err := mw.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="%s"`, p.name)}})
		if err != nil {
			t.Fatal(err)
		}
		pw.Write(p.data)
	}
	mw.Close()
	return buf.Bytes()
}

func (w *window) request(t testing.TB) *http.Request {
	return pushRequest(bytes.NewReader(w.body(t)), w.boundary)
}

func pushRequest(body io.Reader, boundary string) *http.Request {
	r := httptest.NewRequest("POST", "/api/v1/push", body)
	r.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	return r
}

func cpuProfile(samples int) *profile.Profile {
	fn := &profile.Function{ID: 1, Name: "main.work", Filename: "main.go"}
	loc := &profile.Location{ID: 1, Address: 1, Line: []profile.Line{{Function: fn, Line: 3}}}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 10_000_000,
		TimeNanos: testNow.Add(-time.Minute).UnixNano(), DurationNanos: int64(10 * time.Second),
		Function: []*profile.Function{fn}, Location: []*profile.Location{loc},
	}
	for i := range samples {
		p.Sample = append(p.Sample, &profile.Sample{Location: []*profile.Location{loc}, Value: []int64{1, 10_000_000}, NumLabel: map[string][]int64{"n": {int64(i)}}})
	}
	return p
}

func gz(t testing.TB, p *profile.Profile) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := p.Write(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func raw(t testing.TB, p *profile.Profile) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := p.WriteUncompressed(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
