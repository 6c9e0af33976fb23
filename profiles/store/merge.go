package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// Merge adds up all profiles that q selects. What is over the limits of a query is a *LimitError.
func (s *Store) Merge(ctx context.Context, q Query) (*profiles.Stacks, error) {
	if q.To <= q.From {
		return nil, fmt.Errorf("merge profiles: range [%d, %d) is empty", q.From, q.To)
	}
	began := time.Now()
	defer func() { s.metrics.querySeconds.Observe(time.Since(began).Seconds()) }()
	b := s.newBudget()
	defer b.done()
	var m *merger
	leftOut, err := s.visit(ctx, q, func() { m = newMerger(s, &q, b) }, func(f *file, ds *dataset) error { return m.scan.dataset(ctx, f, ds) })
	var out *profiles.Stacks
	if err == nil {
		out, err = m.result(ctx)
	}
	if err == nil {
		out.Stats.Unreadable = leftOut
	}
	if err != nil {
		return nil, fmt.Errorf("merge profiles: %w", err)
	}
	return out, nil
}

// merger adds up the rows of one query, stack by stack. Not safe for concurrent use.
type merger struct {
	scan  *scan
	store *Store
	parts []*mergePart
	adder adder
}

// mergePart is what was added of one lexicon's stacks: mostly there is one.
type mergePart struct {
	lexicon *lexicon
	filter  stackFilter
	cells   []int128 // by stack id of the lexicon
}

func newMerger(s *Store, q *Query, b *budget) *merger {
	m := &merger{store: s, scan: newScan(s, q, b)}
	m.scan.sink = m
	return m
}

func (m *merger) wantsHeads() bool { return false }

func (m *merger) head(labels.Labels, uint32, tally) error { return nil }

// part returns the part of the lexicon that numbers ds's stacks now.
func (m *merger) part(ds *dataset) *mergePart {
	lex := m.store.lexicons.get(ds.info.Service)
	for _, p := range m.parts {
		if p.lexicon == lex {
			return p
		}
	}
	p := &mergePart{lexicon: lex, filter: newStackFilter(m.scan.q, nil)}
	m.parts = append(m.parts, p)
	return p
}

func (m *merger) rows(ctx context.Context, f *file, ds *dataset, tasks []task) error {
	return m.add(ctx, f, ds, tasks, 1)
}

// add adds tasks to cells of which each stack has width.
func (m *merger) add(ctx context.Context, f *file, ds *dataset, tasks []task, width int) error {
	p, b := m.part(ds), m.scan.budget
	stacks, err := f.lexiconStacks(ctx, b, ds, p.lexicon)
	if err != nil {
		return err
	}
	view := p.lexicon.snapshot()
	if p.cells, err = grow(b, p.cells, len(view.Stacks)*width, 16); err != nil {
		return err
	}
	if stacks, err = p.filter.bases(b, p.lexicon, view, stacks, uint32(width)); err != nil {
		return err
	}
	m.adder.cells, m.adder.samples = p.cells, 0
	err = m.adder.run(ctx, b, f, tasks, func(labels.Labels) ([]uint32, error) { return stacks, nil })
	m.scan.stats.Samples += m.adder.samples
	return err
}

// run reads tasks and adds them up. base returns the bases of the stacks of sources with the labels.
func (a *adder) run(ctx context.Context, b *budget, f *file, tasks []task, base func(labels.Labels) ([]uint32, error)) error {
	a.file = f
	do := func(t *task, bytes []byte) error {
		err := b.check(ctx)
		if err == nil {
			t.sel.base, err = base(t.labels)
		}
		if err != nil {
			return err
		}
		if t.group == nil {
			return a.addSpans(t.chunk, bytes, &t.sel, t.spans)
		}
		return a.addGroup(t.chunk, t.group, bytes, &t.sel)
	}
	// What is in memory needs no reading.
	var rest []*task
	for i := range tasks {
		t := &tasks[i]
		if t.group == nil || f.cached(t.group.stacks) == nil || f.cached(t.group.columns[t.sel.place]) == nil {
			rest = append(rest, t)
		} else if err := do(t, nil); err != nil {
			return err
		}
	}
	slices.SortFunc(rest, func(x, y *task) int { return cmp.Compare(x.span().at, y.span().at) })
	spans := make([]span, len(rest))
	for i, t := range rest {
		spans[i] = t.span()
	}
	return f.each(ctx, spans, func(i int, bytes []byte) error { return do(rest[i], bytes) })
}

