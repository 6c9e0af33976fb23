package scrape

import (
	"time"
)

// turnOf reports whether a profile of type ty that starts at the given time is taken of this target, and with which weight.
func (l *loop) turnOf(ty string, at time.Time) (active bool, weight int64) {
	if l.m.cfg.Rotate == nil {
		return true, 1
	}
	return l.m.cfg.Rotate(l.t.Process.Labels).Turn(ty, l.t.Instance, at)
}

// wait passes a turn over that is others', and reports whether it did. The next is at the target's usual time of a slot, which may be its own.
func (l *loop) wait(now time.Time) bool {
	active, _ := l.turnOf("cpu", now)
	if !active {
		l.scheduleCPU(now, l.every())
	}
	return !active
}

// due reports whether type ty is to be captured now. An interval belongs to the slot in which it starts: the one that is under way when the turn ends is finished, and what was
// before a turn begins is no part of it.
func (l *loop) due(ty string, ts *typeState, now time.Time) bool {
	if active, _ := l.turnOf(ty, now); active {
		return true
	}
	if began, _ := l.turnOf(ty, ts.last); began && !ts.last.IsZero() {
		return true
	}
	ts.last = time.Time{}
	return false
}
