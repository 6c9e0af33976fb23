package perf

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// request asks for a process to be opened. A target that finds no room is tried again.
func (l *loop) request(pid int, t *Target) bool {
	if _, ok := l.pending[pid]; ok {
		return true
	}
	if len(l.watches)+len(l.pending) >= l.s.cfg.MaxProcesses {
		if t != nil {
			l.refuse(pid, *t, 0, "limit", fmt.Sprintf("%d processes are watched already", l.s.cfg.MaxProcesses))
		}
		return false
	}
	select {
	case l.requests <- openRequest{pid, t}:
		l.pending[pid] = nil
		return true
	default:
		if t != nil {
			l.retry = append(l.retry, pid)
		}
		return false
	}
}

// refuse notes that a target cannot be watched, once.
func (l *loop) refuse(pid int, t Target, start uint64, cause, reason string) {
	l.s.met.refused.WithLabelValues(cause).Inc()
	if cause != "limit" {
		l.refused[pid] = start
	}
	l.s.mu.Lock()
	before := l.s.tallies[pid]
	l.s.tallies[pid] = &tally{status: Status{Instance: t.Process.Instance, PID: pid, Service: t.Process.Service, Mode: l.s.mode, State: "refused", Reason: reason, Since: time.Now()}}
	l.s.mu.Unlock()
	if before == nil || before.status.Reason != reason {
		l.s.log.Info("perf cannot watch a process", "pid", pid, "service", t.Process.Service, "exe", t.Process.Exe, "reason", reason)
	}
}

// install takes over what an opener found.
func (l *loop) install(a opened) {
	waiting := l.pending[a.pid]
	delete(l.pending, a.pid)
	if _, ok := l.execed[a.pid]; ok {
		delete(l.execed, a.pid)
		l.stats.Dropped += uint64(len(waiting))
		if a.w != nil {
			l.s.progs.release(a.w.prog)
		}
		if t, ok := l.targets[a.pid]; ok {
			l.request(a.pid, &t)
		}
		return
	}
	switch {
	case a.cause == "gone":
		l.stats.EndedEarly++
		l.s.met.endedEarly.Inc()
		l.stats.Dropped += uint64(len(waiting))
		return
	case a.ignore:
		l.stats.Dropped += uint64(len(waiting))
		if len(l.ignored) >= maxIgnored {
			clear(l.ignored)
		}
		if t, ok := l.targets[a.pid]; ok && a.cause == "" { // it became one meanwhile
			l.request(a.pid, &t)
			return
		}
		l.ignored[a.pid] = struct{}{}
		return
	case a.w == nil:
		l.stats.Dropped += uint64(len(waiting))
		if t, ok := l.targets[a.pid]; ok {
			l.refuse(a.pid, t, a.start, a.cause, a.reason)
		} else {
			l.refused[a.pid] = a.start
			l.s.met.refused.WithLabelValues(a.cause).Inc()
		}
		return
	}
	w := a.w
	if t, ok := l.targets[a.pid]; ok && w.dynamic {
		w.target, w.dynamic = t, false
	}
	if err := l.openFor(a.pid, w); err != nil {
		l.shut(a.pid, w)
		l.s.progs.release(w.prog)
		cause, reason := l.whyNot(err)
		if cause == "gone" {
			l.stats.EndedEarly++
			return
		}
		l.refuse(a.pid, w.target, a.start, cause, reason)
		return
	}
	l.begin(a.pid, w)
	for i := range waiting {
		l.addCPU(w, &waiting[i].r)
	}
	w.leaving = stateOf(a.pid, w.start) != running
}

// openFor opens the events of a process where the mode wants it.
func (l *loop) openFor(pid int, w *watch) (err error) {
	switch l.s.mode {
	case ModeProcess:
		if _, ok := l.covered[pid]; ok {
			return nil
		}
		inherited := func(tid int) bool {
			l.drain(time.Now())
			_, ok := l.forked[tid]
			return ok
		}
		clear(l.forked)
		if w.fds, err = l.cpu.addProcess(pid, inherited); err == nil && l.off != nil {
			w.offFDs, err = l.off.addProcess(pid, func(tid int) bool { return false })
		}
	case ModeCgroup:
		dir, err := perfCgroup(pid)
		if err != nil {
			return err
		}
		if err := l.cpu.addCgroup(dir); err != nil {
			return err
		}
		if l.off != nil {
			return l.off.addCgroup(dir)
		}
	}
	return err
}

// shut closes the events of a process. Children that had inherited them get their own.
func (l *loop) shut(pid int, w *watch) {
	if len(w.fds) == 0 {
		return
	}
	l.cpu.shut(w.fds)
	if l.off != nil {
		l.off.shut(w.offFDs)
	}
	w.fds, w.offFDs = nil, nil
	for child, owner := range l.covered {
		if owner != pid {
			continue
		}
		delete(l.covered, child)
		if c := l.watches[child]; c != nil && l.openFor(child, c) != nil {
			c.leaving = true // it has no events any more; most likely it has ended too
		}
	}
}

