package agent

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// logBuffer is a logger's output that can be read while it is written.

// quick starts an agent whose windows, the first included, last d. It checks at the end that no goroutine is left.

// agentGoroutines counts the goroutines that run the agent's own code.

//go:noinline

func TestWindowsFollowEachOther(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, 100*time.Millisecond, Config{Environment: "prod", Labels: map[string]string{"team.name": "blue"}, Token: "s3cret"})
	wait(t, "3 windows", func() bool { burn(time.Now().Add(20 * time.Millisecond)); return len(c.stored()) >= 3 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	pushes := c.stored()
	for i, p := range pushes {
		if p.meta.Window != uint64(i+1) || p.meta.Part != 0 || p.meta.V != 1 || p.meta.Instance != a.instance {
			t.Errorf("push %d: window %d, part %d, version %d, instance %s", i, p.meta.Window, p.meta.Part, p.meta.V, p.meta.Instance)
		}
		if (p.meta.Process != nil) != (i == 0) {
			t.Errorf("push %d carries the process: %v", i, p.meta.Process != nil)
		}
		if i > 0 && p.meta.Start != pushes[i-1].meta.End {
			t.Errorf("window %d starts at %d, the one before ends at %d", i+1, p.meta.Start, pushes[i-1].meta.End)
		}
		for _, e := range p.meta.Profiles {
			if e.Start >= e.End || e.Part != string(e.Type) || p.data[e.Type] == nil {
				t.Errorf("push %d: entry %+v, %d bytes", i, e, len(p.data[e.Type]))
			}
		}
		if told := p.meta.Events; (len(told) == 1) != (i == len(pushes)-1) {
			t.Errorf("push %d tells %+v, want the end in the last", i, told)
		}
		if p.header.Get("Authorization") != "Bearer s3cret" || !strings.HasPrefix(p.header.Get("User-Agent"), "sonde-agent/") {
			t.Errorf("headers %v", p.header)
		}
	}
	end, last := pushes[len(pushes)-1].meta.Events[0], pushes[len(pushes)-1].meta
	if end.Kind != "exit" || end.Service != "test" || end.Time < last.Start || end.Time > last.End || end.Attrs["instance"] != a.instance || end.Attrs["pid"] != strconv.Itoa(os.Getpid()) ||
		end.Attrs["by"] != "agent" || !strings.HasPrefix(end.Text, "test closed its agent after ") {
		t.Errorf("the end is told as %+v", end)
	}
	labels := pushes[0].process.Labels
	for k, want := range map[string]string{"service_name": "test", "deployment_environment_name": "prod", "team_name": "blue"} {
		if labels[k] != want {
			t.Errorf("label %s is %q, want %q", k, labels[k], want)
		}
	}
	if pushes[0].process.PID != os.Getpid() || pushes[0].process.GoVersion != runtime.Version() {
		t.Errorf("process %+v", pushes[0].process)
	}
}

// TestIntervalsTouch checks that the intervals of one type cover the run without a hole or an overlap.

func TestIntervalsTouch(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, 60*time.Millisecond, Config{Types: []Type{Heap, Goroutine}})
	wait(t, "4 windows", func() bool { return len(c.stored()) >= 4 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	last := map[Type]int64{}
	for _, p := range c.stored() {
		for _, e := range p.meta.Profiles {
			if l := last[e.Type]; l != 0 && l != e.Start {
				t.Errorf("%s of window %d starts at %d, the one before ended at %d", e.Type, p.meta.Window, e.Start, l)
			}
			last[e.Type] = e.End
		}
	}
	if len(last) != 2 {
		t.Errorf("types seen: %v", last)
	}
}

func TestCloseFlushesEveryType(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{MutexFraction: 1, BlockRate: 1})
	var mu sync.Mutex
	mu.Lock()
	done := make(chan struct{})
	go func() { defer close(done); mu.Lock(); defer mu.Unlock() }()
	burn(time.Now().Add(300 * time.Millisecond))
	mu.Unlock()
	<-done
	kept := make([]byte, 4<<20)
	runtime.GC() // what was allocated since the last collection but one is in no heap profile
	runtime.GC()
	defer runtime.KeepAlive(kept)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	pushes := c.stored()
	if len(pushes) != 1 {
		t.Fatalf("%d pushes, want 1", len(pushes))
	}
	for _, typ := range defaultTypes {
		if pushes[0].data[typ] == nil {
			t.Errorf("no %s profile; skipped: %v", typ, pushes[0].meta.Stats.Skipped)
		}
	}
	if !hasString(pushes[0].data[CPU], "agent.burn") {
		t.Error("the CPU profile does not show the function that burned")
	}
	if runtime.SetMutexProfileFraction(-1) != 0 {
		t.Error("the mutex fraction is not back to what it was")
	}
}

func TestNilAndDisabled(t *testing.T) {
	var none *Agent
	off := start(Config{}, effects{first: time.Second, getenv: env("SONDE_DISABLED", "1")})
	for _, a := range []*Agent{none, off} {
		a.Pause()
		a.Resume()
		a.SetLabels(map[string]string{"a": "b"})
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
