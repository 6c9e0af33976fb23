package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// serviceLabel is the label that every series has and that decides which dataset it is in.
const serviceLabel = "service_name"

// staleRetries is how often a query starts again because a block went away between listing and opening it. With the grace that deleted
// blocks have that takes a query as long as the grace.
const staleRetries = 3

// Merge adds up all profiles that q selects.
func (s *Store) Merge(ctx context.Context, q Query) (*profiles.Stacks, error) {
	if q.To <= q.From {
		return nil, fmt.Errorf("merge profiles: range [%d, %d) is empty", q.From, q.To)
	}
	began := time.Now()
	defer func() { s.metrics.querySeconds.Observe(time.Since(began).Seconds()) }()
	var m *merger
	err := s.visit(ctx, q, func() { m = newMerger(s, q) }, func(f *file, ds *dataset) error { return m.dataset(ctx, f, ds) })
	if err != nil {
		return nil, fmt.Errorf("merge profiles: %w", err)
	}
	return m.result(), nil
}

// visit calls fn for every dataset that may hold what q selects. It calls start before the first one, and again where it has to start over.
func (s *Store) visit(ctx context.Context, q Query, start func(), fn func(f *file, ds *dataset) error) error {
	var err error
	for range staleRetries {
		start()
		if err = s.visitOnce(ctx, q, fn); !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return err
}

func (s *Store) visitOnce(ctx context.Context, q Query, fn func(f *file, ds *dataset) error) error {
	services, none := servicesOf(q.Matchers)
	if none {
		return nil
	}
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{From: q.From, To: q.To, Services: services, Type: q.Type.Profile})
	if err != nil {
		return fmt.Errorf("list blocks: %w", err)
	}
	for i := range blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.visitBlock(ctx, &blocks[i], q, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) visitBlock(ctx context.Context, b *catalog.Block, q Query, fn func(f *file, ds *dataset) error) error {
	var f *file
	for _, info := range b.Datasets {
		if !matchService(q.Matchers, info.Service) {
			continue
		}
		if f == nil {
			var err error
			if f, err = openFile(ctx, s.cfg.Blobs, b.Blob, s.cache.get(b.Blob)); err != nil {
				return err
			}
			defer func() {
				s.metrics.readBytes.Add(float64(f.read))
				s.cache.put(b.Blob, f.opened)
				f.close()
			}()
		}
		ds, err := f.dataset(info.Service)
		if err == nil && ds == nil {
			err = fmt.Errorf("dataset %s is in the catalogue and not in the file", info.Service)
		}
		if err == nil {
			err = fn(f, ds)
		}
		if err != nil {
			return fmt.Errorf("read blob %s: %w", b.Blob, err)
		}
	}
	return nil
}

// servicesOf returns the services that ms allow, nil for all; none says that they allow no service.
func servicesOf(ms []*labels.Matcher) (services []string, none bool) {
	for _, m := range ms {
		if m.Name != serviceLabel {
			continue
		}
		var set []string
		switch m.Type {
		case labels.MatchEqual:
			set = []string{m.Value}
		case labels.MatchRegexp:
			if set = m.SetMatches(); len(set) == 0 {
				continue
			}
		default:
			continue
		}
		if services == nil {
			services = slices.Clone(set)
		} else {
			services = slices.DeleteFunc(services, func(x string) bool { return !slices.Contains(set, x) })
		}
		if len(services) == 0 {
			return nil, true
		}
	}
	return services, false
}

func matchService(ms []*labels.Matcher, service string) bool {
	for _, m := range ms {
		if m.Name == serviceLabel && !m.Matches(service) {
			return false
		}
	}
	return true
}

func matchLabels(ms []*labels.Matcher, ls labels.Labels) bool {
	for _, m := range ms {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// selected is a series of a dataset that a query wants.
type selected struct {
	info  *seriesInfo
	kind  int
	place int // of the column among those of its kind
}

// selectSeries returns the series of ds that q selects, in the order of their place in the file.
func selectSeries(ds *dataset, q *Query) (out []selected, unit string) {
	for i := range ds.series {
		info := &ds.series[i]
		if info.maxStart < q.From || info.minStart >= q.To {
			continue
		}
		kind, place, u, ok := info.wantColumn(q.Type)
		if ok && matchLabels(q.Matchers, info.Labels) {
			out = append(out, selected{info, int(kind), place})
			unit = u
		}
	}
	return out, unit
}

// readHeads returns the heads of sel.
func (f *file) readHeads(ctx context.Context, sel []selected, totals bool) ([]*head, error) {
	heads, spans := make([]*head, len(sel)), make([]span, len(sel))
	for i, s := range sel {
		spans[i] = span{s.info.head.at, uint64(s.info.head.stored)}
	}
	var buf []byte
	err := f.each(ctx, spans, func(i int, b []byte) (err error) {
		l := sel[i].info.head
		raw, err := l.openInto(b, &buf)
		if err == nil {
			heads[i], err = decodeHead(raw, sel[i].info.profiles, len(sel[i].info.Columns), totals)
		}
		if err != nil {
			return fmt.Errorf("head at %d: %w", l.at, err)
		}
		return nil
	})
	return heads, err
}

// maxMergeNodes bounds the stack tree that a query builds: with all that hangs on it, and what views make of it, a node takes about 200 bytes. A service
// has some 10,000.
const maxMergeNodes = 2 << 20

// merger adds up one query's values. Not safe for concurrent use.
type merger struct {
	store  *Store
	q      Query
	typ    profiles.Type
	syms   *profiles.Symbols
	total  []int128 // by stack id of syms
	acc    []int128 // by stack id of the dataset at hand; all zero between datasets
	reader chunkReader
	stats  profiles.MergeStats
	series map[string]struct{}
	last   int64 // start of the profile that stats.Period is from
	blobs  map[string]struct{}
	most   int // nodes of syms
}

func newMerger(s *Store, q Query) *merger {
	return &merger{store: s, q: q, typ: q.Type, syms: profiles.NewSymbols(), series: map[string]struct{}{}, blobs: map[string]struct{}{}, last: -1 << 63, most: maxMergeNodes}
}

func (m *merger) dataset(ctx context.Context, f *file, ds *dataset) error {
	before := f.read
	defer func() { m.stats.BytesRead += f.read - before }()
	sel, unitName := selectSeries(ds, &m.q)
	if len(sel) == 0 {
		return nil
	}
	if m.typ.Unit == "" {
		m.typ.Unit = unitName
	}
	heads, err := f.readHeads(ctx, sel, false)
	if err != nil {
		return fmt.Errorf("dataset %s: %w", ds.info.Service, err)
	}
	var units []unit
	var places []int
	for i, s := range sel {
		lo, hi := heads[i].within(m.q.From, m.q.To)
		if lo == hi {
			continue
		}
		m.count(f.name, s.info, heads[i], lo, hi)
		for _, u := range coverSeries(s.info, heads[i], s.kind, lo, hi) {
			if u.group.rows > 0 {
				units, places = append(units, u), append(places, s.place)
			}
		}
	}
	if len(units) == 0 {
		return nil
	}
	syms, err := f.loadSymbols(ds)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // what follows takes long where there is much
		return err
	}
	if len(m.acc) < len(syms.Stacks) {
		m.acc = make([]int128, len(syms.Stacks))
	}
	if err := m.addUnits(ctx, f, units, places, len(syms.Stacks)); err != nil {
		return fmt.Errorf("dataset %s: %w", ds.info.Service, err)
	}
	return m.fold(ctx, syms)
}

// count takes the profiles [lo, hi) of a series, at least one, into the statistics.
func (m *merger) count(name string, s *seriesInfo, h *head, lo, hi int) {
	m.blobs[name] = struct{}{}
	m.series[seriesKey(s.Labels, s.Type, nil)] = struct{}{}
	m.stats.Profiles += hi - lo
	if m.stats.Profiles == hi-lo || h.start[lo] < m.stats.First {
		m.stats.First = h.start[lo]
	}
	for i := lo; i < hi; i++ {
		m.stats.CoveredMs += h.end[i] - h.start[i]
		m.stats.Last = max(m.stats.Last, h.end[i])
	}
	if s.Period != 0 && h.start[hi-1] >= m.last {
		m.last, m.stats.Period = h.start[hi-1], s.Period
	}
}

// addUnits reads the units and adds them to acc.
func (m *merger) addUnits(ctx context.Context, f *file, units []unit, places []int, stacks int) error {
	order, spans := make([]int, len(units)), make([]span, len(units))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(int64(units[a].group.stacks.at) - int64(units[b].group.stacks.at)) })
	for i, j := range order {
		spans[i] = units[j].group.span(places[j])
	}
	return f.each(ctx, spans, func(i int, b []byte) error {
		u, place := &units[order[i]], places[order[i]]
		if err := m.reader.open(u.chunk, u.group, b, stacks); err != nil {
			return err
		}
		for i := range u.chunk.slices() {
			lo, hi := u.chunk.slice(i)
			weights := u.weights[lo:hi]
			if !slices.ContainsFunc(weights, func(w int64) bool { return w != 0 }) {
				continue
			}
			err := m.reader.openSlice(i)
			if err == nil {
				m.reader.values, err = m.reader.decodeValues(place, m.reader.values)
			}
			if err != nil {
				return err
			}
			m.addValues(weights)
		}
		return nil
	})
}

