package agent

import (
	"runtime"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
)

// The thread's clock is what the agent's work is paid by, so its goroutines keep to their threads while they work. Where the system
// has no such clock the wall clock stands in for captures, which never wait, and what does wait is not counted.

// clock begins a step of the recorder.
func (r *recorder) clock() {
	runtime.LockOSThread()
	r.began, r.counted = cputime.Thread(), 0
}

// stopClock ends it and charges what no type was charged with: the baselines, the encoding of the window.
func (r *recorder) stopClock() {
	if cputime.PerThread {
		rest := cputime.Thread() - r.began - r.counted
		r.budget.charge(rest)
		r.cost += rest
	}
	runtime.UnlockOSThread()
}

// pay runs fn, which captures t, and charges it.
func (r *recorder) pay(t Type, fn func() error) error {
	began := cputime.Thread()
	err := fn()
	if t == CPU && !cputime.PerThread {
		return err // it waits for the runtime
	}
	cost := cputime.Thread() - began
	r.budget.spend(t, cost)
	r.counted += cost
	r.cost += cost
	return err
}

// metered runs fn, which sends a window or takes a capture, and keeps what it cost for the recorder's next refill.
func (u *uploader) metered(fn func()) {
	if !cputime.PerThread {
		fn()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := cputime.Thread()
	fn()
	u.spent.Add(int64(cputime.Thread() - began))
}

// settle charges what was spent on sending since the last window.
func (r *recorder) settle() {
	d := time.Duration(r.a.up.spent.Swap(0))
	r.budget.charge(d)
	r.cost += d
}

// paid runs fn, which takes captures, and keeps what it cost for the recorder's next refill. What waits costs nothing.
func (t *taker) paid(fn func()) { t.a.up.metered(fn) }
