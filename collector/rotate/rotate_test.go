package rotate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// replica uses cpu[n] ms of CPU in slot n.
type replica struct {
	id  string
	use float64 // ms of CPU in each second
}

func fleet(n int) []replica {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]replica, n)
	for i := range out {
		out[i] = replica{id: fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64()), use: 100 + 900*rng.Float64()}
	}
	return out
}

var epoch = time.UnixMilli(1_795_000_200_000) // the start of a slot of 5 min

// gather adds up what windows of 15 s in [from, to) deliver of each replica under settings(t).
func gather(rs []replica, from, to time.Time, settings func(t time.Time) *Settings) (each []float64, all float64) {
	each = make([]float64, len(rs))
	for t := from; t.Before(to); t = t.Add(15 * time.Second) {
		s := settings(t)
		for i := range rs {
			if active, weight := s.Turn("cpu", rs[i].id, t); active {
				v := float64(weight) * rs[i].use * 15
				each[i] += v
				all += v
			}
		}
	}
	return each, all
}

// TestTotals profiles 7 of 400 replicas at a time over whole rotations: every instance and the fleet come out as if all had been profiled, exactly, since each was for one slot
// of k with weight k.
func TestTotals(t *testing.T) {
	rs := fleet(400)
	s := Rotate(Rule{Replicas: 7}, "cart", len(rs))
	if s.Groups != 58 || s.SlotMs != 300_000 || len(s.Types) != 1 || s.Types[0] != "cpu" {
		t.Fatalf("settings are %+v", s)
	}
	rotation := time.Duration(s.Groups) * DefaultSlot
	each, all := gather(rs, epoch, epoch.Add(3*rotation), func(time.Time) *Settings { return s })
	var truth float64
	for i, r := range rs {
		want := r.use * (3 * rotation).Seconds()
		truth += want
		if math.Abs(each[i]-want) > 1e-6*want {
			t.Errorf("replica %d: %.0f ms of CPU, want %.0f", i, each[i], want)
		}
	}
	if math.Abs(all-truth) > 1e-6*truth {
		t.Errorf("fleet: %.0f ms of CPU, want %.0f", all, truth)
	}
}

// TestSlotsAreUnbiased looks at the fleet's total in single slots: on average it is the truth, and it varies as the number of replicas in a group does.
func TestSlotsAreUnbiased(t *testing.T) {
	rs := fleet(400)
	s := Rotate(Rule{Replicas: 40}, "cart", len(rs)) // 10 groups
	var truth, sum, squares, sizes float64
	for _, r := range rs {
		truth += r.use
	}
	for n := range s.Groups {
		at := epoch.Add(time.Duration(n) * DefaultSlot)
		var v, size float64
		for _, r := range rs {
			if active, w := s.Turn("cpu", r.id, at); active {
				v += float64(w) * r.use
				size++
			}
		}
		sum += v
		squares += (v - truth) * (v - truth)
		sizes += size
	}
	if mean := sum / float64(s.Groups); math.Abs(mean-truth) > 1e-6*truth || sizes != 400 {
		t.Errorf("mean of the slots %.0f, want %.0f; %v replicas were profiled, want 400", mean, truth, sizes)
	}
	// A group's size is binomial: 40 ± 6. That and the spread of the replicas' use make about 17 %.
	if dev := math.Sqrt(squares/float64(s.Groups)) / truth; dev > 0.35 {
		t.Errorf("a slot's total is off by %.0f %% (standard deviation)", 100*dev)
	}
}

// TestChangeOfGroups lets the fleet grow in the middle of a slot: what the change adds to or takes from an instance is at most one slot with its weight.
func TestChangeOfGroups(t *testing.T) {
	rs := fleet(400)
	before, after := Rotate(Rule{Replicas: 20}, "cart", 200), Rotate(Rule{Replicas: 20}, "cart", 400) // 10 and 20 groups
	change := epoch.Add(20*DefaultSlot + 100*time.Second)
	end := epoch.Add(2*20*DefaultSlot + 100*time.Second) // a rotation of each
	each, all := gather(rs, epoch, end, func(at time.Time) *Settings {
		if at.Before(change) {
			return before
		}
		return after
	})
	var truth, off float64
	for i, r := range rs {
		want := r.use * end.Sub(epoch).Seconds()
		truth += want
		slot := r.use * DefaultSlot.Seconds() * float64(before.Groups+after.Groups) // a slot under either
		off = math.Max(off, math.Abs(each[i]-want)/slot)
	}
	if off > 1 {
		t.Errorf("an instance is off by %.2f slots, want at most one", off)
	}
	if math.Abs(all-truth) > 0.05*truth {
		t.Errorf("fleet: %.0f ms of CPU, want %.0f", all, truth)
	}
}