func (m *merger) addValues(weights []int64) {
	st, at := &m.reader.stacks, 0
	if uniform(weights) {
		for i, id := range st.stacks {
			n := int(st.counts[i])
			m.acc[id] = m.acc[id].Add(profiles.Sum128(m.reader.values[at : at+n]).Mul(weights[0]))
			at += n
		}
		m.stats.Samples += at
		return
	}
	for i, id := range st.stacks {
		end := at + int(st.counts[i])
		cell := &m.acc[id]
		for k := at; k < end; k++ {
			if w := weights[st.profile[k]]; w != 0 {
				addScaled(cell, m.reader.values[k], w)
				m.stats.Samples++
			}
		}
		at = end
	}
}

// uniform reports whether all profiles have the same weight, as those of an interval in the middle of the range have.
func uniform(weights []int64) bool {
	for _, w := range weights {
		if w != weights[0] || w == 0 {
			return false
		}
	}
	return len(weights) > 0
}

// fold moves what acc holds for a dataset with syms into total. It stops where ctx ends, and with a *LimitError where the tree becomes too large.
func (m *merger) fold(ctx context.Context, syms *profiles.Symbols) error {
	var stop error
	calls := 0
	ids := m.syms.AddStacks(syms, func(id uint32) bool {
		if stop != nil || m.acc[id].IsZero() {
			return false
		}
		if calls++; calls%256 == 0 {
			stop = ctx.Err()
		}
		if n := len(m.syms.Nodes); n > m.most {
			stop = &LimitError{Limit: "max_merge_nodes", Max: int64(m.most), Got: int64(n), What: fmt.Sprintf("the stacks that the query selects make a tree of more than %d nodes", m.most)}
		}
		return stop == nil
	})
	if stop != nil {
		return stop
	}
	if n := len(m.syms.Stacks) - len(m.total); n > 0 {
		m.total = append(m.total, make([]int128, n)...)
	}
	for id := range syms.Stacks {
		if v := m.acc[id]; !v.IsZero() {
			m.total[ids[id]] = m.total[ids[id]].Add(v)
			m.acc[id] = int128{}
		}
	}
	return nil
}

func (m *merger) result() *profiles.Stacks {
	r := &profiles.Stacks{Type: m.typ, Symbols: m.syms, Start: m.q.From, End: m.q.To, Stats: m.stats}
	r.Stats.Series, r.Stats.Blocks = len(m.series), len(m.blobs)
	gauge := m.typ.Kind() == profiles.Gauge
	for id, t := range m.total {
		v, cut := int64(0), false
		if gauge {
			v, cut = t.DivRound(m.q.To - m.q.From)
		} else {
			v, cut = t.Int64()
		}
		r.Stats.Saturated = r.Stats.Saturated || cut
		if v != 0 {
			r.IDs, r.Values = append(r.IDs, uint32(id)), append(r.Values, v)
		}
	}
	return r
}
