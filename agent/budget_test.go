package agent

import (
	"testing"
	"time"
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
