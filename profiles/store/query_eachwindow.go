package store

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// Window is what a query selects of one window of time.
type Window struct {
	Start     int64 // Unix ms; of the first one it may lie before the range
	CoveredMs int64 // Σ of the intervals of the profiles that start in the window and in the range
	Profiles  int
	Stacks    *profiles.Stacks // of the profiles that start in the window and in the range; a gauge's mean is over that part of the window
}

// maxWindowCells bounds the cells that EachWindow adds up at a time, 16 bytes each. It goes over the blocks once for as many windows as fit.
const maxWindowCells = 2 << 20

// EachWindow calls fn for each window of width ms, aligned to the epoch, of the range of q, in order; also for those without profiles. Stacks are valid until fn returns. It stops where fn
// fails. width is a minute at least. What is over the limits of a query is a *LimitError.
func (s *Store) EachWindow(ctx context.Context, q Query, width int64, fn func(w Window) error) error {
	first := windowStart(q.From, max(width, 1))
	n := (q.To - first + max(width, 1) - 1) / max(width, 1)
	if q.To <= q.From || width < 60_000 || n > maxPoints {
		return fmt.Errorf("merge windows: range [%d, %d) in windows of %d ms: want 1 to %d windows of a minute at least", q.From, q.To, width, maxPoints)
	}
	b := s.newBudget()
	defer b.done()
	// How many windows fit depends on the stacks that there are.
	stacks := 1
	_, err := s.visit(ctx, q, func() { stacks = 1 }, func(f *file, ds *dataset) error {
		lex := s.lexicons.get(ds.info.Service)
		_, err := f.lexiconStacks(ctx, b, ds, lex)
		stacks = max(stacks, len(lex.snapshot().Stacks))
		return err
	})
	step := int64(max(1, maxWindowCells/stacks))
	for at := int64(0); at < n && err == nil; at += step {
		from, to := first+at*width, first+min(at+step, n)*width
		part := q
		part.From, part.To = max(q.From, from), min(q.To, to)
		held := b.memory
		err = s.windows(ctx, b, &part, from, width, int((to-from)/width), fn)
		b.memory = held // what the part held is garbage
	}
	if err != nil {
		return fmt.Errorf("merge windows: %w", err)
	}
	return nil
}

// windows calls fn for n windows, the first of which starts at from.
func (s *Store) windows(ctx context.Context, b *budget, q *Query, from, width int64, n int, fn func(w Window) error) error {
	var a *windowAdder
	start := func() {
		a = &windowAdder{merger: newMerger(s, q, b), covered: make([]int64, n), profiles: make([]int, n)}
		a.scan.sink, a.scan.slots = a, n
		if n > 1 {
			a.scan.origin, a.scan.step = from, width
		}
	}
	leftOut, err := s.visit(ctx, *q, start, func(f *file, ds *dataset) error { return a.scan.dataset(ctx, f, ds) })
	if err != nil {
		return err
	}
	syms, ids, err := a.join(ctx)
	if err != nil {
		return err
	}
	cells := make([]int128, len(syms.Stacks))
	for w := range n {
		clear(cells)
		for i, p := range a.parts {
			for id := range len(p.cells) / n {
				if v := p.cells[id*n+w]; !v.IsZero() {
					to := uint32(id)
					if ids != nil {
						to = ids[i][id]
					}
					cells[to] = cells[to].Add(v)
				}
			}
		}
		lo := from + int64(w)*width
		r := &profiles.Stacks{Type: q.Type, Symbols: syms, Start: max(lo, q.From), End: min(lo+width, q.To)}
		r.Type.Unit = a.scan.typeUnit()
		r.Stats.Profiles, r.Stats.CoveredMs, r.Stats.Period, r.Stats.Unreadable = a.profiles[w], a.covered[w], a.scan.stats.Period, leftOut
		collect(r, cells, r.Type.Kind() == profiles.Gauge, r.End-r.Start)
		if err := b.check(ctx); err != nil {
			return err
		}
		if err := fn(Window{Start: lo, CoveredMs: a.covered[w], Profiles: a.profiles[w], Stacks: r}); err != nil {
			return err
		}
	}
	return nil
}

// windowAdder is a merger whose stacks have a cell for each window.
type windowAdder struct {
	*merger
	covered  []int64
	profiles []int
}

func (a *windowAdder) head(_ labels.Labels, slot uint32, t tally) error {
	a.covered[slot] += t.length
	a.profiles[slot] += int(t.profiles)
	return nil
}

func (a *windowAdder) rows(ctx context.Context, f *file, ds *dataset, tasks []task) error {
	return a.merger.add(ctx, f, ds, tasks, len(a.covered))
}

// join finds one table for all parts, and where the stacks of each are in it (nil: at the same place).
func (a *windowAdder) join(ctx context.Context) (*profiles.Symbols, [][]uint32, error) {
	switch len(a.parts) {
	case 0:
		return profiles.NewSymbols(), nil, nil
	case 1:
		return a.parts[0].lexicon.snapshot(), nil, nil
	}
	syms := profiles.NewSymbols()
	var ids [][]uint32
	for _, p := range a.parts {
		n := len(a.covered)
		of, err := addUsed(ctx, a.scan.budget, syms, p.lexicon.snapshot(), func(id uint32) bool {
			return (int(id)+1)*n <= len(p.cells) && countNonZero(p.cells[int(id)*n:(int(id)+1)*n]) > 0
		})
		if err != nil {
			return nil, nil, err
		}
		ids = append(ids, of)
	}
	return syms, ids, nil
}
