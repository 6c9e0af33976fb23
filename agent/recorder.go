package agent

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
	"github.com/sonde-io/sonde/agent/internal/offheap"
	"github.com/sonde-io/sonde/agent/internal/pprofenc"
)

// recorder captures the windows. One goroutine calls step; Pause and Resume come from any other, so mu guards all of it.
type recorder struct {
	a     *Agent
	wake  chan struct{}
	mu    sync.Mutex
	enc   *pprofenc.Builder
	heap  *pprofenc.Heap
	locks map[Type]*pprofenc.Contention // Mutex and Block
	scrub scrubber
	buf   bytes.Buffer
	acct  *offheap.Account // of heap and locks

	budget   *budget
	plan     plan
	paused   bool
	closed   bool               // finished for good
	num      uint64             // of the last window
	start    time.Time          // of the running window
	end      time.Time          // when it is due
	last     map[Type]time.Time // the end of the type's previous capture; absent: no baseline
	lacking  map[Type]error     // why there is no baseline
	began    time.Duration      // the thread's clock when the running step began
	counted  time.Duration      // of the running step, what the budget already has
	cost     time.Duration      // of the agent since the last window
	total    time.Duration      // and before
	skips    map[Type]uint64    // windows that lack the type, or a part of it
	cpuFrom  time.Time          // the part of the window in which the CPU is profiled
	cpuTo    time.Time
	tap      *cpuTap
	piece    cpuPiece // of a tap that closed before the window's end
	cpuBusy  bool
	retryCPU time.Time
	waited   int // windows since the last goroutine profile
	wall     wallClock
	watch    *watch
	metering *metering // nil until there is something to read
	early    *draft    // of types whose turn ended before the window did
}

func newRecorder(a *Agent, m pprofenc.Mapping) *recorder {
	acct := offheap.NewAccount(captureBytes)
	return &recorder{
		wall: wallClock{samples: newWall(acct)}, watch: newWatch(), scrub: newScrubber(a.privacy),
		a: a, wake: make(chan struct{}, 1), acct: acct, waited: 1 << 20,
		enc: pprofenc.NewBuilder(pprofenc.RuntimeSymbolizer, m), heap: pprofenc.NewHeap(acct),
		locks: map[Type]*pprofenc.Contention{Mutex: pprofenc.NewMutex(acct), Block: pprofenc.NewBlock(acct)},
		last:  map[Type]time.Time{}, lacking: map[Type]error{}, skips: map[Type]uint64{},
	}
}

// poke makes the recorder look at its settings again.
func (r *recorder) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// begin takes the baselines and opens the first window.
func (r *recorder) begin(now time.Time, first time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budget = newBudget(now)
	r.plan = r.a.plan(now)
	r.open(now, jitter(first))
	r.cpu(now)
}

// run steps through the windows until closing is closed, then captures the last one.
func (r *recorder) run(closing <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-closing:
			r.finish(time.Now())
			return
		case <-r.wake:
		case <-timer.C:
		}
		now := time.Now()
		timer.Reset(max(r.step(now).Sub(now), time.Millisecond))
	}
}

// step does what is due at now and returns when to come again.
func (r *recorder) step(now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused {
		return now.Add(time.Hour) // Resume pokes
	}
	r.clock()
	defer r.stopClock()
	if r.a.stale(r.plan, now) {
		r.replan(now)
	}
	if !now.Before(r.end) {
		r.capture(now, false)
		r.open(now, jitter(r.plan.period))
	}
	r.cpu(now)
	r.sampleWall(now)
	r.readMetrics(now)
	r.look(now)
	return r.next(now)
}

