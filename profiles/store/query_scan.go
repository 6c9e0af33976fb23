package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// scan is one query's way through the datasets that may hold what it selects: it finds in each what answers the query with the least reading, and counts it. Not safe for concurrent use.
type scan struct {
	timeline
	q      *Query
	use    sumUse
	by     []string // series labels that the answer tells apart
	budget *budget
	sink   sink
	spans  []*labels.Matcher // on span labels: only samples that have some count

	unit   string
	stats  profiles.MergeStats
	series map[uint64]struct{}
	blob   string // the last one that had something
	last   int64  // start of the profile that stats.Period is from
}

// sink takes what a scan finds.
type sink interface {
	// head takes the total of the profiles of a source with labels ls that start in a slot.
	head(ls labels.Labels, slot uint32, t tally) error
	// rows takes what is to be added up of a dataset; nil where heads are all that is wanted.
	rows(ctx context.Context, f *file, ds *dataset, tasks []task) error
	// wantsHeads says that heads with totals are wanted, and no rows.
	wantsHeads() bool
}

// tally is what is known of some profiles of a source without their rows.
type tally struct {
	profiles    int64
	length      int64 // ms, Σ of their intervals, times what they stand for
	first, last int64 // start of the first and end of the last, Unix ms
	total       int128
}

// task is a group of a chunk, or its span rows, that are to be read, and what of them counts.
type task struct {
	labels labels.Labels // of the series or the rollup
	chunk  *chunkInfo
	group  *groupInfo // nil: the span rows
	sel    selection
	spans  *spanTask
}

// spanTask says what of the span rows of a chunk counts.
type spanTask struct {
	sets            []bool // by span set
	column, columns int
}

// span returns the bytes of the file that a task reads.
func (t *task) span() span {
	if t.group == nil {
		return span{t.chunk.spans.at, uint64(t.chunk.spans.stored)}
	}
	return t.group.span(t.sel.place)
}

func newScan(s *Store, q *Query, b *budget) *scan {
	_, spans := splitSamples(q.Samples)
	return &scan{timeline: timeline{from: q.From, to: q.To, slots: 1}, q: q, use: s.sumUse, budget: b, spans: spans, series: map[uint64]struct{}{}, last: -1 << 63}
}

// asked is a series or a rollup of the dataset at hand with the column that the query wants.
type asked struct {
	labels labels.Labels
	kind   int
	place  int // of the column among those of its kind
	column int
	period int64
	end    int64 // start of its last profile
}

// dataset adds what the query selects of ds.
func (s *scan) dataset(ctx context.Context, f *file, ds *dataset) error {
	before := f.read
	defer func() { s.stats.BytesRead += f.read - before }()
	if err := s.budget.check(ctx); err != nil {
		return err
	}
	d := datasetScan{scan: s, f: f, ds: ds}
	if len(s.spans) > 0 {
		if none, err := d.matchSpans(); none || err != nil {
			return err
		}
	}
	err := d.rollups()
	if err == nil {
		err = d.others(ctx)
	}
	if err == nil && len(d.tasks) > 0 {
		err = s.sink.rows(ctx, f, ds, d.tasks)
	}
	if err != nil {
		return fmt.Errorf("dataset %s: %w", ds.info.Service, err)
	}
	return nil
}

// found counts profiles of a slot.
func (s *scan) found(name string, src *asked, slot uint32, n, length, first, last int64, total int128) error {
	if s.blob != name {
		s.blob = name
		s.stats.Blocks++
	}
	if s.stats.Profiles == 0 || first < s.stats.First {
		s.stats.First = first
	}
	s.stats.Profiles += int(n)
	length *= standsFor(src.labels)
	s.stats.CoveredMs += length
	s.stats.Last = max(s.stats.Last, last)
	if src.period != 0 && src.end >= s.last {
		s.last, s.stats.Period = src.end, src.period
	}
	return s.sink.head(src.labels, slot, tally{n, length, first, last, total})
}