// TestFleetHoldsStill changes k where the fleet does, and not with every pod.
func TestFleetHoldsStill(t *testing.T) {
	f := New(Config{})
	rule := Rule{Replicas: 10, Types: []string{"cpu", "wall"}, Slot: 2 * time.Minute}
	if f.Rotate(rule, "cart") != nil {
		t.Error("a service that nobody has counted rotates")
	}
	for _, step := range []struct{ alive, groups int }{{400, 40}, {401, 40}, {391, 40}, {450, 40}, {501, 51}, {480, 51}, {381, 51}, {380, 38}, {11, 2}, {10, 0}, {0, 0}, {30, 3}} {
		f.Set(map[string]int{"cart": step.alive, "web": 5})
		s := f.Rotate(rule, "cart")
		if s == nil && step.groups != 0 || s != nil && s.Groups != step.groups {
			t.Errorf("%d alive: %+v, want %d groups", step.alive, s, step.groups)
		}
		if s != nil && (s.SlotMs != 120_000 || !s.Rotates("wall") || s.Rotates("heap")) {
			t.Errorf("settings are %+v", s)
		}
	}
	if f.Rotate(rule, "web") != nil || f.Rotate(Rule{}, "cart") != nil {
		t.Error("a service that all are profiled of rotates")
	}
}

// TestFleetCounts: the last count stays where a later one fails, and Run ends with its context.
func TestFleetCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		f := New(Config{Alive: func(context.Context) (map[string]int, error) {
			if calls++; calls > 1 {
				return nil, errors.New("the catalogue is away")
			}
			return map[string]int{"cart": 100}, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		time.Sleep(3*countEvery + time.Second)
		synctest.Wait()
		if s := f.Rotate(Rule{Replicas: 10}, "cart"); s == nil || s.Groups != 10 || calls != 4 {
			t.Errorf("after %d counts: %+v", calls, s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTurn(t *testing.T) {
	s := &Settings{Types: []string{"cpu"}, Groups: 3, SlotMs: 60_000}
	for _, tt := range []struct {
		name   string
		s      *Settings
		typ    string
		weight int64
	}{{"none", nil, "cpu", 1}, {"another type", s, "heap", 1}, {"one group", &Settings{Types: []string{"cpu"}, Groups: 1, SlotMs: 1000}, "cpu", 1}} {
		if active, w := tt.s.Turn(tt.typ, "i", epoch); !active || w != tt.weight {
			t.Errorf("%s: %v with weight %d, want active with %d", tt.name, active, w, tt.weight)
		}
	}
	// The contract with agents, in numbers: fnv1a64("9f86d081884c7d659a2feaa0c55ad015") mod 3.
	const instance = "9f86d081884c7d659a2feaa0c55ad015"
	on := 0
	for n := range 6 {
		at := epoch.Add(time.Duration(n) * time.Minute)
		if active, w := s.Turn("cpu", instance, at); active {
			on++
			if w != 3 || at.UnixMilli()/60_000%3 != group(instance, 3) {
				t.Errorf("minute %d: weight %d", n, w)
			}
			if start, end := s.Slot(at.Add(59 * time.Second)); !start.Equal(at) || end.Sub(start) != time.Minute {
				t.Errorf("slot is [%v, %v)", start, end)
			}
		}
	}
	if on != 2 {
		t.Errorf("active in %d of 6 slots, want 2", on)
	}
}

func TestValidate(t *testing.T) {
	for _, r := range []Rule{{Replicas: -1}, {Replicas: 1, Slot: time.Second}, {Replicas: 1, Types: []string{""}}, {Types: []string{"cpu"}}} {
		if r.Validate() == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
	for _, s := range []*Settings{{Groups: 0, SlotMs: 60_000}, {Groups: MaxGroups + 1, SlotMs: 60_000}, {Groups: 2}, {Groups: 2, SlotMs: 1 << 40}, {Groups: 2, SlotMs: 60_000, Types: make([]string, 65)}} {
		if s.Validate() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	if err := (Rule{Replicas: 7, Types: []string{"cpu"}, Slot: time.Minute}).Validate(); err != nil {
		t.Error(err)
	}
	if got := (Rule{Replicas: 1}).Groups(1_000_000); got != MaxGroups {
		t.Errorf("%d groups, want %d", got, MaxGroups)
	}
	if err := Rotate(Rule{Replicas: 7}, "cart", 400).Validate(); err != nil {
		t.Error(err)
	}
}