// next returns the earliest moment at which something is due.
func (r *recorder) next(now time.Time) time.Time {
	next := r.end
	for _, t := range [...]time.Time{r.cpuFrom, r.cpuTo, r.retryCPU, r.plan.until, r.wall.next, r.watch.next, r.nextMetrics()} {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	return next
}

// replan puts in force what is wanted at now.
func (r *recorder) replan(now time.Time) {
	p := r.a.plan(now)
	if p.expired && !r.plan.expired {
		r.a.taker.offer(false)
	}
	r.watch.set(now, p.rules)
	if p.equal(r.plan) {
		r.plan = p
		return
	}
	r.change(now, p)
}

// change puts a new plan in force. The running window keeps its start; its end moves with the period.
func (r *recorder) change(now time.Time, p plan) {
	period := r.plan.period
	r.turns(now, p)
	r.plan = p
	if !p.takes(CPU) {
		r.closeTap()
		r.piece = cpuPiece{}
	}
	if p.period != period {
		r.end = r.start.Add(jitter(p.period))
	}
	r.slice(now)
	r.baselines(now)
}

// open starts a window of length d.
func (r *recorder) open(now time.Time, d time.Duration) {
	r.start, r.end = now, now.Add(d)
	r.baselines(now)
	r.slice(now)
}

// slice chooses the part of the rest of the window in which the CPU is profiled: all of it at the runtime's own rate.
func (r *recorder) slice(now time.Time) {
	r.cpuFrom, r.cpuTo = now, r.end
	if r.plan.rate < runtimeCPURate {
		rest := r.end.Sub(now)
		part := rest * time.Duration(r.plan.rate) / runtimeCPURate
		if spare := rest - part; spare > 0 {
			r.cpuFrom = now.Add(rand.N(spare))
		}
		r.cpuTo = r.cpuFrom.Add(part)
	}
}

// baselines gives every type that was just turned on its start, and takes it from those that were turned off: what the program did
// meanwhile belongs to nobody.
func (r *recorder) baselines(now time.Time) {
	for _, t := range allTypes {
		_, has := r.last[t]
		switch {
		case !r.plan.takes(t):
			delete(r.last, t)
			if t == Wall {
				r.stopWall()
			}
		case !has:
			var err error
			switch t {
			case Heap:
				err = r.heap.Baseline()
			case Mutex, Block:
				err = r.locks[t].Baseline()
			case Wall:
				r.startWall(now)
			}
			if err != nil { // too many stacks: the next window tries again
				r.lacking[t] = err
				continue
			}
			r.last[t] = now
		}
	}
}

// cpu opens and closes the tap as the plan wants it at now.
func (r *recorder) cpu(now time.Time) {
	want := r.plan.takes(CPU) && !now.Before(r.cpuFrom) && now.Before(r.cpuTo)
	switch {
	case want && r.tap == nil && !now.Before(r.retryCPU):
		t, err := cpu.open()
		if err != nil {
			r.cpuBusy = true
			r.retryCPU = now.Add(cpuRetry)
			return
		}
		r.tap = t
	case want && r.tap != nil && !now.Before(r.retryCPU):
		r.retryCPU = time.Time{}
		if !cpu.revive() {
			r.cpuBusy = true
			r.retryCPU = now.Add(cpuRetry)
		}
	case !want && r.tap != nil:
		r.closeTap()
	}
}

// cpuRetry is how long the agent waits for a program's own CPU profile before it looks again.
const cpuRetry = time.Second

func (r *recorder) closeTap() {
	if r.tap != nil {
		r.piece.add(cpu.close(r.tap))
		r.tap = nil
	}
}

// add appends a later piece.
func (p *cpuPiece) add(o cpuPiece) {
	p.pieces = append(p.pieces, o.pieces...)
	if p.from.IsZero() {
		p.from = o.from
	}
	if !o.to.IsZero() {
		p.to = o.to
	}
	p.busy = p.busy || o.busy
}

// finish captures the last window and gives everything back.
func (r *recorder) finish(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.paused {
		r.clock()
		r.lastMetrics(now)
		r.capture(now, true)
		r.stopClock()
	}
	r.release()
}

// release gives the runtime's profile and the buffers back. It may be called twice.
func (r *recorder) release() {
	r.paused, r.closed = true, true
	r.closeTap()
	r.piece = cpuPiece{}
	r.heap.Release()
	for _, l := range r.locks {
		l.Release()
	}
	r.stopWall()
	r.watch.close()
}

// pause stops everything at once; what the running window gathered is thrown away.
func (r *recorder) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = true
	r.closeTap()
	r.piece = cpuPiece{}
	r.early = nil
	r.stopWall()
	r.stopMetrics()
	clear(r.last)
}

// resume opens a new window with new baselines.
func (r *recorder) resume(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.paused || r.closed {
		return
	}
	r.paused = false
	r.budget.refill(now, cputime.Process())
	r.plan = r.a.plan(now)
	r.watch.set(now, r.plan.rules)
	r.open(now, jitter(r.plan.period))
	r.cpu(now)
	r.poke()
}

// jitter returns d give or take a tenth, so that the agents of a fleet do not keep step.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// goroutineEvery returns how many windows lie between two goroutine profiles at n goroutines: the profile costs about 5 µs for each.
func goroutineEvery(n int) int { return min(max(n/2000, 1), 40) }

// goroutineSkip says why this window has no goroutine profile; empty: it is due.
func (r *recorder) goroutineSkip() string {
	n := runtime.NumGoroutine()
	if limit := r.a.cfg.MaxGoroutines; n > limit {
		return strconv.Itoa(n) + " goroutines, more than MaxGoroutines " + strconv.Itoa(limit)
	}
	r.waited++
	if every := goroutineEvery(n); r.waited < every {
		return strconv.Itoa(n) + " goroutines: one profile in " + strconv.Itoa(every) + " windows"
	}
	return ""
}

// abandon gives up after a fault. The fault may have left mu locked, so it is left alone where it is.
func (r *recorder) abandon() {
	if r.mu.TryLock() {
		defer r.mu.Unlock()
		r.release()
	}
}
