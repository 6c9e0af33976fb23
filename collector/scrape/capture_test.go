package scrape

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"testing"
	"time"

	captures "github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
)

// take runs one capture of the manager's only target.
func take(ctx context.Context, m *Manager, kind string, d time.Duration) ([]byte, error) {
	_, body, err := m.Capture(ctx, captures.Task{ID: "1", Instance: m.Instances()[0], Kind: kind, DurationMs: d.Milliseconds(), MaxBytes: 64 << 20})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// loopOf returns the loop of the manager's only target.
func loopOf(t *testing.T, m *Manager) (found *loop) {
	t.Helper()
	until(t, "the target's loop", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, l := range m.loops {
			found = l
		}
		return found != nil
	})
	return found
}

// TestCaptures: everything that a real endpoint serves can be taken on demand, also while the scraper's own CPU profile runs.
func TestCaptures(t *testing.T) {
	p := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof", "127.0.0.1:0")
	cfg := quick(newMemory())
	cfg.CPUPeriod, cfg.CPUDuration = time.Hour, 30*time.Minute // the first one, of 5 s, runs at once
	m, _ := run(t, cfg, Target{Service: "target", URL: "http://" + p.Addrs["pprof"] + "/debug/pprof"})
	l := loopOf(t, m)
	until(t, "the scraper's CPU profile", func() bool { return l.cut.Load() != nil })
	for _, kind := range httpKinds {
		d, began := time.Duration(0), time.Now()
		if kind == captures.Trace {
			continue // the program does not serve it
		}
		if kind == captures.CPU {
			d = time.Second
		}
		data, err := take(t.Context(), m, kind, d)
		if err == nil {
			err = captures.Validate(kind, data)
		}
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if kind == captures.CPU {
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("a CPU profile of 1 s took %v beside the scraper's own", took)
			}
		}
	}
	if _, err := take(t.Context(), m, captures.Flight, 0); !errors.Is(err, captures.ErrKind) {
		t.Errorf("a kind that is not served: %v", err)
	}
	if len(l.asking) != 0 {
		t.Error("the turn was not given back")
	}
	if only(m).Gaps == 0 {
		t.Error("the CPU profile that was broken off is no gap")
	}
}

// TestCaptureRival: who takes a CPU profile of the target is left alone, and the answer says so.
func TestCaptureRival(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/profile", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Could not enable CPU profiling: cpu profiling already in use", http.StatusInternalServerError)
	})
	mux.HandleFunc("/debug/pprof/heap", func(w http.ResponseWriter, r *http.Request) { pprof.Handler("heap").ServeHTTP(w, r) })
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	srv := httptest.NewServer(mux)
	defer srv.Close()
	cfg := quick(newMemory())
	cfg.CPUDuration = -1
	m, _ := run(t, cfg, Target{Service: "target", URL: srv.URL + "/debug/pprof"})
	loopOf(t, m)
	_, err := take(t.Context(), m, captures.CPU, time.Second)
	if !errors.Is(err, errRival) {
		t.Errorf("with a rival: %v", err)
	}
	if _, err := take(t.Context(), m, captures.Mutex, 0); !errors.Is(err, captures.ErrKind) {
		t.Errorf("not served: %v", err)
	}
	data, err := take(t.Context(), m, captures.Trace, time.Second)
	if err == nil {
		err = captures.Validate(captures.Trace, data)
	}
	if err != nil {
		t.Errorf("a trace: %v", err)
	}
	data, err = take(t.Context(), m, captures.Heap, 0)
	if err != nil || !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		t.Errorf("after it: %d bytes, %v", len(data), err)
	}
}
