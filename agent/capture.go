package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
)

// capture takes the running window's profiles and queues it. The last window takes every type, whatever the budget says.
func (r *recorder) capture(now time.Time, final bool) {
	r.budget.refill(now, cputime.Process())
	r.settle()
	win := r.window(now, func(Type) bool { return final })
	if win == nil {
		return
	}
	if final {
		if err := win.tell(r.a.ended(now)); err != nil {
			r.a.say("window", "sonde agent: the end is not told", "err", err)
		}
	}
	r.a.up.push(win)
}

// window takes the running window's profiles and encodes it; nil where that failed. A type that must be taken is so whatever the budget says.
func (r *recorder) window(now time.Time, must func(Type) bool) *window {
	w := &draft{start: r.start, skipped: map[string]string{}}
	if r.plan.enabled {
		for _, t := range r.plan.types {
			r.take(w, t, must(t))
		}
	}
	w.merge(r.early)
	r.early = nil
	r.takeMetrics(w, must(metricsPart))
	for _, t := range r.plan.waiting {
		if _, has := w.skipped[string(t)]; !has && r.plan.enabled {
			w.skipped[string(t)] = "another instance's turn"
		}
	}
	r.enc.Rest()
	r.num++
	for t := range w.skipped {
		r.skips[Type(t)]++
	}
	w.cost, r.total, r.cost = r.cost, r.total+r.cost, 0
	return r.a.seal(r.num, now, w)
}

// take captures t into w, or says there why not.
func (r *recorder) take(w *draft, t Type, must bool) {
	reason := ""
	fn := func() error { return r.captureType(w, t) }
	if t == CPU {
		fn = func() error { return r.captureCPU(w, must) }
	} else {
		reason = r.skip(t, must)
	}
	if reason != "" {
		w.skipped[string(t)] = reason
	} else if err := r.pay(t, fn); err != nil {
		w.skipped[string(t)] = err.Error()
	}
}

// draft is a window while its profiles are taken.
type draft struct {
	start   time.Time
	entries []entry
	data    [][]byte
	skipped map[string]string
	metrics []byte        // gzipped; nil: none
	cost    time.Duration // of the agent since the previous window
}

func (w *draft) add(t Type, weight int64, start, end time.Time, data []byte) {
	w.entries = append(w.entries, entry{Part: string(t), Type: t, Start: start.UnixMilli(), End: max(end.UnixMilli(), start.UnixMilli()+1), Weight: weight})
	w.data = append(w.data, data)
}

// skip returns why t is not captured now; empty: it is.
func (r *recorder) skip(t Type, final bool) string {
	if _, ok := r.last[t]; !ok {
		if err := r.lacking[t]; err != nil {
			return err.Error()
		}
		return "no baseline"
	}
	if t == Heap && runtime.MemProfileRate == 0 {
		return "runtime.MemProfileRate is 0"
	}
	if t == Goroutine {
		if n := runtime.NumGoroutine(); final && n <= r.a.cfg.MaxGoroutines {
			return ""
		}
		if reason := r.goroutineSkip(); reason != "" {
			return reason
		}
	}
	if !final && !r.budget.affords(t) {
		return "over budget"
	}
	return ""
}

// captureCPU takes the CPU profile. One that the budget does not cover goes on into the next window: cutting it is what costs.
func (r *recorder) captureCPU(w *draft, final bool) error {
	if !final && !r.budget.affords(CPU) {
		w.skipped[string(CPU)] = "over budget"
		return nil
	}
	if r.tap != nil {
		// Below the runtime's rate the next slice begins elsewhere in the next window.
		if final || r.plan.rate < runtimeCPURate {
			r.closeTap()
		} else {
			r.piece.add(cpu.take(r.tap))
		}
	}
	p := r.piece
	r.piece = cpuPiece{}
	busy := p.busy || r.cpuBusy
	r.cpuBusy = false
	data, err := p.profile()
	if err == nil && data != nil {
		data, err = r.scrub.scrub(data)
	}
	switch {
	case err != nil:
		return err
	case data != nil:
		w.add(CPU, r.plan.weightOf(CPU), p.from, p.to, data)
		if busy {
			w.skipped[string(CPU)] = "in part: " + errBusy.Error()
		}
	case busy:
		w.skipped[string(CPU)] = errBusy.Error()
	}
	return nil
}

// keepBytes is the most that a buffer may hold between two windows.
const keepBytes = 128 << 10

// captureType takes one profile of a type other than CPU. A profile without samples is left out: mutex and block have none
// where the program sets no rate.
func (r *recorder) captureType(w *draft, t Type) error {
	start, end := r.last[t], time.Now()
	r.buf.Reset()
	samples := 1
	var err error
	switch t {
	case Heap:
		samples, err = r.heap.Capture(r.enc, &r.buf, start, end)
	case Mutex, Block:
		samples, err = r.locks[t].Capture(r.enc, &r.buf, start, end)
	case Goroutine:
		err = pprof.Lookup("goroutine").WriteTo(&r.buf, 0)
		r.waited = 0
	case Wall:
		start, end = r.wall.from, r.wall.at
		samples, err = r.captureWall(w, start, end)
	}
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	r.last[t] = end
	if samples == 0 {
		return nil
	}
	data := r.buf.Bytes()
	if t == Goroutine {
		if data, err = r.scrub.scrub(data); err != nil {
			return err
		}
	}
	w.add(t, r.plan.weightOf(t), start, end, bytes.Clone(data))
	if r.buf.Cap() > keepBytes {
		r.buf = bytes.Buffer{}
	}
	return nil
}

// seal encodes a window; nil where it cannot be, which is counted.
func (a *Agent) seal(num uint64, end time.Time, d *draft) *window {
	a.mu.Lock()
	raw, hash := a.process, a.processHash
	var process json.RawMessage
	if a.sentHash != hash {
		process, a.sentHash = raw, hash
	}
	a.mu.Unlock()
	m := meta{
		V: 1, Instance: a.instance, Window: num, Start: d.start.UnixMilli(), End: max(end.UnixMilli(), d.start.UnixMilli()+1), ProcessHash: hash, Process: process,
		Profiles: d.entries,
		Stats: stats{WindowsDropped: a.up.dropped.Load(), WindowsFailed: a.up.failed.Load(), CaptureCPUms: d.cost.Milliseconds(),
			LabelsStripped: a.stripped.Load() + uint64(a.rec.scrub.stripped) + strippedInDo.Load() - a.strippedBefore, Skipped: d.skipped},
	}
	if m.Profiles == nil {
		m.Profiles = []entry{}
	}
	data := d.data
	if d.metrics != nil {
		m.Metrics, data = metricsPart, append(data, d.metrics)
	}
	w, err := newWindow(m, raw, data, a.boundary)
	if err != nil {
		a.up.failed.Add(1)
		a.say("window", "sonde agent: window lost", "err", err)
		return nil
	}
	return w
}
