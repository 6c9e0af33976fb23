package perf

import "slices"

// Limits of what is kept of threads off the CPU. Records beyond them are counted as lost.
const (
	maxBlocked    = 1 << 16 // threads
	maxOffPending = 1 << 16 // records that wait for those of other CPUs
)

// offCPU pairs the moments at which threads leave the CPU, with the stack that they leave with, and come back, which other CPUs' rings tell.
type offCPU struct {
	pending []offEvent
	blocked map[uint32]blockedThread // by thread
	lost    uint64
}

type offEvent struct {
	time  uint64
	tid   uint32
	w     *watch   // nil: the thread is back
	stack []uint64 // leaf first
	n     uint64   // switches that it stands for
}

type blockedThread struct {
	since uint64
	w     *watch
	stack []uint64
	n     uint64
}

// out is told that a thread left the CPU.
func (o *offCPU) out(w *watch, r *record, stack []uint64) {
	o.push(offEvent{time: r.time, tid: r.tid, w: w, stack: slices.Clone(stack), n: r.period})
}

// in is told that a thread is on a CPU.
func (o *offCPU) in(r *record) { o.push(offEvent{time: r.time, tid: r.tid}) }

func (o *offCPU) push(e offEvent) {
	if len(o.pending) >= maxOffPending {
		o.lost++
		return
	}
	o.pending = append(o.pending, e)
}

// settle pairs what happened up to the time, and calls add with what each stay off the CPU stands for.
func (o *offCPU) settle(until uint64, add func(w *watch, stack []uint64, count, nanos int64)) {
	slices.SortStableFunc(o.pending, func(a, b offEvent) int {
		switch {
		case a.time < b.time:
			return -1
		case a.time > b.time:
			return 1
		}
		return 0
	})
	done := 0
	for ; done < len(o.pending) && o.pending[done].time <= until; done++ {
		e := o.pending[done]
		was, away := o.blocked[e.tid]
		if away {
			add(was.w, was.stack, 0, int64((e.time-was.since)*was.n))
			delete(o.blocked, e.tid)
		}
		if e.w == nil {
			continue
		}
		add(e.w, e.stack, int64(e.n), 0)
		if o.blocked == nil {
			o.blocked = map[uint32]blockedThread{}
		}
		if len(o.blocked) >= maxBlocked {
			o.lost++
			continue
		}
		o.blocked[e.tid] = blockedThread{e.time, e.w, e.stack, e.n}
	}
	o.pending = slices.Delete(o.pending, 0, done)
}

// cut counts what the threads that are away have been away for, up to the time: the rest belongs to the next window.
func (o *offCPU) cut(now uint64, add func(w *watch, stack []uint64, count, nanos int64)) {
	for tid, b := range o.blocked {
		if b.since < now {
			add(b.w, b.stack, 0, int64((now-b.since)*b.n))
			b.since = now
			o.blocked[tid] = b
		}
	}
}

// forget drops the threads of a process that ended.
func (o *offCPU) forget(w *watch) {
	for tid, b := range o.blocked {
		if b.w == w {
			delete(o.blocked, tid)
		}
	}
	o.pending = slices.DeleteFunc(o.pending, func(e offEvent) bool { return e.w == w })
}
