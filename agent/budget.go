package agent

import (
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
)

// What the agent may burn. It counts what runs on its own two goroutines: captures, the encoding, the label scan, the uploads. It cannot
// count the kernel's signals and their handler, which sample the CPU, nor the goroutines of runtime/pprof and net/http that work for it.
const (
	budgetShare  = 0.01                   // of the process's CPU
	budgetFloor  = 0.001                  // of one core, for a process that does next to nothing
	budgetStart  = 100 * time.Millisecond // to begin with, so that the first window is whole
	budgetSaving = 250 * time.Millisecond // that idle windows can put aside, at least
	budgetDebt   = -budgetSaving          // what cannot be skipped, such as sending, can owe no more than this
)

// budget is a purse of CPU time: windows put in a share of what the process used, captures take out what they cost. A capture
// that the purse does not cover is skipped, so an expensive type comes less often and covers a longer interval each time.
type budget struct {
	purse   time.Duration
	process time.Duration // CPU of the process at the last refill
	at      time.Time
	cost    map[Type]time.Duration // what the type's captures cost lately
}

func newBudget(now time.Time) *budget {
	return &budget{purse: budgetStart, process: cputime.Process(), at: now, cost: map[Type]time.Duration{}}
}

// refill puts in the share of the time since the last refill.
func (b *budget) refill(now time.Time, process time.Duration) {
	share := time.Duration(float64(process-b.process) * budgetShare)
	floor := time.Duration(float64(now.Sub(b.at)) * budgetFloor)
	b.process, b.at = process, now
	limit := budgetSaving
	for _, c := range b.cost {
		limit = max(limit, 2*c) // or the most expensive type would never come again
	}
	b.purse = min(b.purse+max(share, floor), limit)
}

// affords reports whether the purse covers one more capture of t.
func (b *budget) affords(t Type) bool { return b.purse >= b.cost[t] }

// charge takes out what was spent on no type.
func (b *budget) charge(cost time.Duration) { b.purse = max(b.purse-cost, min(b.purse, budgetDebt)) }

// spend takes out what a capture of t did cost.
func (b *budget) spend(t Type, cost time.Duration) {
	b.purse -= cost
	// The estimate rises at once and falls slowly: one cheap capture does not make the next one so.
	b.cost[t] = max(cost, (3*b.cost[t]+cost)/4)
}