// whyNot says why events could not be opened for a process.
func (l *loop) whyNot(err error) (cause, reason string) {
	switch {
	case errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT):
		return "gone", "it ended before its events could be opened"
	case errors.Is(err, errEvents):
		return "limit", fmt.Sprintf("it needs more events than are left: an event for each of its threads on each of %d CPUs, without CAP_PERFMON", len(l.cpu.cpus))
	}
	return "rights", l.s.rights.words("sampling", err)
}

// begin begins a watch.
func (l *loop) begin(pid int, w *watch) {
	now := time.Now()
	var id [8]byte
	rand.Read(id[:])
	w.epoch, w.began, w.winStart = hex.EncodeToString(id[:]), now, now
	w.status = &tally{status: Status{Instance: w.target.Process.Instance, PID: pid, Service: w.target.Process.Service, Mode: l.s.mode, State: "watching", Since: now}}
	l.watches[pid] = w
	l.s.mu.Lock()
	l.s.tallies[pid] = w.status
	l.s.mu.Unlock()
	p := &w.target.Process
	l.s.log.Info("perf watches a process", "pid", pid, "instance", p.Instance, "service", p.Service, "exe", p.Exe, "build", w.prog.buildID,
		"go", w.prog.table.GoVersion(), "mode", l.s.mode, "events", len(w.fds)+len(w.offFDs))
}

// end ends a watch; what was sampled is appended.
func (l *loop) end(pid int, w *watch, why string) {
	delete(l.watches, pid)
	now := time.Now()
	l.offs.cut(monotonic(), func(x *watch, stack []uint64, count, nanos int64) {
		l.addOff(x, stack, count, nanos)
	})
	l.offs.forget(w)
	for _, c := range w.captures {
		c.until = now
	}
	l.endCaptures(w, now)
	l.flush(w, now, why == "exited")
	l.shut(pid, w)
	l.s.progs.release(w.prog)
	l.s.mu.Lock()
	if l.s.tallies[pid] == w.status {
		delete(l.s.tallies, pid)
	}
	l.s.mu.Unlock()
	l.audit(pid, w, now, why)
}

// audit writes the line of the end of a watch.
func (l *loop) audit(pid int, w *watch, now time.Time, why string) {
	p := &w.target.Process
	l.s.log.Info("perf watches a process no more", "pid", pid, "instance", p.Instance, "service", p.Service, "reason", why, "samples", w.samples,
		"for", now.Sub(w.began).Round(time.Millisecond))
}

// setTargets takes over the targets of the last SetTargets.
func (l *loop) setTargets() {
	l.s.mu.Lock()
	ts := l.s.targets
	l.s.mu.Unlock()
	clear(l.targets)
	for _, t := range ts {
		l.targets[t.PID] = t
		delete(l.ignored, t.PID)
		if start, ok := l.refused[t.PID]; ok && start == t.Process.StartTicks {
			continue
		}
		delete(l.refused, t.PID)
		w := l.watches[t.PID]
		if w != nil && w.start != 0 && t.Process.StartTicks != 0 && w.start != t.Process.StartTicks {
			l.end(t.PID, w, "exited")
			w = nil
		}
		if w != nil {
			if w.target.Weight != t.Weight {
				l.flush(w, time.Now(), false) // what was sampled so far has the old weight
			}
			w.target, w.dynamic, w.missed = t, false, 0
			continue
		}
		l.request(t.PID, &t)
	}
	for pid, w := range l.watches {
		if _, ok := l.targets[pid]; ok {
			continue
		}
		if w.missed++; !w.dynamic || w.missed > 1 {
			if stateOf(pid, w.start) == gone {
				l.end(pid, w, "exited")
			} else {
				l.end(pid, w, "no longer a target")
			}
		}
	}
	l.s.mu.Lock()
	for pid, t := range l.s.tallies {
		if _, ok := l.targets[pid]; !ok && t.status.State == "refused" {
			delete(l.s.tallies, pid)
		}
	}
	l.s.mu.Unlock()
	for pid := range l.refused {
		if _, ok := l.targets[pid]; !ok && l.s.cfg.Describe == nil {
			delete(l.refused, pid)
		}
	}
	l.keepCgroups()
}

// keepCgroups closes the events of cgroups in which nothing is watched any more.
func (l *loop) keepCgroups() {
	if l.s.mode != ModeCgroup {
		return
	}
	var dirs []string
	for pid := range l.watches {
		if dir, err := perfCgroup(pid); err == nil && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	l.cpu.keepCgroups(dirs)
	if l.off != nil {
		l.off.keepCgroups(dirs)
	}
}