// result returns what was added. Of one service it shares the snapshot of the lexicon; several are brought together in a table of what is not zero.
func (m *merger) result(ctx context.Context) (*profiles.Stacks, error) {
	m.store.trimLexicons()
	q, b := m.scan.q, m.scan.budget
	r := &profiles.Stacks{Type: q.Type, Start: q.From, End: q.To, Stats: m.scan.stats}
	r.Type.Unit = m.scan.typeUnit()
	r.Stats.Series = len(m.scan.series)
	var cells []int128
	switch len(m.parts) {
	case 0:
		r.Symbols = profiles.NewSymbols()
	case 1:
		r.Symbols, cells = m.parts[0].lexicon.snapshot(), m.parts[0].cells
	default:
		r.Symbols = profiles.NewSymbols()
		for _, p := range m.parts {
			var err error
			if cells, err = fold(ctx, b, r.Symbols, cells, p); err != nil {
				return nil, err
			}
		}
	}
	if err := b.take(int64(countNonZero(cells)) * 12); err != nil {
		return nil, err
	}
	collect(r, cells, r.Type.Kind() == profiles.Gauge, q.To-q.From)
	return r, nil
}

// typeUnit returns the unit of the column that was merged.
func (s *scan) typeUnit() string {
	if s.q.Type.Unit != "" {
		return s.q.Type.Unit
	}
	return s.unit
}

func countNonZero(cells []int128) (n int) {
	for _, v := range cells {
		if !v.IsZero() {
			n++
		}
	}
	return n
}

// collect fills r from cells, those of a gauge divided by width.
func collect(r *profiles.Stacks, cells []int128, gauge bool, width int64) {
	n := countNonZero(cells)
	r.IDs, r.Values = make([]uint32, 0, n), make([]int64, 0, n)
	for id, t := range cells {
		if t.IsZero() {
			continue
		}
		v, cut := int64(0), false
		if gauge {
			v, cut = t.DivRound(width)
		} else {
			v, cut = t.Int64()
		}
		r.Stats.Saturated = r.Stats.Saturated || cut
		if v != 0 {
			r.IDs, r.Values = append(r.IDs, uint32(id)), append(r.Values, v)
		}
	}
}

// fold adds the stacks of p to cells, whose stacks are those of syms.
func fold(ctx context.Context, b *budget, syms *profiles.Symbols, cells []int128, p *mergePart) ([]int128, error) {
	ids, err := addUsed(ctx, b, syms, p.lexicon.snapshot(), func(id uint32) bool { return int(id) < len(p.cells) && !p.cells[id].IsZero() })
	if err != nil {
		return nil, err
	}
	if cells, err = grow(b, cells, len(syms.Stacks), 16); err != nil {
		return nil, err
	}
	for id, v := range p.cells {
		if !v.IsZero() {
			cells[ids[id]] = cells[ids[id]].Add(v)
		}
	}
	return cells, nil
}

// addUsed interns the stacks of view that are in use in syms, which is the query's.
func addUsed(ctx context.Context, b *budget, syms, view *profiles.Symbols, used func(id uint32) bool) ([]uint32, error) {
	var stop error
	calls, before := 0, lexiconBytes(syms)
	ids := syms.AddStacks(view, func(id uint32) bool {
		if stop != nil || !used(id) {
			return false
		}
		if calls++; calls%256 == 0 {
			if stop = b.check(ctx); stop == nil {
				now := lexiconBytes(syms)
				stop = b.take(now - before)
				before = now
			}
		}
		return stop == nil
	})
	return ids, stop
}
