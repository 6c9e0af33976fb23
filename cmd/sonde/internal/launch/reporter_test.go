package launch

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// intake is a collector as far as a Reporter knows it.
type intake struct {
	mu     sync.Mutex
	cycles map[float64]bool
	chunks map[string]bool // a batch that was cut comes again
	lines  int
	last   map[string]float64 // by series
	labels map[string]string  // of the last series
	seen   []wire.Seen
	events map[string]wire.Event // by key
	busy   int                   // answers of 503 before it takes anything
	err    error
}

func (in *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.busy > 0 {
		in.busy--
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	var answer wire.BatchAnswer
	records := wire.NewReader(r.Body)
	for {
		if _, err := records.Next(); err == io.EOF {
			break
		} else if err != nil { // the sender has ended
			return
		}
		if err := in.record(records); err != nil && r.Context().Err() == nil {
			in.err = err
		}
		answer.Results = append(answer.Results, wire.Result{Status: wire.StatusOK})
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (in *intake) record(r *wire.Reader) error {
	section := func() []byte {
		if _, err := r.Section(); err != nil {
			return nil
		}
		b, _ := io.ReadAll(r)
		return b
	}
	var m wire.Meta
	if err := json.Unmarshal(section(), &m); err != nil {
		return err
	}
	_ = section() // the process
	in.seen = append(in.seen, m.Seen...)
	for _, e := range m.Events {
		if in.events == nil {
			in.events = map[string]wire.Event{}
		}
		in.events[m.Idempotency] = e
	}
	for _, p := range m.Parts() {
		z, err := gzip.NewReader(bytes.NewReader(section()))
		if err != nil {
			return err
		}
		text, err := io.ReadAll(z)
		if err != nil {
			return err
		}
		if p.Kind == wire.PartLines {
			if n := bytes.Count(text, []byte("\n")); n != m.Lines[0].Count || m.Lines[0].Labels["service_name"] == "" {
				return fmt.Errorf("%d lines of %v, meta says %d", n, m.Lines[0].Labels, m.Lines[0].Count)
			}
			key := fmt.Sprint(m.Lines[0].From, m.Lines[0].To, m.Lines[0].Count)
			if !in.chunks[key] {
				in.lines += m.Lines[0].Count
			}
			in.chunks[key] = true
			continue
		}
		b, err := series.Decode(text, series.Limits{Samples: wire.MaxMetricSamples})
		if err != nil || len(text) > wire.MaxMetricsBytes {
			return fmt.Errorf("%d bytes of metrics: %w", len(text), err)
		}
		for _, s := range b.Samples {
			name := s.Labels.Get("__name__")
			if name == "gctrace_cycle" {
				in.cycles[s.V] = true
			}
			in.last[name+s.Labels.Get("kind")] = s.V
			in.labels = s.Labels.Map()
		}
	}
	return nil
}

func gcLine(n int) ([]byte, *godebug.Line) {
	text := fmt.Appendf(nil, "gc %d @%d.%03ds 1%%: 0.009+6.5+0.19 ms clock, 0.019+0.43/0.059/6.2+0.39 ms cpu, 3->4->3 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P\n", n, n/100, n%100)
	l, ok := godebug.Parse(text)
	if !ok {
		panic(string(text))
	}
	return text, &l
}

// TestReporter: every line arrives once, whatever the collector answers meanwhile.
func TestReporter(t *testing.T) {
	in := &intake{last: map[string]float64{}, cycles: map[float64]bool{}, chunks: map[string]bool{}, busy: 2}
	server := httptest.NewServer(in)
	defer server.Close()
	asked := 0
	r := NewReporter(ReporterConfig{Client: server.Client(), URL: server.URL, Every: 5 * time.Millisecond, Labels: labels.FromStrings("service_name", "wrong", "service_instance_id", "i1"),
		Lookup: func(context.Context) (labels.Labels, bool) {
			asked++
			return labels.FromStrings("service_name", "cart", "service_instance_id", "i1"), asked > 2
		}, Seen: &wire.Seen{Instance: "i1", Process: wire.Process{Labels: map[string]string{"service_name": "cart"}, State: "running"}}}, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	const n = 20_000 // more samples than one record may have
	for i := 1; i <= n; i++ {
		text, l := gcLine(i)
		r.Line(text, l, time.Now())
	}
	cancel()
	<-done
	var err error
	for range 5 { // a busy collector is asked again, as Run would
		if err = r.Close(t.Context(), &Ended{Code: 3, Torn: 7}); err == nil {
			break
		}
	}
	if err != nil || in.err != nil {
		t.Fatal(err, in.err)
	}
	dropped := int(in.last["sonde_godebug_dropped_lines_total"])
	if in.lines+dropped < n || in.lines > n || len(in.cycles) < in.lines || len(in.cycles) > n {
		t.Errorf("%d lines and %d cycles arrived, %d were dropped; want %d", in.lines, len(in.cycles), dropped, n)
	}
	if in.last["sonde_godebug_torn_lines_total"] != 7 || in.last["sonde_godebug_lines_totalgc"] != n || in.labels["service_name"] != "cart" || in.labels["instance"] != "i1" {
		t.Errorf("%v of %v", in.last, in.labels)
	}
	if len(in.seen) < 2 || in.seen[0].State != "running" || in.seen[len(in.seen)-1].State != "exited" || in.seen[len(in.seen)-1].Reason != "exit status 3" {
		t.Errorf("seen %+v", in.seen)
	}
}

// TestReporterNeverBlocks: a collector that takes a connection and says nothing makes nobody wait, and memory stays bounded.
func TestReporterNeverBlocks(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	r := NewReporter(ReporterConfig{Client: http.DefaultClient, URL: "http://" + dead.Addr().String(), Every: time.Millisecond, Labels: labels.FromStrings("service_name", "cart")}, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	for i := 1; i <= 50_000; i++ { // a hundred times what a busy program prints in a minute
		text, l := gcLine(i)
		r.Line(text, l, time.Now())
	}
	cancel()
	<-done
	r.mu.Lock()
	waiting, dropped, queued := len(r.waiting), r.dropped, r.queued
	r.mu.Unlock()
	if waiting > 16 || queued > maxQueued || dropped == 0 {
		t.Errorf("%d waiting, %d bytes queued, %d lines dropped", waiting, queued, dropped)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Close(short, &Ended{}); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("closed with %v", err)
	}
}

// TestReporterTellsOfTheEnd: when and how is known to who waited for the program, and is told once.
func TestReporterTellsOfTheEnd(t *testing.T) {
	began := time.UnixMilli(1_700_000_000_000)
	for _, tt := range []struct {
		name  string
		end   Ended
		text  string
		attrs map[string]string
	}{
		{"code", Ended{Code: 3, At: began.Add(10_012 * time.Millisecond)}, "cart ended after 10s, exit status 3", map[string]string{"exit_code": "3", "ran_ms": "10012"}},
		{"well", Ended{At: began.Add(42 * time.Millisecond)}, "cart ended after 42ms, exit status 0", map[string]string{"exit_code": "0", "ran_ms": "42"}},
		{"signal", Ended{Signal: 9, At: began.Add(3960 * time.Millisecond)}, "cart was killed by " + signalName(9) + " after 4s", map[string]string{"signal": signalName(9), "ran_ms": "3960"}},
		{"long", Ended{At: began.Add(time.Hour + 400*time.Millisecond)}, "cart ended after 1h0m0s, exit status 0", map[string]string{"exit_code": "0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &intake{last: map[string]float64{}, cycles: map[float64]bool{}, chunks: map[string]bool{}, busy: 1}
			server := httptest.NewServer(in)
			defer server.Close()
			r := NewReporter(ReporterConfig{Client: server.Client(), URL: server.URL, Labels: labels.FromStrings("service_name", "cart", "service_instance_id", "i1", "process_pid", "7"), Build: "b1"}, began)
			for _, busy := range []bool{true, false, false} { // it is asked again where the collector was busy
				if err := r.Close(t.Context(), &tt.end); (err != nil) != busy {
					t.Fatal(err)
				}
			}
			if len(in.events) != 1 {
				t.Fatalf("events %v", in.events)
			}
			e := in.events["run:i1:end"]
			if e.Kind != "exit" || e.Service != "cart" || e.Text != tt.text || e.Time != tt.end.At.UnixMilli() || e.Attrs["instance"] != "i1" || e.Attrs["build"] != "b1" || e.Attrs["pid"] != "7" {
				t.Errorf("%+v", e)
			}
			for name, want := range tt.attrs {
				if e.Attrs[name] != want {
					t.Errorf("%s is %q, want %q", name, e.Attrs[name], want)
				}
			}
		})
	}
}

// TestReporterRefused: what the collector refuses for good, a batch or one of its records, is counted as dropped; what it did not come to is sent again.
func TestReporterRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer string // to the first batch
		status int
		lost   int // lines, of the 2 * each
	}{
		{"batch", `{"error":{"code":"bad"}}`, http.StatusForbidden, 2 * each},
		{"record", `{"results":[{"status":"ok"},{"status":"refused","code":400,"error":{"code":"bad"}}]}`, http.StatusOK, each},
		{"end of reading", `{"results":[{"status":"refused","code":400}],"error":{"code":"too_long"}}`, http.StatusOK, each},
		{"nothing read", `{"results":[],"error":{"code":"too_long"}}`, http.StatusOK, 0},
		{"later", `{"results":[{"status":"ok"},{"status":"refused","code":503,"retry":true}]}`, http.StatusOK, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := &intake{last: map[string]float64{}, cycles: map[float64]bool{}, chunks: map[string]bool{}}
			first := true
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !first {
					in.ServeHTTP(w, r)
					return
				}
				first = false
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.answer)
			}))
			defer server.Close()
			r := NewReporter(ReporterConfig{Client: server.Client(), URL: server.URL, Labels: labels.FromStrings("service_name", "cart")}, time.Now())
			for i := 1; i <= 2*each; i++ {
				text, l := gcLine(i)
				r.Line(text, l, time.Now())
				if i == each {
					r.pack(time.Now(), false) // a record of its own
				}
			}
			for range 2 { // once more where it is to be sent again, as Run would
				if err := r.Close(t.Context(), &Ended{}); err == nil {
					break
				} else if tc.lost > 0 {
					t.Fatal(err)
				}
			}
			if got := in.last["sonde_godebug_dropped_lines_total"]; in.err != nil || got != float64(tc.lost) || r.dropped != tc.lost || r.queued != 0 {
				t.Errorf("%v lines told as dropped and %d counted, want %d; %d bytes queued, %v", got, r.dropped, tc.lost, r.queued, in.err)
			}
		})
	}
}

// each is how many lines go into one record.
const each = 10
