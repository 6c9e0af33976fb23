package store

import (
	"context"
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// symbols makes one table of the sources' and returns each one's stack ids in it, and where the table is in a dictionary, if in one. Of a source that
// reaches beyond the window only the stacks used inside it are taken.
func (c *compaction) symbols(ctx context.Context, sources []source, from, to int64) (*profiles.Symbols, *origin, [][]uint32, error) {
	dict := commonDictionary(sources)
	syms, remaps := profiles.NewSymbols(), make([][]uint32, len(sources))
	if dict != nil {
		c.store.mu.Lock()
		syms = snapshot(dict)
		c.store.mu.Unlock()
		c.subset.reset(syms)
	}
	for i, src := range sources {
		if src.ds.info.MaxStart < from || src.ds.info.MinStart >= to {
			continue
		}
		var err error
		if dict != nil {
			remaps[i], err = c.mark(ctx, src, from, to)
		} else {
			remaps[i], err = c.intern(ctx, syms, src, from, to)
		}
		if err != nil {
			return nil, nil, nil, &inputError{src.file.name, err}
		}
	}
	if dict == nil {
		return syms, nil, remaps, nil
	}
	syms = c.subset.copy()
	for _, remap := range remaps {
		for i, id := range remap {
			remap[i] = c.subset.stacks[id]
		}
	}
	return syms, c.subset.origin(dict), remaps, nil
}

// commonDictionary returns the dictionary that all sources come from, nil if there is none.
func commonDictionary(sources []source) *profiles.Symbols {
	var dict *profiles.Symbols
	for _, src := range sources {
		if src.ds.origin == nil {
			return nil
		}
		d := src.ds.origin.dict.Value()
		if d == nil || dict != nil && d != dict {
			return nil
		}
		dict = d
	}
	return dict
}

// mark marks the source's stacks in the dictionary and returns their ids there, 0 for those not in use.
func (c *compaction) mark(ctx context.Context, src source, from, to int64) ([]uint32, error) {
	remap := slices.Clone(src.ds.origin.stacks)
	use, err := c.use(ctx, src, len(remap), from, to)
	if err != nil {
		return nil, err
	}
	for i, id := range remap {
		if use != nil && !use(uint32(i)) {
			remap[i] = 0
			continue
		}
		c.subset.use(id)
	}
	return remap, nil
}

// intern adds the source's stacks to syms and returns their ids there.
func (c *compaction) intern(ctx context.Context, syms *profiles.Symbols, src source, from, to int64) ([]uint32, error) {
	own, err := src.file.loadSymbols(src.ds)
	if err != nil {
		return nil, err
	}
	use, err := c.use(ctx, src, len(own.Stacks), from, to)
	if err != nil {
		return nil, err
	}
	return syms.AddStacks(own, use), nil
}

// use tells which of the source's stacks are used in [from, to); nil: all.
func (c *compaction) use(ctx context.Context, src source, stacks int, from, to int64) (func(uint32) bool, error) {
	if c.keep == nil && src.ds.info.MinStart >= from && src.ds.info.MaxStart < to {
		return nil, nil
	}
	used, err := c.used(ctx, src, stacks, from, to)
	return func(id uint32) bool { return used[id] }, err
}

// used marks the stacks of the profiles that start in [from, to).
func (c *compaction) used(ctx context.Context, src source, stacks int, from, to int64) ([]bool, error) {
	used := make([]bool, stacks)
	same := identity(stacks)
	for i := range src.ds.series {
		if src.ds.series[i].sums != nil {
			if err := c.usedSums(src.file, &src.ds.series[i], used, from, to); err != nil {
				return nil, err
			}
			continue
		}
		rs, err := c.records(ctx, src.file, &src.ds.series[i], same, from, to)
		if err != nil {
			return nil, err
		}
		for j := range rs {
			for _, r := range rs[j].spans {
				used[r.stack] = true
			}
			for k := range rs[j].groups {
				for _, id := range rs[j].groups[k].stacks {
					used[id] = true
				}
			}
		}
	}
	return used, nil
}
