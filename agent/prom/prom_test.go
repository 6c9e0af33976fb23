package prom_test

import (
	"compress/gzip"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sonde-io/sonde/agent"
	"github.com/sonde-io/sonde/agent/internal/promenc/promtest"
	"github.com/sonde-io/sonde/agent/prom"
)

// sink is a collector that accepts everything and keeps the metrics of the first window.
type sink struct {
	*httptest.Server
	mu      sync.Mutex
	metrics []byte
	windows int
}

func newSink(t *testing.T) *sink {
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		metrics, err := metricsOf(r)
		if err != nil {
			t.Errorf("read push: %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.windows++; s.metrics == nil {
			s.metrics = metrics
		}
		_, _ = io.WriteString(w, `{"status":"ok","settings":null}`)
	}))
	t.Cleanup(s.Close)
	return s
}

func metricsOf(r *http.Request) ([]byte, error) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	for mr := multipart.NewReader(r.Body, params["boundary"]); ; {
		p, err := mr.NextPart()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if p.FormName() != "metrics" {
			continue
		}
		gz, err := gzip.NewReader(p)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(gz)
	}
}

func start(url string) *agent.Agent {
	return agent.Start(agent.Config{Service: "cart", URL: url, Types: []agent.Type{agent.Goroutine}, Logger: slog.New(slog.DiscardHandler)})
}

func TestCollector(t *testing.T) {
	s := newSink(t)
	a := start(s.URL)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(prom.NewCollector(a))
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 12 { // no window was sent, nothing skipped
		t.Errorf("%d metrics (%v), want 12", n, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP sonde_agent_enabled Whether the agent profiles: 0 where it is disabled, paused, closed or turned off by the collector.
# TYPE sonde_agent_enabled gauge
sonde_agent_enabled 0
# HELP sonde_agent_windows_total Windows by what became of them: sent, dropped (the queue was full), failed (refused by the collector, or not encoded).
# TYPE sonde_agent_windows_total counter
sonde_agent_windows_total{outcome="dropped"} 0
sonde_agent_windows_total{outcome="failed"} 0
sonde_agent_windows_total{outcome="sent"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sonde_agent_enabled", "sonde_agent_windows_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "sonde_agent_last_sent_timestamp_seconds"); err != nil || n != 1 {
		t.Errorf("%d times of the newest window (%v), want 1", n, err)
	}
}

func TestCollectorOfNothing(t *testing.T) {
	for _, a := range []*agent.Agent{nil, agent.Start(agent.Config{Disabled: true})} {
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(prom.NewCollector(a))
		if n, err := testutil.GatherAndCount(reg); err != nil || n != 1 {
			t.Errorf("%d metrics (%v), want sonde_agent_enabled alone", n, err)
		}
	}
}

// TestNamesAreClientGolangs: what the agent sends of a program has the names that client_golang gives the same program, and lacks none that it could have.
func TestNamesAreClientGolangs(t *testing.T) {
	s := newSink(t)
	a := start(s.URL)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := promtest.Read(s.metrics)
	if err != nil || len(all) == 0 {
		t.Fatalf("%d series (%v)", len(all), err)
	}
	sent := map[string]bool{}
	for _, one := range all {
		sent[one.Labels["__name__"]] = len(one.Histograms) > 0
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range families {
		name := f.GetName()
		known[name] = true
		switch {
		case name == "go_gc_duration_seconds", name == "go_memstats_last_gc_time_seconds", strings.HasPrefix(name, "go_godebug_"), // of ReadGCStats; those that never counted
			name == "process_virtual_memory_max_bytes", strings.HasPrefix(name, "process_network_"): // a limit; the namespace's, not the process's
		default:
			histogram, ok := sent[name]
			if !ok {
				t.Errorf("client_golang has %s, the agent does not", name)
			}
			if theirs := f.GetType().String() == "HISTOGRAM"; ok && theirs != histogram {
				t.Errorf("%s is a histogram for one of both", name)
			}
		}
	}
	for name := range sent {
		if !known[name] && !strings.HasPrefix(name, "go_godebug_") {
			t.Errorf("the agent has %s, client_golang does not", name)
		}
	}
}

func TestGatherWhileItRuns(t *testing.T) {
	a := start(newSink(t).URL)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(prom.NewCollector(a))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	a.Pause()
	a.Resume()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if families, err := reg.Gather(); err != nil || len(families) == 0 {
		t.Errorf("after Close %d families, %v", len(families), err)
	}
}
