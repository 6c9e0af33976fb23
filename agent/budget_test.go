package agent

import (
	"testing"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
)

func TestBudget(t *testing.T) {
	start := time.Unix(1000, 0)
	b := &budget{purse: budgetStart, at: start, cost: map[Type]time.Duration{}}
	if !b.affords(Heap) {
		t.Fatal("the first capture is not afforded")
	}
	b.spend(Heap, 300*time.Millisecond)
	var taken, process time.Duration
	windows, captures := 1000, 0
	now := start
	for range windows { // the process uses half a core
		now, process = now.Add(15*time.Second), process+7500*time.Millisecond
		b.refill(now, process)
		if b.affords(Heap) {
			b.spend(Heap, 300*time.Millisecond)
			taken += 300 * time.Millisecond
			captures++
		}
	}
	if share := float64(taken) / float64(process); share > budgetShare || share < budgetShare*0.9 {
		t.Errorf("%d captures in %d windows cost %.4f of the process, want just under %v", captures, windows, share, budgetShare)
	}
}

func TestBudgetOfAnIdleProcess(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &budget{at: now, cost: map[Type]time.Duration{}}
	var taken time.Duration
	for range 1000 {
		now = now.Add(15 * time.Second)
		b.refill(now, 0)
		if b.affords(Heap) {
			b.spend(Heap, 2*time.Millisecond)
			taken += 2 * time.Millisecond
		}
	}
	if taken != 2*time.Second {
		t.Errorf("captures took %v, want one in every window: the floor is 15 ms a window", taken)
	}
}

func TestBudgetSavesNoMoreThanItNeeds(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &budget{at: now, cost: map[Type]time.Duration{}}
	b.refill(now.Add(1000*time.Hour), 0)
	if b.purse != budgetSaving {
		t.Errorf("purse %v after a long rest, want %v", b.purse, budgetSaving)
	}
}

func TestGoroutineProfilesComeLessOftenAsTheirNumberGrows(t *testing.T) {
	for _, tc := range []struct{ n, want int }{{1, 1}, {1999, 1}, {10_000, 5}, {100_000, 40}, {10_000_000, 40}} {
		if got := goroutineEvery(tc.n); got != tc.want {
			t.Errorf("at %d goroutines one window in %d, want %d", tc.n, got, tc.want)
		}
	}
}

// TestDebtIsBounded checks that what cannot be skipped is paid for by skipping captures, but not for ever.
func TestDebtIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &budget{purse: budgetStart, at: now, cost: map[Type]time.Duration{}}
	b.charge(time.Hour)
	if b.purse != budgetDebt || b.affords(Heap) {
		t.Errorf("purse %v after a charge of an hour, heap afforded: %v", b.purse, b.affords(Heap))
	}
	b.spend(Heap, time.Second)
	owed := b.purse
	if b.charge(time.Hour); b.purse != owed {
		t.Errorf("purse %v, want %v: the debt grew beyond its bound", b.purse, owed)
	}
}

// TestCPUProfileOverBudgetGoesOn checks that a CPU profile that is not afforded is not lost: the next window has both intervals.
func TestCPUProfileOverBudgetGoesOn(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{Types: []Type{CPU}})
	purse := func(d time.Duration) {
		a.rec.budget = newBudget(time.Now().Add(time.Hour)) // refills with nothing
		a.rec.budget.purse = d
	}
	a.rec.mu.Lock()
	from := a.rec.start
	purse(-time.Hour)
	a.rec.capture(time.Now(), false)
	purse(time.Hour)
	burn(time.Now().Add(100 * time.Millisecond))
	a.rec.capture(time.Now(), false)
	a.rec.mu.Unlock()
	wait(t, "both windows", func() bool { return len(c.stored()) == 2 })
	first, second := c.stored()[0], c.stored()[1]
	if len(first.data) != 0 || first.meta.Stats.Skipped["cpu"] != "over budget" {
		t.Errorf("the first window has %v, skipped %v", first.meta.Profiles, first.meta.Stats.Skipped)
	}
	if len(second.meta.Profiles) != 1 || second.meta.Profiles[0].Start > from.UnixMilli()+100 {
		t.Errorf("the second window has %+v, want one from %d on", second.meta.Profiles, from.UnixMilli())
	}
}

// TestSendingIsCharged checks that what an upload costs is taken from the budget and told with the next window.
func TestSendingIsCharged(t *testing.T) {
	if !cputime.PerThread {
		t.Skip("SKIPPED: this system has no clock of a thread, so sending is not counted")
	}
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{Types: []Type{Heap}})
	before := a.up.spent.Load()
	a.rec.mu.Lock()
	a.rec.capture(time.Now(), false)
	a.rec.mu.Unlock()
	wait(t, "the window", func() bool { return len(c.stored()) == 1 && a.up.left() == 0 })
	wait(t, "its cost", func() bool { return a.up.spent.Load() > before })
	a.rec.mu.Lock()
	defer a.rec.mu.Unlock()
	purse := a.rec.budget.purse
	if a.rec.settle(); a.rec.budget.purse >= purse || a.rec.cost == 0 {
		t.Errorf("purse %v after %v, cost %v", a.rec.budget.purse, purse, a.rec.cost)
	}
}
