package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// restLabel marks the series that adds up what is beyond SeriesQuery.Top.
const restLabel = "__rest__"

// maxPoints bounds the points of one series that a query may ask for.
const maxPoints = 100_000

// maxAllPoints bounds the points of all series of a query together, those that end in the rest included: 64 MiB while they are added up.
const maxAllPoints = 4 << 20

// group is one label group: its cells are those of the steps and one for what is behind the last whole one.
type group struct {
	labels labels.Labels
	at     uint32
	total  int128
}

// Series returns totals over time: of the whole steps of the range (one step, shorter, where the range is shorter than that), the largest totals
// first. A Total is over the whole range. More points than memory should be given to, and what is over the limits of a query, are a *LimitError.
func (s *Store) Series(ctx context.Context, q SeriesQuery) ([]Series, error) {
	if q.Estimate {
		return s.estimatedSeries(ctx, q)
	}
	n := int64(0)
	if q.Step > 0 {
		n = max(1, (q.To-q.From)/q.Step)
	}
	if q.To <= q.From || n <= 0 || n > maxPoints {
		return nil, fmt.Errorf("add up series: range [%d, %d) in steps of %d ms: want 1 to %d steps", q.From, q.To, q.Step, maxPoints)
	}
	b := s.newBudget()
	defer b.done()
	var a *seriesAdder
	leftOut, err := s.visit(ctx, q.Query, func() { a = newSeriesAdder(s, &q, int(n), b) }, func(f *file, ds *dataset) error { return a.scan.dataset(ctx, f, ds) })
	if err != nil {
		return nil, fmt.Errorf("add up series: %w", err)
	}
	s.trimLexicons()
	if q.Stats != nil {
		*q.Stats = a.scan.stats
		q.Stats.Series, q.Stats.Unreadable = len(a.scan.series), leftOut
	}
	return a.finish(), nil
}

// seriesAdder adds up one query's totals by group and step: from heads, or where stacks are selected or sample labels told apart from rows. Not safe for concurrent use.
type seriesAdder struct {
	scan     *scan
	store    *Store
	q        *SeriesQuery
	n        int
	seriesBy []string
	sampleBy []string
	heads    bool // are enough
	groups   map[string]*group
	order    []*group
	filters  map[uint64]*stackFilter // by lexicon
	adder    adder

	lastLabels labels.Labels // of the group found last
	lastGroup  *group
}

func newSeriesAdder(s *Store, q *SeriesQuery, n int, b *budget) *seriesAdder {
	a := &seriesAdder{store: s, q: q, n: n, groups: map[string]*group{}, filters: map[uint64]*stackFilter{}}
	for _, name := range q.By {
		if sample, ok := strings.CutPrefix(name, samplePrefix); ok {
			a.sampleBy = append(a.sampleBy, sample)
		} else {
			a.seriesBy = append(a.seriesBy, name)
		}
	}
	a.scan = newScan(s, &q.Query, b)
	a.scan.sink, a.scan.by = a, a.seriesBy
	filter := newStackFilter(&q.Query, a.sampleBy)
	a.heads = !filter.active() && len(a.scan.spans) == 0
	a.scan.slots = n + 1
	if q.Step < q.To-q.From {
		a.scan.origin, a.scan.step = q.From, q.Step
	}
	return a
}

func (a *seriesAdder) wantsHeads() bool {
	return a.heads
}

func (a *seriesAdder) head(ls labels.Labels, slot uint32, t tally) error {
	if !a.wantsHeads() {
		return nil
	}
	g := a.lastGroup
	if g == nil || !labels.Equal(ls, a.lastLabels) {
		var err error
		if g, err = a.group(ls, labels.EmptyLabels()); err != nil {
			return err
		}
		a.lastLabels, a.lastGroup = ls, g
	}
	cell := &a.adder.cells[g.at+slot]
	*cell = cell.Add(t.total)
	return nil
}

