package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
)

// leaseName and leaseTTL: one store compacts at a time, so that two do not do the same work; that nothing is counted twice rests on Swap alone.
const (
	leaseName = "compactor"
	leaseTTL  = 30 * time.Second // after a kill the next store waits as long
)

// setAsideFor is how long a blob that could not be read is left out of compactions: it must not keep the others from being compacted.
const setAsideFor = time.Hour

// inputError says which blob a compaction could not read.
type inputError struct {
	blob string
	err  error
}

func (e *inputError) Error() string { return "read blob " + e.blob + ": " + e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

// Compact runs compaction until nothing is left to do, regardless of age when all is true. Where another store holds the lease it does nothing.
// A blob that cannot be read is left as it is; the others are compacted before the error is returned.
func (s *Store) Compact(ctx context.Context, all bool) error {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	var bad error
	for first := true; ; first = false {
		held, err := s.lease(ctx)
		if err != nil {
			return fmt.Errorf("compact: take the lease: %w", err)
		}
		if !held {
			return bad
		}
		if first {
			bad = s.resumeDeletions(ctx)
		}
		blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{})
		if err != nil {
			return fmt.Errorf("compact: list blocks: %w", err)
		}
		if blocks, err = s.withoutDoomed(ctx, blocks); err != nil {
			return fmt.Errorf("compact: %w", err)
		}
		blocks = slices.DeleteFunc(blocks, func(b catalog.Block) bool {
			at, aside := s.aside[b.Blob]
			return aside && s.cfg.Now().Sub(at) < setAsideFor
		})
		jobs := plan(blocks, s.cfg.Now(), all)
		if len(jobs) == 0 {
			return bad
		}
		// One job, then a new plan: jobs are long, and what they rest on changes.
		switch err := s.run(ctx, jobs[0]); {
		case err == nil:
			s.metrics.compactions.WithLabelValues("done").Inc()
		case errors.Is(err, catalog.ErrConflict):
			s.metrics.compactions.WithLabelValues("conflict").Inc()
		default:
			s.metrics.compactions.WithLabelValues("failed").Inc()
			err = fmt.Errorf("compact %d blocks into level %d: %w", len(jobs[0].In), jobs[0].Level, err)
			var input *inputError
			if !errors.As(err, &input) || ctx.Err() != nil {
				return err
			}
			s.aside[input.blob] = s.cfg.Now()
			bad = errors.Join(bad, err)
		}
	}
}

