package agent

import (
	"strings"
	"sync"
	"testing"
	"time"
)

//go:noinline
func standStill(stop chan struct{}) { <-stop }

// TestWallProfile checks that a window says where goroutines were, for how long, and that the agent's own are not among them.
func TestWallProfile(t *testing.T) {
	c := newCollector(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	const n = 20
	for range n {
		wg.Add(1)
		go func() { defer wg.Done(); standStill(stop) }()
	}
	defer func() { close(stop); wg.Wait() }()
	wait(t, "them to stand still", func() bool { return stacksWith("agent.standStill(", "[chan receive") == n })
	quick(t, c, 700*time.Millisecond, Config{Types: []Type{Wall, Heap}})
	wait(t, "three windows", func() bool { return len(c.stored()) >= 3 })
	last := int64(0)
	for _, p := range c.stored()[:3] {
		raw := p.data[Wall]
		if raw == nil {
			t.Errorf("window %d has no wall profile: %v", p.meta.Window, p.meta.Stats.Skipped)
			continue
		}
		var e entry
		for _, e = range p.meta.Profiles {
			if e.Type == Wall {
				break
			}
		}
		if last != 0 && e.Start != last {
			t.Errorf("window %d: the profile starts at %d, the one before ended at %d", p.meta.Window, e.Start, last)
		}
		last = e.End
		var stood time.Duration
		for _, s := range readSamples(t, raw) {
			switch {
			case s.has("agent.standStill"):
				stood += time.Duration(s.values[1])
				if s.labels["state"] != "chan receive" {
					t.Errorf("state %q", s.labels["state"])
				}
			case s.has("agent.(*Agent).record"), s.has("agent.(*Agent).upload"), s.has("agent.(*Agent).takes"):
				t.Errorf("a goroutine of the agent's own: %v", s.functions)
			}
		}
		if want := n * time.Duration(e.End-e.Start) * time.Millisecond; stood < want-n*2*time.Millisecond || stood > want+n*2*time.Millisecond {
			t.Errorf("window %d: %d goroutines stood still for %v in all, want %v", p.meta.Window, n, stood, want)
		}
	}
}

func TestWallIsAskedFor(t *testing.T) {
	for _, tc := range []struct {
		types string
		want  bool
	}{{"", false}, {"cpu,heap", false}, {"wall,cpu", true}} {
		var cfg Config
		cfg.resolve(env("SONDE_TYPES", tc.types))
		if got := (plan{enabled: true, types: cfg.Types}).takes(Wall); got != tc.want {
			t.Errorf("SONDE_TYPES=%q: wall %v, want %v", tc.types, got, tc.want)
		}
	}
}

// TestWallKeepsToItsShare steps the sampling through an hour in which a sample costs what it would with ever more goroutines.
func TestWallKeepsToItsShare(t *testing.T) {
	for _, tc := range []struct {
		cost  time.Duration
		cores float64 // that the process uses
		least int     // samples in an hour
	}{
		{50 * time.Microsecond, 0, 30_000},   // an idle process of few goroutines: ten a second
		{50 * time.Microsecond, 1, 30_000},   // and a busy one
		{10 * time.Millisecond, 0, 140},      // 15,000 goroutines of an idle one: a two-thousandth of a core
		{10 * time.Millisecond, 1, 1400},     // of one that keeps a core busy
		{60 * time.Millisecond, 0, 25},       // more than the purse ever holds
		{10 * time.Millisecond, 8, 7 * 1600}, // of a large one
	} {
		w := &wallClock{purse: wallSaving}
		now, spent, samples := time.Unix(0, 0), time.Duration(0), 0
		for end := now.Add(time.Hour); now.Before(end); samples++ {
			elapsed := w.pause(0, 0)
			if samples > 0 {
				elapsed = w.next.Sub(now)
			}
			now = now.Add(elapsed)
			w.settle(tc.cost, w.income(elapsed, time.Duration(float64(elapsed)*tc.cores)))
			w.next = now.Add(w.pause(elapsed, w.income(elapsed, time.Duration(float64(elapsed)*tc.cores))))
			spent += tc.cost
		}
		share := wallShare * max(budgetFloor, tc.cores*budgetShare)
		if samples < tc.least || samples > 36_001 || spent > time.Duration(share*float64(time.Hour))+wallSaving+2*tc.cost {
			t.Errorf("a sample of %v, %v cores: %d samples and %v in an hour, want at least %d", tc.cost, tc.cores, samples, spent, tc.least)
		}
	}
}

// TestWallRefusesTooMany checks that nothing is sampled above MaxGoroutines, that the window says so, and that the time is nobody's.
func TestWallRefusesTooMany(t *testing.T) {
	a := idle(t, Config{Types: []Type{Wall}, MaxGoroutines: 1, Period: time.Hour})
	r := a.rec
	now := time.Now()
	r.begin(now, time.Hour)
	r.step(now.Add(time.Second))
	if w := r.windowNow(); len(w.meta.Profiles) > 0 || !strings.Contains(w.meta.Stats.Skipped["wall"], "more than MaxGoroutines 1") {
		t.Errorf("%+v, skipped %v", w.meta.Profiles, w.meta.Stats.Skipped)
	}
	a.cfg.MaxGoroutines = defaultGoroutines
	r.step(now.Add(10 * time.Second))
	r.step(now.Add(11 * time.Second))
	w := r.windowNow()
	if len(w.meta.Profiles) != 1 {
		t.Fatalf("skipped %v", w.meta.Stats.Skipped)
	}
	var stood time.Duration
	for _, s := range readSamples(t, gunzip(t, w.data(0))) {
		if s.has("agent.TestWallRefusesTooMany") {
			stood += time.Duration(s.values[1])
		}
	}
	if stood != 10*time.Second {
		t.Errorf("%v in the profile, want the 10 s since the last refusal", stood)
	}
}