// group returns the group of a source and a group of sample labels.
func (a *seriesAdder) group(ls, sample labels.Labels) (*group, error) {
	var key strings.Builder
	for _, name := range a.seriesBy {
		key.WriteString(ls.Get(name))
		key.WriteByte(0xff)
	}
	for _, name := range a.sampleBy {
		key.WriteString(sample.Get(samplePrefix + name))
		key.WriteByte(0xff)
	}
	if g := a.groups[key.String()]; g != nil {
		return g, nil
	}
	if all := (len(a.groups) + 1) * a.n; all > maxAllPoints {
		return nil, &LimitError{Limit: "max_series_points", Max: maxAllPoints, Got: int64(all), What: fmt.Sprintf("more than %d series of %d points", len(a.groups), a.n)}
	}
	b := labels.NewBuilder(sample)
	for _, name := range a.seriesBy {
		b.Set(name, ls.Get(name))
	}
	g := &group{labels: b.Labels(), at: uint32(len(a.adder.cells))}
	var err error
	if a.adder.cells, err = grow(a.scan.budget, a.adder.cells, len(a.adder.cells)+a.n+1, 16); err != nil {
		return nil, err
	}
	a.groups[key.String()] = g
	a.order = append(a.order, g)
	return g, nil
}

func (a *seriesAdder) rows(ctx context.Context, f *file, ds *dataset, tasks []task) error {
	lex, b := a.store.lexicons.get(ds.info.Service), a.scan.budget
	stacks, err := f.lexiconStacks(ctx, b, ds, lex)
	if err != nil {
		return err
	}
	filter := a.filters[lex.id]
	if filter == nil {
		of := newStackFilter(&a.q.Query, a.sampleBy)
		filter = &of
		a.filters[lex.id] = filter
	}
	if err := filter.update(b, lex, lex.snapshot()); err != nil {
		return err
	}
	bases := map[string][]uint32{} // by the group of the series
	return a.adder.run(ctx, b, f, tasks, func(ls labels.Labels) ([]uint32, error) {
		var key strings.Builder
		for _, name := range a.seriesBy {
			key.WriteString(ls.Get(name))
			key.WriteByte(0xff)
		}
		if base := bases[key.String()]; base != nil {
			return base, nil
		}
		base, err := a.base(filter, stacks, ls)
		bases[key.String()] = base
		return base, err
	})
}

// base returns of each of a dataset's stacks the cells of its group.
func (a *seriesAdder) base(filter *stackFilter, stacks []uint32, ls labels.Labels) ([]uint32, error) {
	at := make([]uint32, len(filter.groups)) // plus one
	base := make([]uint32, len(stacks))
	for i, id := range stacks {
		k := filter.keep[id]
		if k < 0 {
			base[i] = noCell
			continue
		}
		if at[k] == 0 {
			g, err := a.group(ls, filter.groups[k])
			if err != nil {
				return nil, err
			}
			at[k] = g.at + 1
		}
		base[i] = at[k] - 1
	}
	return base, nil
}

// finish divides gauges by time, sorts by total and adds up the rest.
func (a *seriesAdder) finish() []Series {
	q, cells := a.q, a.adder.cells
	all := a.order
	points := func(g *group) []int128 { return cells[g.at : int(g.at)+a.n] }
	for _, g := range all {
		for _, v := range cells[g.at : int(g.at)+a.n+1] {
			g.total = g.total.Add(v)
		}
	}
	if !a.wantsHeads() { // a group is there as soon as one of its stacks is in a block
		all = slices.DeleteFunc(all, func(g *group) bool {
			return !slices.ContainsFunc(cells[g.at:int(g.at)+a.n+1], func(v int128) bool { return !v.IsZero() })
		})
	}
	slices.SortFunc(all, func(a, b *group) int {
		if d := b.total.Sub(a.total); !d.IsZero() {
			return cmp.Compare(d.Hi, 0) | 1
		}
		return labels.Compare(a.labels, b.labels)
	})
	if q.Top > 0 && len(all) > q.Top {
		rest := all[q.Top]
		rest.labels = labels.FromStrings(restLabel, "true")
		for _, g := range all[q.Top+1:] {
			rest.total = rest.total.Add(g.total)
			for i, v := range points(g) {
				cells[int(rest.at)+i] = cells[int(rest.at)+i].Add(v)
			}
		}
		all = all[:q.Top+1]
	}
	step, width := 1.0, 1.0
	if q.Type.Kind() == profiles.Gauge {
		step, width = float64(min(q.Step, q.To-q.From)), float64(q.To-q.From)
	}
	out := make([]Series, len(all))
	for i, g := range all {
		out[i] = Series{Labels: g.labels, Total: g.total.Float() / width, Values: make([]float64, a.n)}
		for j, v := range points(g) {
			out[i].Values[j] = v.Float() / step
		}
	}
	return out
}
