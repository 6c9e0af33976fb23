package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// rewritten is what a rewrite wrote and no row names yet.
type rewritten struct {
	rows   []catalog.Block
	opened []*openedFile
	began  time.Time
}

// rewrite writes what keep keeps of blocks of one resolution into new blocks, which are that share of them. The caller holds compacting. Where it fails nothing that it wrote is left.
func (s *Store) rewrite(ctx context.Context, in []catalog.Block, of share, keep func(si *seriesInfo, start int64) bool) (*rewritten, error) {
	out := &rewritten{began: time.Now()}
	level := 1
	for _, b := range in {
		level = max(level, b.Level)
	}
	c := &compaction{store: s, level: level, keep: keep, w: &fileWriter{comp: s.blockParts, share: of}}
	if at := steps[stepOf(in[0].Resolution)]; at.resolution > 0 {
		c.resolution, c.window = at.resolution, at.window.Milliseconds()
	}
	defer c.close()
	defer func() { s.blockParts = c.w.comp }()
	defer s.keepLease(ctx)()
	put := func(data []byte, row catalog.Block) error {
		out.rows, out.opened = append(out.rows, row), append(out.opened, c.w.opened)
		s.metrics.blockBytes.Add(float64(len(data)))
		return s.cfg.Blobs.Put(ctx, row.Blob, data)
	}
	err := c.openInputs(ctx, in)
	if err == nil {
		err = c.each(ctx, put)
	}
	if err != nil {
		return nil, errors.Join(err, s.discard(ctx, out))
	}
	return out, nil
}

// exchange swaps blocks for what was written of them, in one transaction.
func (s *Store) exchange(ctx context.Context, in []catalog.Block, outs ...*rewritten) error {
	var rows []catalog.Block
	var opened []*openedFile
	began := time.Now()
	for _, o := range outs {
		rows, opened = append(rows, o.rows...), append(opened, o.opened...)
		if o.began.Before(began) {
			began = o.began
		}
	}
	now, err := s.cfg.Catalog.Now(ctx)
	if err == nil {
		err = inTime(began)
	}
	if err == nil {
		err = s.swap(ctx, in, rows, now.Add(s.cfg.Grace))
	}
	switch {
	case err == nil:
		for i, b := range rows {
			s.cache.put(b.Blob, opened[i])
		}
	case errors.Is(err, catalog.ErrConflict): // nothing was changed, nobody can have seen the outputs
		for _, o := range outs {
			err = errors.Join(err, s.discard(ctx, o))
		}
	}
	return err
}

// discard deletes what was written and is not wanted.
func (s *Store) discard(ctx context.Context, r *rewritten) error {
	for _, b := range r.rows {
		if err := s.cfg.Blobs.Delete(context.WithoutCancel(ctx), b.Blob); err != nil {
			return fmt.Errorf("discard block: %w", err)
		}
	}
	return nil
}

// isAside reports whether a compaction could not read the blob within the last hour. The caller holds compacting.
func (s *Store) isAside(name string) bool {
	at, aside := s.aside[name]
	return aside && s.cfg.Now().Sub(at) < setAsideFor
}

// setAside notes which blob could not be read, so that the others come to their turn; it returns err if that was not what failed.
func (s *Store) setAside(err error) error {
	var input *inputError
	if !errors.As(err, &input) {
		return err
	}
	s.aside[input.blob] = s.cfg.Now()
	return nil
}

// readable returns blocks without those that are set aside.
func (s *Store) readable(blocks []catalog.Block) []catalog.Block {
	return slices.DeleteFunc(slices.Clone(blocks), func(b catalog.Block) bool { return s.isAside(b.Blob) })
}