// datasetScan is a scan's work on one dataset.
type datasetScan struct {
	*scan
	f     *file
	ds    *dataset
	sets  []bool    // by span set, where the query asks for spans: whether it counts
	left  [][]spell // by series: what rollups do not answer; nil: all of the range
	done  []bool    // by series: left is what there is left
	tasks []task
}

// want finds the query's column.
func (d *datasetScan) want(ls labels.Labels, typ string, period, end int64, columns []column) (src asked, ok bool) {
	kind, place, unit, ok := wantColumn(typ, columns, d.q.Type)
	if !ok {
		return src, false
	}
	index := groupsOf(columns)[kind][place]
	if d.unit == "" {
		d.unit = unit
	}
	return asked{labels: ls, kind: int(kind), place: place, column: index, period: period, end: end}, true
}

// rollups answers what whole windows of rollups can.
func (d *datasetScan) rollups() error {
	if d.use == sumsNever && d.ds.info.resolution == 0 || d.sets != nil {
		return nil
	}
	for i := range d.ds.rollups {
		r := &d.ds.rollups[i]
		if r.maxStart < d.from || r.minStart >= d.to || r.Type != d.q.Type.Profile {
			continue
		}
		ls, ok := d.answers(r)
		if !ok {
			continue
		}
		src, ok := d.want(ls, r.Type, r.Period, r.maxStart, r.Columns)
		if !ok {
			continue
		}
		shares, left := d.coverRollup(r, d.ds.info.resolution, d.use)
		if len(shares) == 0 {
			continue
		}
		if d.done == nil {
			d.left, d.done = make([][]spell, len(d.ds.series)), make([]bool, len(d.ds.series))
		}
		for _, m := range r.members {
			d.left[m], d.done[m] = left, true
			d.countSeries(int(m))
		}
		for _, s := range shares {
			if err := d.sums(&src, s.level, s.spells, len(r.Columns)); err != nil {
				return err
			}
		}
	}
	return nil
}

// answers reports whether the query selects all members of a rollup that reach into the range, and does not tell them apart. It returns the labels that stand for them.
func (d *datasetScan) answers(r *rollupInfo) (labels.Labels, bool) {
	dropped := slices.ContainsFunc(d.q.Matchers, func(m *labels.Matcher) bool { return slices.Contains(r.Dropped, m.Name) }) ||
		slices.ContainsFunc(d.by, func(name string) bool { return slices.Contains(r.Dropped, name) })
	if !dropped {
		return r.Labels, matchLabels(d.q.Matchers, r.Labels)
	}
	var first *seriesInfo
	for _, i := range r.members {
		info := &d.ds.series[i]
		switch {
		case info.maxStart < d.from || info.minStart >= d.to:
			continue
		case !matchLabels(d.q.Matchers, info.Labels):
			return r.Labels, false
		case first == nil:
			first = info
		}
		for _, name := range d.by {
			if info.Labels.Get(name) != first.Labels.Get(name) {
				return r.Labels, false
			}
		}
	}
	if first == nil {
		return r.Labels, false
	}
	return first.Labels, true
}

// countSeries counts a series that reaches into the range.
func (d *datasetScan) countSeries(i int) {
	if info := &d.ds.series[i]; info.minStart < d.to && info.maxStart >= d.from {
		d.series[d.ds.seriesHash(i)] = struct{}{}
	}
}

// sums takes the windows of level that start in spells.
func (d *datasetScan) sums(src *asked, level *sumInfo, spells []spell, columns int) error {
	h, err := d.f.windowHead(d.ds, level, columns)
	if err != nil {
		return err
	}
	weights := make([]int64, h.len())
	var slots []uint32
	if d.step != 0 {
		slots = make([]uint32, h.len())
	}
	for _, sp := range spells {
		lo, hi := h.within(sp.lo, sp.hi)
		for i := lo; i < hi; i++ {
			weights[i] = 1
			slot := d.slot(h.start[i])
			if slots != nil {
				slots[i] = slot
			}
			if err := d.found(d.f.name, src, slot, h.profiles[i], h.length[i], h.first[i], h.last[i], h.totals[src.column][i]); err != nil {
				return err
			}
		}
	}
	d.addTasks(src, level.chunks, selection{place: src.place, sums: true, covered: h.covered, weights: weights, slots: slots})
	return nil
}

