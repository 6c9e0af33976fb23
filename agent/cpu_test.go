package agent

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:noinline
func burnForCaller(until time.Time) int { return burn(until) + 1 }

// TestCPUProfileIsShared checks that a caller gets a profile while the agent's windows go on, and that both hold the hot function.
func TestCPUProfileIsShared(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, 150*time.Millisecond, Config{Types: []Type{CPU}})
	srv := httptest.NewServer(CPUHandler())
	defer srv.Close()
	var wg sync.WaitGroup
	bodies := make([][]byte, 2)
	for i := range bodies {
		wg.Add(1)
		go func() {
			defer wg.Done()
			resp, err := http.Get(srv.URL + "?seconds=0.7")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if bodies[i], err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
				t.Errorf("status %d, %v: %s", resp.StatusCode, err, bodies[i])
			}
		}()
	}
	var direct bytes.Buffer
	if err := StartCPUProfile(&direct); err != nil {
		t.Fatal(err)
	}
	if err := StartCPUProfile(io.Discard); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("a second StartCPUProfile: %v", err)
	}
	stop := make(chan struct{})
	var burning sync.WaitGroup
	burning.Add(1)
	go func() {
		defer burning.Done()
		for !isClosed(stop) {
			burnForCaller(time.Now().Add(20 * time.Millisecond))
		}
	}()
	wg.Wait()
	if err := StopCPUProfile(); err != nil {
		t.Fatal(err)
	}
	if err := StopCPUProfile(); err != nil {
		t.Errorf("a second StopCPUProfile: %v", err)
	}
	wait(t, "two windows with the hot function", func() bool {
		hot := 0
		for _, p := range c.stored() {
			if hasString(p.data[CPU], "agent.burnForCaller") {
				hot++
			}
		}
		return hot >= 2
	})
	close(stop)
	burning.Wait()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for i, p := range append(bodies, direct.Bytes()) {
		if !hasString(gunzip(t, p), "agent.burnForCaller") {
			t.Errorf("caller %d: the hot function is not in its profile", i)
		}
	}
}

func TestCPUHandlerRefusesNonsense(t *testing.T) {
	for _, seconds := range []string{"-1", "0", "x", "NaN", "1e9"} {
		w := httptest.NewRecorder()
		CPUHandler().ServeHTTP(w, httptest.NewRequest("GET", "/?seconds="+seconds, nil))
		if w.Code != http.StatusBadRequest {
			t.Errorf("seconds=%s: status %d", seconds, w.Code)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a client that went away does not hold the profile for its 30 seconds
	w := httptest.NewRecorder()
	CPUHandler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	if cpu.running {
		t.Error("the profile still runs")
	}
}

// TestProgramTakesTheProfileItself checks that the agent yields to a direct call of runtime/pprof and says so.
func TestProgramTakesTheProfileItself(t *testing.T) {
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t)
	quick(t, c, 100*time.Millisecond, Config{Types: []Type{CPU}})
	wait(t, "a window that says busy", func() bool {
		p := c.stored()
		return len(p) > 0 && p[0].data[CPU] == nil && strings.Contains(p[0].meta.Stats.Skipped["cpu"], "the program takes its own CPU profile")
	})
	w := httptest.NewRecorder()
	CPUHandler().ServeHTTP(w, httptest.NewRequest("GET", "/?seconds=1", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "Could not enable CPU profiling") {
		t.Errorf("handler: status %d: %s", w.Code, w.Body)
	}
	pprof.StopCPUProfile()
	wait(t, "a CPU profile after the program's own ended", func() bool {
		p := c.stored()
		return p[len(p)-1].data[CPU] != nil
	})
}

// TestStolenInTheGap checks that a rival that starts between two windows costs the agent windows, not its life.
func TestStolenInTheGap(t *testing.T) {
	steal := false
	h := &cpuHub{start: func(w io.Writer) error {
		if steal {
			return io.ErrClosedPipe
		}
		return nil
	}, stop: func() {}}
	tap, err := h.open()
	if err != nil {
		t.Fatal(err)
	}
	steal = true
	if p := h.take(tap); len(p.pieces) != 1 || p.busy {
		t.Errorf("the window before the theft: %d pieces, busy %v", len(p.pieces), p.busy)
	}
	if h.revive() {
		t.Error("revived while taken")
	}
	steal = false
	if !h.revive() {
		t.Error("not revived")
	}
	if p := h.close(tap); len(p.pieces) != 1 || !p.busy {
		t.Errorf("the window of the theft: %d pieces, busy %v", len(p.pieces), p.busy)
	}
	if p := h.close(tap); len(p.pieces) != 0 || h.running {
		t.Error("closing a tap twice gives something")
	}
}

// TestLowRateLeavesTheProfileFree checks the duty cycle: at half the rate the profile is taken half of the time, and the interval says when.
func TestLowRateLeavesTheProfileFree(t *testing.T) {
	c := newCollector(t)
	quick(t, c, 400*time.Millisecond, Config{Types: []Type{CPU}, CPURate: 50})
	wait(t, "3 windows", func() bool { return len(c.stored()) >= 3 })
	for _, p := range c.stored() {
		if len(p.meta.Profiles) != 1 {
			t.Errorf("window %d: %+v, skipped %v", p.meta.Window, p.meta.Profiles, p.meta.Stats.Skipped)
			continue
		}
		e := p.meta.Profiles[0]
		if e.Start < p.meta.Start-1 || e.End > p.meta.End+1 || e.End-e.Start >= p.meta.End-p.meta.Start {
			t.Errorf("the profile covers [%d, %d) of the window [%d, %d), want a part", e.Start, e.End, p.meta.Start, p.meta.End)
		}
	}
}
