package scrape

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestPhasesSpreadTheReplicasOfAService(t *testing.T) {
	for _, n := range []int{1, 2, 3, 6, 50} {
		var rs []replica
		for i := range n {
			rs = append(rs, replica{"cart", fmt.Sprint("c", i)}, replica{"billing", fmt.Sprint("b", i)})
		}
		got := phases(rs, time.Minute)
		for _, service := range []string{"cart", "billing"} {
			var ps []time.Duration
			for r, p := range got {
				if r.service == service {
					ps = append(ps, p)
				}
				if p < 0 || p >= time.Minute {
					t.Errorf("phase %v is not within the period", p)
				}
			}
			slices.Sort(ps)
			for i, p := range ps {
				next := ps[(i+1)%n]
				if i == n-1 {
					next += time.Minute
				}
				if d := next - p - time.Minute/time.Duration(n); d < -2*time.Nanosecond*time.Duration(n) || d > 2*time.Nanosecond*time.Duration(n) {
					t.Errorf("%d replicas of %s: %v follows %v", n, service, next, p)
				}
			}
		}
		slices.Reverse(rs)
		for r, p := range phases(rs, time.Minute) {
			if got[r] != p {
				t.Errorf("phase of %v depends on the order of the targets", r)
			}
		}
	}
}

func TestNextTurn(t *testing.T) {
	day := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	for _, tt := range []struct{ after, phase, want time.Duration }{
		{0, 0, 0},
		{0, 10 * time.Second, 10 * time.Second},
		{10 * time.Second, 10 * time.Second, 10 * time.Second},
		{11 * time.Second, 10 * time.Second, 70 * time.Second},
		{59 * time.Second, 0, 60 * time.Second},
	} {
		if got := nextTurn(day.Add(tt.after), tt.phase, time.Minute).Sub(day); got != tt.want {
			t.Errorf("after %v with phase %v: %v, want %v", tt.after, tt.phase, got, tt.want)
		}
	}
}

func TestCPUProfilesKeepTheirDutyCycle(t *testing.T) {
	for _, tt := range []struct {
		name   string
		target Target
		every  time.Duration
		length time.Duration
	}{
		{"pprof", Target{Service: "a", URL: "http://127.0.0.1:1"}, time.Minute, 10 * time.Second},
		{"gops", Target{Service: "a", GopsAddr: "127.0.0.1:1"}, 3 * time.Minute, 30 * time.Second},
	} {
		m, err := New(Config{Sink: newMemory()})
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.target.normalize(""); err != nil {
			t.Fatal(err)
		}
		l := newLoop(m, tt.target, true)
		l.phase.Store(int64(20 * time.Second))
		if l.cpuLength != tt.length || l.every() != tt.every {
			t.Errorf("%s: %v of each %v, want %v of %v", tt.name, l.cpuLength, l.every(), tt.length, tt.every)
		}
		at := time.Date(2026, 1, 2, 3, 4, 20, 0, time.UTC)
		for range 5 {
			// A little late every time: the turns do not drift.
			l.scheduleCPU(at.Add(30*time.Millisecond), l.every())
			if want := at.Add(tt.every); !l.nextCPU.Equal(want) {
				t.Errorf("%s: next at %v, want %v", tt.name, l.nextCPU, want)
			}
			at = l.nextCPU
		}
	}
}

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		failures int
		want     time.Duration
	}{{0, time.Second}, {1, time.Second}, {2, 2 * time.Second}, {3, 4 * time.Second}, {6, 32 * time.Second}, {1000, 32 * time.Second}} {
		if got := backoff(time.Second, tt.failures, 5); got != tt.want {
			t.Errorf("after %d failures %v, want %v", tt.failures, got, tt.want)
		}
	}
	for range 1000 {
		if d := jitter(time.Second); d < 900*time.Millisecond || d > 1100*time.Millisecond {
			t.Fatalf("jittered to %v", d)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no sink":                     {},
		"a profile beyond its period": {Sink: newMemory(), CPUDuration: 2 * time.Minute},
		"a profile of a moment":       {Sink: newMemory(), CPUDuration: time.Millisecond},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
