package agent

import (
	"hash/fnv"
	"slices"
	"time"
)

// The bounds of rotation. A weight is the number of groups.
const (
	maxGroups = 10_000
	minSlot   = time.Second
	maxSlot   = 24 * time.Hour
)

// turn is what rotation makes of a moment: the types that wait for their turn, the weight of those whose turn it is, and when it changes.
type turn struct {
	rotated []Type
	mine    bool
	weight  int64
	until   time.Time
}

// at returns the turn of instance at now: its slot is the one whose number, modulo the groups, is the instance's hash. Rotation with
// one group, no types or values out of bounds is none.
func (r *rotate) at(instance string, now time.Time) (turn, bool) {
	if r == nil || r.Groups < 2 || r.Groups > maxGroups || r.SlotMS < minSlot.Milliseconds() || r.SlotMS > maxSlot.Milliseconds() || len(r.Types) == 0 {
		return turn{}, false
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(instance)) // a hash takes everything
	slot := now.UnixMilli() / r.SlotMS
	return turn{rotated: r.Types, weight: r.Groups, until: time.UnixMilli((slot + 1) * r.SlotMS),
		mine: uint64(slot)%uint64(r.Groups) == h.Sum64()%uint64(r.Groups)}, true
}

// apply takes away the types that wait for their turn, and weighs the others.
func (t turn) apply(p *plan) {
	if !t.mine {
		p.types = slices.DeleteFunc(slices.Clone(p.types), func(typ Type) bool { return slices.Contains(t.rotated, typ) })
		p.waiting = t.rotated
	} else {
		p.rotated, p.weight = t.rotated, t.weight
	}
	if p.until.IsZero() || t.until.Before(p.until) {
		p.until = t.until
	}
}

// weightOf returns the weight of t's profiles; 0 where they stand for this instance alone.
func (p plan) weightOf(t Type) int64 {
	if slices.Contains(p.rotated, t) {
		return p.weight
	}
	return 0
}

// turns captures what the running turn has of the types whose turn ends at now, or whose weight changes: their intervals end with the slot, not
// with the window. The bytes go out with the window, so that a fleet does not send all at once when a slot ends.
func (r *recorder) turns(now time.Time, next plan) {
	if !r.plan.enabled || !next.enabled {
		return
	}
	for _, t := range r.plan.types {
		ends := !next.takes(t) && slices.Contains(next.waiting, t)
		if !ends && (!next.takes(t) || next.weightOf(t) == r.plan.weightOf(t)) {
			continue
		}
		if r.early == nil {
			r.early = &draft{skipped: map[string]string{}}
		}
		r.take(r.early, t, true)
		delete(r.last, t)
	}
}

// merge puts into w what was captured before the window's end. A type can come twice, with two weights: its parts have different names.
func (w *draft) merge(early *draft) {
	if early == nil {
		return
	}
	w.entries = append(early.entries, w.entries...)
	w.data = append(early.data, w.data...)
	seen := map[string]bool{}
	for i := range w.entries {
		for e := &w.entries[i]; seen[e.Part]; {
			e.Part += "-next"
		}
		seen[w.entries[i].Part] = true
	}
	for t, why := range early.skipped {
		if _, has := w.skipped[t]; !has {
			w.skipped[t] = why
		}
	}
}