// addTasks adds a task for each chunk of which something counts. sel is about all of the chunks' profiles or windows.
func (d *datasetScan) addTasks(src *asked, chunks []chunkInfo, sel selection) {
	if d.sink.wantsHeads() {
		return
	}
	first := 0
	for i := range chunks {
		c := &chunks[i]
		lo, hi := first, first+c.profiles
		first = hi
		g := &c.groups[src.kind]
		if g.rows == 0 || countUsed(sel.weights[lo:hi]) == 0 {
			continue
		}
		of := selection{place: sel.place, sums: sel.sums, weights: sel.weights[lo:hi]}
		if sel.covered != nil {
			of.covered = sel.covered[lo:hi]
		}
		if sel.slots != nil {
			of.slots = sel.slots[lo:hi]
		}
		d.tasks = append(d.tasks, task{labels: src.labels, chunk: c, group: g, sel: of})
	}
}

// others answers from the series themselves what no rollup answered.
func (d *datasetScan) others(ctx context.Context) error {
	var sel []selected
	var srcs []asked
	var spells [][]spell
	all := []spell{{d.from, d.to}}
	for i := range d.ds.series {
		info := &d.ds.series[i]
		if info.maxStart < d.from || info.minStart >= d.to && d.ds.info.resolution == 0 {
			continue
		}
		left := all
		if d.done != nil && d.done[i] {
			left = d.left[i]
			if !slices.ContainsFunc(left, func(s spell) bool { return info.minStart < s.hi && info.maxStart >= s.lo }) {
				continue
			}
		} else if info.Type != d.q.Type.Profile || !matchLabels(d.q.Matchers, info.Labels) {
			continue
		}
		src, ok := d.want(info.Labels, info.Type, info.Period, info.maxStart, info.Columns)
		if !ok {
			continue
		}
		d.countSeries(i)
		if info.sums != nil {
			if err := d.sums(&src, info.sums, left, len(info.Columns)); err != nil {
				return err
			}
			continue
		}
		sel, srcs, spells = append(sel, selected{info: info}), append(srcs, src), append(spells, left)
	}
	heads, err := d.heads(ctx, sel)
	if err != nil {
		return err
	}
	for i, h := range heads {
		if err := d.raw(&srcs[i], sel[i].info, h, spells[i]); err != nil {
			return err
		}
	}
	return nil
}

// heads returns the heads of sel. Those without totals are kept in memory: a short range reads little else.
func (d *datasetScan) heads(ctx context.Context, sel []selected) ([]*head, error) {
	if d.sink.wantsHeads() {
		return d.f.readHeads(ctx, sel, true)
	}
	heads := make([]*head, len(sel))
	var missing []selected
	d.ds.mu.Lock()
	for i, s := range sel {
		if heads[i] = d.ds.rawHeads[s.info]; heads[i] == nil {
			missing = append(missing, s)
		}
	}
	d.ds.mu.Unlock()
	read, err := d.f.readHeads(ctx, missing, false)
	if err != nil || len(read) == 0 {
		return heads, err
	}
	d.ds.mu.Lock()
	defer d.ds.mu.Unlock()
	if d.ds.rawHeads == nil {
		d.ds.rawHeads = map[*seriesInfo]*head{}
	}
	bytes := int64(0)
	for i, s := range sel {
		if heads[i] == nil {
			heads[i], read = read[0], read[1:]
			if d.ds.rawHeads[s.info] == nil {
				bytes += 128 + 24*int64(heads[i].len())
			}
			d.ds.rawHeads[s.info] = heads[i]
		}
	}
	d.f.opened.mu.Lock()
	d.f.opened.bytes += bytes
	d.f.opened.mu.Unlock()
	return heads, nil
}

