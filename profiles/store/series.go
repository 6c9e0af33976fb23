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

// group gathers one label group's totals, exactly.
type group struct {
	labels labels.Labels
	points []int128
	total  int128
}

// Series returns totals over time: of the whole steps of the range (one step, shorter, where the range is shorter than that), the largest totals
// first. A Total is over the whole range. More points than memory should be given to are a *LimitError.
func (s *Store) Series(ctx context.Context, q SeriesQuery) ([]Series, error) {
	n := int64(0)
	if q.Step > 0 {
		n = max(1, (q.To-q.From)/q.Step)
	}
	if q.To <= q.From || n <= 0 || n > maxPoints {
		return nil, fmt.Errorf("add up series: range [%d, %d) in steps of %d ms: want 1 to %d steps", q.From, q.To, q.Step, maxPoints)
	}
	var groups map[string]*group
	err := s.visit(ctx, q.Query, func() { groups = map[string]*group{} }, func(f *file, ds *dataset) error {
		return addSeries(ctx, f, ds, &q, int(n), groups)
	})
	if err != nil {
		return nil, fmt.Errorf("add up series: %w", err)
	}
	return finishSeries(&q, groups), nil
}

// addSeries adds up one dataset's heads by group.
func addSeries(ctx context.Context, f *file, ds *dataset, q *SeriesQuery, n int, groups map[string]*group) error {
	sel, _ := selectSeries(ds, &q.Query)
	heads, err := f.readHeads(ctx, sel, true)
	if err != nil {
		return fmt.Errorf("dataset %s: %w", ds.info.Service, err)
	}
	for i, s := range sel {
		h := heads[i]
		lo, hi := h.within(q.From, q.To)
		if lo == hi {
			continue
		}
		g := groupFor(groups, s.info.Labels, q.By, n)
		if all := len(groups) * n; all > maxAllPoints {
			return &LimitError{Limit: "max_series_points", Max: maxAllPoints, Got: int64(all), What: fmt.Sprintf("more than %d series of %d points", len(groups)-1, n)}
		}
		totals := h.totals[groupsOf(s.info.Columns)[s.kind][s.place]]
		for j := lo; j < hi; j++ {
			v := totals[j]
			if s.kind == gaugeKind {
				v = v.Mul(h.covered[j])
			}
			g.total = g.total.Add(v)
			if k := int((h.start[j] - q.From) / q.Step); k < n {
				g.points[k] = g.points[k].Add(v)
			}
		}
	}
	return nil
}

func groupFor(groups map[string]*group, ls labels.Labels, by []string, n int) *group {
	var key strings.Builder
	for _, name := range by {
		key.WriteString(ls.Get(name))
		key.WriteByte(0xff)
	}
	g := groups[key.String()]
	if g == nil {
		b := labels.NewBuilder(labels.EmptyLabels())
		for _, name := range by {
			b.Set(name, ls.Get(name))
		}
		g = &group{labels: b.Labels(), points: make([]int128, n)}
		groups[key.String()] = g
	}
	return g
}

// finishSeries divides gauges by time, sorts by total and adds up the rest.
func finishSeries(q *SeriesQuery, groups map[string]*group) []Series {
	all := make([]*group, 0, len(groups))
	for _, g := range groups {
		all = append(all, g)
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
			for i, v := range g.points {
				rest.points[i] = rest.points[i].Add(v)
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
		out[i] = Series{Labels: g.labels, Total: g.total.Float() / width, Values: make([]float64, len(g.points))}
		for j, v := range g.points {
			out[i].Values[j] = v.Float() / step
		}
	}
	return out
}
