package agent

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"strconv"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
	"github.com/sonde-io/sonde/agent/internal/offheap"
	"github.com/sonde-io/sonde/agent/internal/pprofenc"
)

// How often goroutines are sampled for the wall profile. A sample stops the program twice for some 20 µs, and costs 50 µs and half a
// microsecond for each goroutine.
const (
	wallEvery  = 100 * time.Millisecond // at best
	wallSeldom = 2 * time.Minute        // at worst
	wallShare  = 0.5                    // of the agent's budget
	wallSaving = 50 * time.Millisecond  // that quiet times can put aside
)

// wallClock is the sampling of goroutines between two windows. It has a purse of its own, filled with its share of the budget as time passes: a
// program with ten times the goroutines is sampled a tenth as often, and each sample stands for ten times as long.
type wallClock struct {
	samples *pprofenc.Wall
	from    time.Time // since when the profile is gathered
	at      time.Time // of the last sample
	next    time.Time // zero: not on
	purse   time.Duration
	cost    time.Duration // of a sample, lately
	process time.Duration // CPU of the process at the last sample
	why     string        // the last sample was not taken
}

// hidden begins the names of the functions that the agent's own goroutines begin with.
var hidden = reflect.TypeOf(Agent{}).PkgPath() + ".(*Agent)."

func newWall(acct *offheap.Account) *pprofenc.Wall {
	w := pprofenc.NewWall(acct)
	w.Hide = hidden
	return w
}

func (r *recorder) startWall(now time.Time) {
	w := &r.wall
	w.from, w.at, w.next = now, now, now.Add(jittered(wallEvery))
	w.purse, w.process, w.why = wallSaving, cputime.Process(), ""
}

// stopWall throws away what was sampled and gives the buffers back.
func (r *recorder) stopWall() {
	r.wall.samples.Release()
	r.wall.next = time.Time{}
}

// sampleWall takes the sample that is due at now.
func (r *recorder) sampleWall(now time.Time) {
	w := &r.wall
	if w.next.IsZero() || now.Before(w.next) {
		return
	}
	elapsed := now.Sub(w.at)
	process := cputime.Process()
	income := w.income(elapsed, process-w.process)
	w.process, w.at = process, now
	limit := r.a.cfg.MaxGoroutines
	if n := runtime.NumGoroutine(); n > limit {
		w.why = strconv.Itoa(n) + " goroutines, more than MaxGoroutines " + strconv.Itoa(limit)
		w.next = now.Add(jittered(10 * wallEvery))
		return
	}
	began := cputime.Thread()
	if _, err := w.samples.Sample(elapsed, limit); err != nil {
		w.why = err.Error()
	}
	cost := cputime.Thread() - began
	w.settle(cost, income)
	r.budget.purse -= cost
	r.counted += cost
	r.cost += cost
	w.next = now.Add(jittered(w.pause(elapsed, income)))
}

// income is what the purse gets for a span in which the process used so much CPU.
func (w *wallClock) income(elapsed, used time.Duration) time.Duration {
	return time.Duration(wallShare * max(float64(used)*budgetShare, float64(elapsed)*budgetFloor))
}

// settle puts the income into the purse and takes out what a sample cost.
func (w *wallClock) settle(cost, income time.Duration) {
	w.purse = min(w.purse+income, max(wallSaving, 2*w.cost)) - cost
	w.cost = max(cost, (3*w.cost+cost)/4)
}

// pause returns how long to wait until the purse covers another sample, at the income that it had over elapsed.
func (w *wallClock) pause(elapsed, income time.Duration) time.Duration {
	short := w.cost - w.purse
	if short <= 0 {
		return wallEvery
	}
	if income <= 0 {
		return wallSeldom
	}
	return min(max(time.Duration(float64(elapsed)*float64(short)/float64(income)), wallEvery), wallSeldom)
}

// captureWall writes what was sampled since the last capture to the recorder's buffer.
func (r *recorder) captureWall(w *draft, start, end time.Time) (int, error) {
	lost := r.wall.samples.Lost
	samples, err := r.wall.samples.Capture(r.enc, &r.buf, start, end)
	if err != nil {
		return 0, err
	}
	r.wall.from = end
	switch {
	case r.wall.why != "":
		w.skipped[string(Wall)] = r.wall.why
	case lost > 0:
		w.skipped[string(Wall)] = "in part: more stacks than fit, " + strconv.FormatInt(lost, 10) + " samples left out"
	}
	r.wall.why = ""
	return samples, nil
}

// jittered returns d give or take a quarter: samples must not keep step with what the program does regularly.
func jittered(d time.Duration) time.Duration { return d - d/4 + rand.N(d/2+1) }
