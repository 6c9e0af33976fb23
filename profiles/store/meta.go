package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// Services returns the services with profiles that start in [from, to), by name. Profiles counts those of the segments and blocks that
// reach into the range.
func (s *Store) Services(ctx context.Context, from, to int64) ([]ServiceInfo, error) {
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{From: from, To: to})
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	byName := map[string]*ServiceInfo{}
	for _, b := range blocks {
		for _, ds := range b.Datasets {
			info := byName[ds.Service]
			if info == nil {
				info = &ServiceInfo{Name: ds.Service, MinStart: ds.MinStart, MaxEnd: ds.MaxEnd}
				byName[ds.Service] = info
			}
			info.MinStart, info.MaxEnd = min(info.MinStart, ds.MinStart), max(info.MaxEnd, ds.MaxEnd)
			info.Profiles += ds.Profiles
			info.Types = append(info.Types, ds.Types...)
		}
	}
	out := make([]ServiceInfo, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		info := byName[name]
		slices.Sort(info.Types)
		info.Types = slices.Compact(info.Types)
		out = append(out, *info)
	}
	return out, nil
}

// eachSeries calls fn for the series that q selects, once for each block that holds some of it. A series counts whose first and last
// profile in a block enclose a part of the range.
func (s *Store) eachSeries(ctx context.Context, q Query, start func(), fn func(*seriesInfo)) error {
	_, err := s.visit(ctx, q, start, func(_ *file, ds *dataset) error {
		for i := range ds.series {
			info := &ds.series[i]
			if info.maxStart < q.From || info.minStart >= q.To || !matchLabels(q.Matchers, info.Labels) {
				continue
			}
			if q.Type.Profile != "" && q.Type.Profile != info.Type {
				continue
			}
			fn(info)
		}
		return nil
	})
	return err
}

// LabelNames returns the sorted label names of the series that q selects; q.Type may be zero.
func (s *Store) LabelNames(ctx context.Context, q Query) ([]string, error) {
	var names map[string]struct{}
	err := s.eachSeries(ctx, q, func() { names = map[string]struct{}{} }, func(info *seriesInfo) {
		info.Labels.Range(func(l labels.Label) { names[l.Name] = struct{}{} })
	})
	if err != nil {
		return nil, fmt.Errorf("list label names: %w", err)
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// LabelValues returns the sorted values of label name in the series that q selects; q.Type may be zero.
func (s *Store) LabelValues(ctx context.Context, name string, q Query) ([]string, error) {
	var values map[string]struct{}
	err := s.eachSeries(ctx, q, func() { values = map[string]struct{}{} }, func(info *seriesInfo) {
		if v := info.Labels.Get(name); v != "" {
			values[v] = struct{}{}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list values of label %s: %w", name, err)
	}
	return slices.Sorted(maps.Keys(values)), nil
}

// Types returns the columns of the series that q selects, by id; q.Type is ignored.
func (s *Store) Types(ctx context.Context, q Query) ([]TypeInfo, error) {
	q.Type = profiles.Type{}
	type last struct{ start, period int64 }
	var types map[profiles.Type]last
	err := s.eachSeries(ctx, q, func() { types = map[profiles.Type]last{} }, func(info *seriesInfo) {
		for _, c := range info.Columns {
			t := profiles.Type{Profile: info.Type, Sample: c.Sample, Unit: c.Unit}
			if l, ok := types[t]; !ok || info.maxStart >= l.start {
				types[t] = last{info.maxStart, info.Period}
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list types: %w", err)
	}
	out := make([]TypeInfo, 0, len(types))
	for t, l := range types {
		out = append(out, TypeInfo{Type: t, Period: l.period})
	}
	slices.SortFunc(out, func(a, b TypeInfo) int {
		if c := strings.Compare(a.String(), b.String()); c != 0 {
			return c
		}
		return cmp.Compare(a.Unit, b.Unit)
	})
	return out, nil
}