// raw takes the profiles of a series that start in spells.
func (d *datasetScan) raw(src *asked, info *seriesInfo, h *head, spells []spell) error {
	var weights []int64
	var slots []uint32
	for _, sp := range spells {
		lo, hi := h.within(sp.lo, sp.hi)
		if lo == hi {
			continue
		}
		if weights == nil {
			weights = make([]int64, h.len())
			if d.step != 0 {
				slots = make([]uint32, h.len())
			}
		}
		for i := lo; i < hi; i++ {
			slot := d.slot(h.start[i])
			if slots != nil {
				slots[i] = slot
			}
			weights[i] = 1
			if src.kind == gaugeKind {
				weights[i] = h.covered[i]
			}
			var total int128
			if h.totals != nil {
				total = h.totals[src.column][i].Mul(weights[i])
			}
			if err := d.found(d.f.name, src, slot, 1, h.end[i]-h.start[i], h.start[i], h.end[i], total); err != nil {
				return err
			}
		}
	}
	if weights == nil {
		return nil
	}
	sel := selection{place: src.place, weights: weights, slots: slots}
	if d.sets == nil {
		d.addTasks(src, info.chunks, sel)
	} else {
		d.addSpanTasks(src, info, sel)
	}
	return nil
}

// matchSpans finds the span sets that count. none says that the dataset has none of them.
func (d *datasetScan) matchSpans() (none bool, err error) {
	if d.ds.info.resolution != 0 {
		return true, nil
	}
	sets, err := d.f.readSpanSets(d.ds)
	if err != nil {
		return true, err
	}
	d.sets, none = make([]bool, len(sets)), true
	for i, set := range sets {
		if i == 0 { // the empty one
			continue
		}
		d.sets[i] = true
		for _, m := range d.scan.spans {
			d.sets[i] = d.sets[i] && m.Matches(set.label(m.Name))
		}
		none = none && !d.sets[i]
	}
	return none, nil
}

// label returns the set's span_id or trace_id.
func (s *spanSet) label(name string) string {
	if name == spanLabel {
		return s.span
	}
	return s.trace
}

// splitSamples tells matchers on span labels from those on others, which are among the labels of stacks.
func splitSamples(ms []*labels.Matcher) (others, spans []*labels.Matcher) {
	for _, m := range ms {
		if m.Name == spanLabel || m.Name == traceLabel {
			spans = append(spans, m)
		} else {
			others = append(others, m)
		}
	}
	return others, spans
}

// addSpanTasks is addTasks for the span rows of a series.
func (d *datasetScan) addSpanTasks(src *asked, info *seriesInfo, sel selection) {
	first := 0
	for i := range info.chunks {
		c := &info.chunks[i]
		lo, hi := first, first+c.profiles
		first = hi
		if c.spanRows == 0 || countUsed(sel.weights[lo:hi]) == 0 {
			continue
		}
		of := selection{weights: sel.weights[lo:hi]}
		if sel.slots != nil {
			of.slots = sel.slots[lo:hi]
		}
		d.tasks = append(d.tasks, task{labels: src.labels, chunk: c, sel: of, spans: &spanTask{d.sets, src.column, len(info.Columns)}})
	}
}

// windowHead returns the head of sums of ds, reading it if it is not in memory.
func (f *file) windowHead(ds *dataset, s *sumInfo, columns int) (*windowHead, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if h := ds.heads[s]; h != nil {
		return h, nil
	}
	h, err := f.readWindowHead(s, columns, true)
	if err != nil {
		return nil, err
	}
	if ds.heads == nil {
		ds.heads = map[*sumInfo]*windowHead{}
	}
	ds.heads[s] = h
	f.opened.mu.Lock()
	f.opened.bytes += 256 + int64(h.len()*(48+16*columns))
	f.opened.mu.Unlock()
	return h, nil
}

// seriesHash returns a number that stands for the labels and the type of series i in statistics.
func (ds *dataset) seriesHash(i int) uint64 {
	ds.hashed.Do(func() {
		ds.hashes = make([]uint64, len(ds.series))
		for i := range ds.series {
			s := &ds.series[i]
			h := s.Labels.Hash()
			for _, c := range []byte(s.Type) {
				h = (h ^ uint64(c)) * 0x100000001b3
			}
			ds.hashes[i] = h
		}
	})
	return ds.hashes[i]
}
