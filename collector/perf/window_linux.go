package perf

import (
	"fmt"
	"time"
)

// startWindow begins a window: sampled or not, at the rate of the moment.
func (l *loop) startWindow(now time.Time) {
	hz, every := l.gov.rate()
	l.winNumber++
	l.winStart, l.times = now, every
	l.on = l.winNumber%every == 0
	l.hz = hz
	l.switchEvents()
	for _, w := range l.watches {
		w.winStart = now
	}
}

// switchEvents sets the events to what the window, and the captures that run, need.
func (l *loop) switchEvents() {
	capturing := false
	var cpu, off [][]int
	for _, w := range l.watches {
		capturing = capturing || len(w.captures) > 0
		if len(w.fds) > 0 {
			cpu = append(cpu, w.fds)
		}
		if len(w.offFDs) > 0 {
			off = append(off, w.offFDs)
		}
	}
	l.cpu.period(uint64(1e9/l.hz), cpu)
	l.cpu.enable(l.on || capturing, cpu)
	if l.off != nil {
		l.off.period(uint64(l.s.cfg.Hz/l.hz), off) // the rate was halved: of the switches take half as many too
		l.off.enable(l.on || capturing, off)
	}
}

// endWindow hands over what was sampled, and measures what it cost. At the last one nothing is left out that had no room.
func (l *loop) endWindow(now time.Time, last bool) {
	l.offs.cut(monotonic(), l.addOff)
	for pid, w := range l.watches {
		if last {
			for _, c := range w.captures {
				c.until = now
			}
			l.endCaptures(w, now)
			l.flush(w, now, stateOf(pid, w.start) == gone)
			l.cpu.shut(w.fds)
			if l.off != nil {
				l.off.shut(w.offFDs)
			}
			l.audit(pid, w, now, "the sampler stops")
			l.s.progs.release(w.prog)
			delete(l.watches, pid)
			continue
		}
		l.flush(w, now, false)
		// Records of an exit may have been lost.
		w.leaving = w.leaving || stateOf(pid, w.start) != running
	}
	cpu := threadCPU() + time.Duration(l.s.work.Load())
	spent := cpu - l.cpuBefore
	l.cpuBefore = cpu
	l.stats.CPU += spent
	l.s.met.cpu.Add(spent.Seconds())
	l.gov.window(spent, now.Sub(l.winStart))
	l.publish()
}

// flush hands what was sampled of a process to the naming goroutine.
func (l *loop) flush(w *watch, now time.Time, exited bool) {
	w.window++
	bytes := w.cpu.bytes + w.off.bytes
	j := &job{pid: w.target.PID, target: w.target, prog: w.prog, exe: w.exe, maps: w.maps, epoch: w.epoch, window: w.window, start: w.winStart, end: now,
		period: int64(1e9 / l.hz), times: max(w.target.Weight, 1) * int64(l.times), cpu: w.cpu.take(), off: w.off.take(), bytes: bytes, exited: exited, status: w.status}
	if len(j.cpu)+len(j.off) > 0 || exited {
		l.hand(j)
	}
	w.winStart = now
}

// hand gives a job to the naming goroutine, which has room for as many as there are processes.
func (l *loop) hand(j *job) {
	l.s.progs.retain(j.prog)
	select {
	case l.jobs <- j:
		return
	default:
	}
	l.s.progs.release(j.prog)
	l.s.heldBytes.Add(-int64(j.bytes))
	if j.reply != nil {
		j.reply <- captured{err: fmt.Errorf("capture %s of %s: too many profiles wait to be named", j.capture, j.target.Process.Instance)}
		return
	}
	n := 0
	for _, values := range [][]stackValue{j.cpu, j.off} {
		if len(values) > 0 {
			n++
		}
	}
	l.s.gap(j, "queue", n)
}

// startCapture begins a capture on demand.
func (l *loop) startCapture(r captureRequest) {
	for _, w := range l.watches {
		if w.target.Process.Instance != r.instance {
			continue
		}
		now := time.Now()
		w.captures = append(w.captures, &recording{kind: r.kind, start: now, until: now.Add(r.d), reply: r.reply})
		l.switchEvents()
		return
	}
	r.reply <- captured{err: fmt.Errorf("capture %s of %s: perf does not watch it", r.kind, r.instance)}
}

// endCaptures ends those captures of w whose time is over.
func (l *loop) endCaptures(w *watch, now time.Time) {
	if len(w.captures) == 0 {
		return
	}
	var left []*recording
	for _, c := range w.captures {
		if c.until.After(now) {
			left = append(left, c)
			continue
		}
		l.hand(&job{pid: w.target.PID, target: w.target, prog: w.prog, exe: w.exe, maps: w.maps, start: c.start, end: now, period: int64(1e9 / l.hz), times: 1,
			cpu: c.cpu.take(), off: c.off.take(), status: w.status, capture: c.kind, reply: c.reply})
	}
	if len(left) == len(w.captures) {
		return
	}
	w.captures = left
	l.switchEvents()
}

// publish shows the figures of the moment.
func (l *loop) publish() {
	l.stats.Events = l.most - l.budget
	l.stats.Watched = len(l.watches)
	l.stats.Hz, l.stats.Every = l.hz, l.times
	l.stats.Lost += l.offs.lost
	l.offs.lost = 0
	m := l.s.met
	l.s.mu.Lock()
	before := l.s.stats
	l.s.stats = l.stats
	l.s.mu.Unlock()
	m.lost.Add(float64(l.stats.Lost - before.Lost))
	m.malformed.Add(float64(l.stats.Malformed - before.Malformed))
	kept := func(s Stats) uint64 { return s.Samples - min(s.Dropped+s.Cut, s.Samples) }
	m.samples.WithLabelValues("dropped").Add(float64(l.stats.Dropped - before.Dropped))
	m.samples.WithLabelValues("cut").Add(float64(l.stats.Cut - before.Cut))
	m.samples.WithLabelValues("kept").Add(float64(max(kept(l.stats), kept(before)) - kept(before)))
	m.watched.Set(float64(len(l.watches)))
	m.events.Set(float64(l.stats.Events))
	m.rate.Set(float64(l.hz) / float64(l.times))
}