// keepLease renews the lease until stop is called: a compaction may take longer than it lasts.
func (s *Store) keepLease(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(leaseTTL / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, err := s.lease(ctx); err != nil && ctx.Err() == nil {
					s.log.Warn("cannot renew the lease", "err", err)
				}
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// lease takes or renews the lease.
func (s *Store) lease(ctx context.Context) (bool, error) {
	held, err := s.cfg.Catalog.Acquire(ctx, leaseName, s.holder, leaseTTL)
	if held {
		s.leased.Store(true)
	}
	return held, err
}

// run does one job.
func (s *Store) run(ctx context.Context, j job) error {
	return s.replace(ctx, j.In, &compaction{store: s, level: j.Level, w: &fileWriter{comp: s.blockParts}})
}

// replace writes what c makes of in, then swaps it for them in one transaction.
func (s *Store) replace(ctx context.Context, in []catalog.Block, c *compaction) error {
	defer c.close()
	defer func() { s.blockParts = c.w.comp }()
	defer s.keepLease(ctx)()
	began := time.Now()
	if err := c.openInputs(ctx, in); err != nil {
		return err
	}
	var out []catalog.Block
	var opened []*openedFile
	err := c.each(ctx, func(data []byte, row catalog.Block) error {
		out, opened = append(out, row), append(opened, c.w.opened)
		s.metrics.blockBytes.Add(float64(len(data)))
		return s.cfg.Blobs.Put(ctx, row.Blob, data)
	})
	var now time.Time
	if err == nil {
		now, err = s.cfg.Catalog.Now(ctx)
	}
	if err == nil {
		err = inTime(began)
	}
	if err == nil {
		err = s.swap(ctx, in, out, now.Add(s.cfg.Grace))
	}
	if err == nil {
		for i, b := range out {
			s.cache.put(b.Blob, opened[i]) // queries and the next compaction want it soon
		}
	}
	if errors.Is(err, catalog.ErrConflict) { // nothing was changed, nobody can have seen the outputs
		for _, b := range out {
			if err := s.cfg.Blobs.Delete(ctx, b.Blob); err != nil {
				s.log.Warn("cannot delete the output of a compaction that lost", "blob", b.Blob, "err", err)
			}
		}
	}
	return err
}

// swap replaces blocks. Outputs of a swap that failed otherwise than by conflict are left to the search for orphans: the commit may have happened.
func (s *Store) swap(ctx context.Context, in, out []catalog.Block, deleteAfter time.Time) error {
	ids := make([]string, len(in))
	for i, b := range in {
		ids[i] = b.ID
	}
	if err := s.cfg.Catalog.Swap(ctx, ids, out, deleteAfter); err != nil {
		return fmt.Errorf("swap blocks: %w", err)
	}
	for _, b := range in {
		s.cache.drop(b.Blob)
	}
	return nil
}

// compaction merges inputs into one block for each service and window. Not safe for concurrent use.
type compaction struct {
	store      *Store
	level      int
	keep       func(si *seriesInfo, start int64) bool // of a series the profiles (or windows) that start then; nil: all. What a deletion or a pin takes out is not read on
	resolution int64                                  // of the outputs, in ms; 0: that of the inputs, which then have only one
	window     int64                                  // of time that an output holds, in ms; 0: that of the resolution
	back       bool                                   // the outputs are of version 1: raw, whatever the inputs are
	w          *fileWriter
	inputs     []*file
	ancestors  []blockID
	reader     chunkReader
	subset     subset
	spanSets   map[*dataset][]spanSet // of sources, where they were wanted
}

func (c *compaction) close() {
	for _, f := range c.inputs {
		f.close()
	}
}

// openInputs opens the inputs and gathers their ancestors, themselves included.
func (c *compaction) openInputs(ctx context.Context, in []catalog.Block) error {
	for _, b := range in {
		f, err := openFile(ctx, c.store.cfg.Blobs, b.Blob, c.store.cache.get(b.Blob))
		if err != nil {
			return &inputError{b.Blob, err}
		}
		c.inputs = append(c.inputs, f)
		if err := f.readAll(); err != nil {
			return &inputError{b.Blob, err}
		}
		if f.opened.foot.share != shareAll { // its ancestors are the other share's too: two blocks with the same ancestors hold the same profiles, but for these
			c.ancestors = append(c.ancestors, f.opened.foot.id)
			continue
		}
		raw, err := f.section(f.opened.foot.ancestors)
		var ids []blockID
		if err == nil {
			ids, err = decodeAncestors(raw)
		}
		if err != nil {
			return &inputError{b.Blob, fmt.Errorf("ancestors: %w", err)}
		}
		c.ancestors = append(append(c.ancestors, ids...), f.opened.foot.id)
	}
	if err := c.setResolution(); err != nil {
		return err
	}
	compare := func(a, b blockID) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(c.ancestors, compare)
	c.ancestors = slices.Compact(c.ancestors)
	return nil
}

// setResolution takes that of the inputs where none is given.
func (c *compaction) setResolution() error {
	if c.resolution == 0 && !c.back {
		for i, f := range c.inputs {
			if r := f.opened.foot.resolution; i == 0 {
				c.resolution = r
			} else if r != c.resolution {
				return fmt.Errorf("blocks of %d and of %d ms are not merged", c.resolution, r)
			}
		}
	}
	c.window = cmp.Or(c.window, windowWidth(c.resolution))
	return nil
}

// source is one input's dataset of the service at hand.
type source struct {
	file *file
	ds   *dataset
}

// place is where a series is: in which source, and how.
type place struct {
	source int
	info   *seriesInfo
}

// each makes the outputs one by one.
func (c *compaction) each(ctx context.Context, put func([]byte, catalog.Block) error) error {
	services := map[string]struct{}{}
	for _, f := range c.inputs {
		for _, ds := range f.opened.foot.datasets {
			services[ds.Service] = struct{}{}
		}
	}
	for _, service := range slices.Sorted(maps.Keys(services)) {
		sources, windows, err := c.sources(service)
		if err != nil {
			return err
		}
		for _, win := range windows {
			data, row, err := c.block(ctx, service, sources, win)
			if err == nil && data != nil {
				err = put(data, row)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// sources opens the service's datasets and lists the windows that they reach into.
func (c *compaction) sources(service string) (out []source, windows []int64, err error) {
	seen := map[int64]struct{}{}
	size := c.window
	for _, f := range c.inputs {
		ds, err := f.dataset(service)
		if err != nil {
			return nil, nil, &inputError{f.name, err}
		}
		if ds == nil {
			continue
		}
		out = append(out, source{f, ds})
		for i := range ds.series {
			si := &ds.series[i]
			if lo := windowStart(si.minStart, size); si.maxStart < lo+size {
				seen[lo] = struct{}{}
				continue
			}
			starts, err := f.starts(si)
			if err != nil {
				return nil, nil, &inputError{f.name, err}
			}
			for _, t := range starts {
				seen[windowStart(t, size)] = struct{}{}
			}
		}
	}
	return out, slices.Sorted(maps.Keys(seen)), nil
}

// starts returns when a series' profiles or windows start.
func (f *file) starts(si *seriesInfo) ([]int64, error) {
	if si.sums != nil {
		h, err := f.readWindowHead(si.sums, len(si.Columns), false)
		if err != nil {
			return nil, err
		}
		return h.start, nil
	}
	heads, err := f.readHeads(context.Background(), []selected{{info: si}}, false)
	if err != nil {
		return nil, err
	}
	return heads[0].start, nil
}

// block merges the service's profiles that start in the window at win; nil if there are none.
func (c *compaction) block(ctx context.Context, service string, sources []source, win int64) ([]byte, catalog.Block, error) {
	from, to := win, win+c.window
	syms, origin, remaps, err := c.symbols(ctx, sources, from, to)
	if err != nil {
		return nil, catalog.Block{}, err
	}
	now := c.store.cfg.Now()
	c.w.reset(c.store.ids.next(now), c.level, now.UnixMilli(), c.resolution)
	c.w.last = c.resolution > 0 || now.UnixMilli() >= to+lateAfter.Milliseconds()
	byKey, order := map[string][]place{}, []*series(nil)
	var all []labels.Labels
	for i, src := range sources {
		for j := range src.ds.series {
			si := &src.ds.series[j]
			if si.maxStart < from || si.minStart >= to {
				continue
			}
			key := seriesKey(si.Labels, si.Type, si.Columns)
			if byKey[key] == nil {
				order, all = append(order, &series{labels: si.Labels, typ: si.Type, columns: si.Columns}), append(all, si.Labels)
			}
			byKey[key] = append(byKey[key], place{i, si})
		}
	}
	slices.SortFunc(order, func(a, b *series) int { return compareSeries(a, b, c.w.version) })
	c.w.begin(service, all)
	if c.w.version > version1 {
		syms = canonical(syms)
	}
	c.w.sizes = objectSizes(syms, c.w.sizes[:0])
	if c.resolution > 0 {
		err = c.sumBlock(ctx, service, sources, order, byKey, remaps, from, to)
	} else {
		err = c.rawBlock(ctx, service, sources, order, byKey, remaps, from, to)
	}
	if err != nil {
		return nil, catalog.Block{}, err
	}
	if c.w.ds.Profiles == 0 {
		return nil, catalog.Block{}, nil
	}
	if err := c.w.end(syms, origin); err != nil {
		return nil, catalog.Block{}, err
	}
	data, row := c.w.finish(c.ancestors)
	return data, row, nil
}

// rawBlock writes the profiles of the series of order that start in [from, to).
func (c *compaction) rawBlock(ctx context.Context, service string, sources []source, order []*series, byKey map[string][]place, remaps [][]uint32, from, to int64) error {
	for _, s := range order {
		last := int64(-1 << 63)
		for _, o := range byKey[seriesKey(s.labels, s.typ, s.columns)] {
			rs, err := c.records(ctx, sources[o.source].file, o.info, remaps[o.source], from, to)
			if err != nil {
				return &inputError{sources[o.source].file.name, fmt.Errorf("dataset %s: %w", service, err)}
			}
			if len(rs) > 0 && o.info.maxStart >= last {
				last, s.period = o.info.maxStart, o.info.Period
			}
			s.records = append(s.records, rs...)
		}
		if len(s.records) > 0 {
			sortRecords(s.records)
			c.w.add(s)
		}
		s.records = nil // one series at a time is in memory
	}
	return nil
}

// records reads the profiles of a series that start in [from, to), with their stacks mapped.
func (c *compaction) records(ctx context.Context, f *file, si *seriesInfo, remap []uint32, from, to int64) ([]record, error) {
	if si.sums != nil {
		return c.pseudoRecords(f, si, remap, from, to)
	}
	heads, err := f.readHeads(ctx, []selected{{info: si}}, false)
	if err != nil {
		return nil, err
	}
	h := heads[0]
	lo, hi := h.within(from, to)
	out := make([]record, 0, hi-lo)
	first := 0
	for i := range si.chunks {
		chunk := &si.chunks[i]
		end := first + chunk.profiles
		if end > lo && first < hi {
			at := len(out)
			for j := max(lo, first); j < min(hi, end); j++ {
				out = append(out, record{start: h.start[j], end: h.end[j], covered: h.covered[j]})
			}
			if err := c.spans(f, si, chunk, max(lo, first)-first, remap, out[at:]); err != nil {
				return nil, err
			}
			for k := range chunk.groups {
				if err := c.group(f, chunk, k, max(lo, first)-first, remap, out[at:]); err != nil {
					return nil, err
				}
			}
		}
		first = end
	}
	if c.keep != nil {
		out = slices.DeleteFunc(out, func(r record) bool { return !c.keep(si, r.start) })
	}
	return out, nil
}

// group decodes one group of a chunk into the records, the first of which is the chunk's profile skip.
func (c *compaction) group(f *file, chunk *chunkInfo, kind, skip int, remap []uint32, out []record) error {
	g := &chunk.groups[kind]
	if g.rows == 0 {
		return nil
	}
	b, err := f.bytes(g.span(len(g.columns) - 1))
	if err == nil {
		err = c.reader.open(chunk, g, b, len(remap))
	}
	if err != nil {
		return err
	}
	for i := range chunk.slices() {
		lo, hi := chunk.slice(i)
		if hi <= skip || lo >= skip+len(out) {
			continue
		}
		all, err := c.reader.profileMajor(i, remap)
		if err != nil {
			return err
		}
		for j := max(lo, skip); j < min(hi, skip+len(out)); j++ {
			out[j-skip].groups[kind] = all[j-lo]
		}
	}
	return nil
}
