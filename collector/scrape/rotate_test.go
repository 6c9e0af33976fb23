package scrape

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/collector/rotate"
)

// TestRotation scrapes a replica in every second slot: each interval starts in one of its own slots, and counts twice. What does not rotate is taken all the time.
func TestRotation(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0", "-work")
	settings := &rotate.Settings{Types: []string{"goroutine", "block"}, Groups: 2, SlotMs: 1000}
	sink := newMemory()
	cfg := quick(sink)
	cfg.CPUDuration, cfg.Period = -1, 100*time.Millisecond
	cfg.Rotate = func(ls labels.Labels) *rotate.Settings {
		if ls.Get("service_name") != "cart" {
			t.Errorf("asked for %v", ls)
		}
		return settings
	}
	m, stop := run(t, cfg, Target{Service: "cart", URL: "http://" + proc.Addrs["pprof"] + "/debug/pprof", Types: []string{"goroutine", "block", "heap"}})
	slots := func() int {
		seen := map[int64]bool{}
		for _, s := range sink.of("goroutine") {
			seen[s.start/settings.SlotMs] = true
		}
		return len(seen)
	}
	until(t, "profiles of two slots", func() bool { return slots() >= 2 && len(sink.of("block")) >= 2 && len(sink.of("heap")) > 0 })
	instance := only(m).Instance
	stop()
	for ty, column := range map[string]string{"goroutine": "goroutine", "block": "delay"} {
		for _, s := range sink.of(ty) {
			if active, _ := settings.Turn(ty, instance, time.UnixMilli(s.start)); !active {
				t.Errorf("%s [%d, %d) starts in a slot of others", ty, s.start, s.end)
			}
			if s.sums[column]%2 != 0 {
				t.Errorf("%s: a total of %d, which is no multiple of two", ty, s.sums[column])
			}
		}
	}
	for i, s := range sink.of("heap") {
		if all := sink.of("heap"); i > 0 && s.start != all[i-1].end {
			t.Errorf("heap does not rotate and has a gap before %d", s.start)
		}
	}
}

// TestCPUWaitsForItsTurn: who is not due takes no CPU profile, and comes back at a usual time.
func TestCPUWaitsForItsTurn(t *testing.T) {
	settings := &rotate.Settings{Types: []string{"cpu"}, Groups: 2, SlotMs: 60_000}
	m, err := New(Config{Sink: newMemory(), Rotate: func(labels.Labels) *rotate.Settings { return settings }})
	if err != nil {
		t.Fatal(err)
	}
	target := Target{Service: "cart", URL: "http://127.0.0.1:1/debug/pprof"}
	if err := target.normalize("h"); err != nil {
		t.Fatal(err)
	}
	l := newLoop(m, target, true)
	at := time.UnixMilli(1_795_000_200_000)
	waits := 0
	for range 10 {
		if l.wait(at) {
			waits++
			if next := l.nextCPU.Sub(at); next < m.cfg.CPUPeriod/2 || next > 3*m.cfg.CPUPeriod/2 {
				t.Errorf("the next is after %v, want about %v", next, m.cfg.CPUPeriod)
			}
		}
		at = at.Add(time.Minute)
	}
	if waits != 5 {
		t.Errorf("waited %d of 10 minutes, want 5", waits)
	}
	// An interval that began in an own slot is finished in the other's; after that there is none until the next own slot, which begins with a baseline.
	settings.Types = []string{"block"}
	own := time.UnixMilli(1_795_000_200_000)
	if active, _ := l.turnOf("block", own); !active {
		own = own.Add(time.Minute)
	}
	ts := &typeState{last: own.Add(50 * time.Second)}
	for i, want := range []bool{true, false, false, true} {
		at := own.Add(time.Minute + time.Duration(i)*20*time.Second)
		if got := l.due("block", ts, at); got != want {
			t.Errorf("%v after its slot began: due %v, want %v", at.Sub(own), got, want)
		} else if got {
			ts.last = at
		}
		if i == 1 && !ts.last.IsZero() {
			t.Error("the pause is part of the next interval")
		}
	}
}
