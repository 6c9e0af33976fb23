package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// MigratedBack says what MigrateBack did.
type MigratedBack struct {
	Rewritten int // segments and blocks that were written as version 1
	Kept      int // those that were of version 1
	Lost      []string
}

// unreadableFor is how long a blob that could not be migrated is kept as garbage, so that nobody deletes it before somebody has looked at it.
const unreadableFor = 10 * 365 * 24 * time.Hour

// MigrateBack writes every live segment and block anew in version 1 of the format, one after the other: at any moment the store is whole. Windows of
// downsampled blocks become a profile each, with the window's sums as its values. The store must not be open.
func MigrateBack(ctx context.Context, blobs blob.Store, cat catalog.Catalog) (*MigratedBack, error) {
	s, err := Open(ctx, Config{Blobs: blobs, Catalog: cat})
	if err != nil {
		return nil, err
	}
	m := &migration{store: s}
	return &m.out, errors.Join(m.run(ctx), s.Close())
}

// migration is one MigrateBack.
type migration struct {
	store       *Store
	out         MigratedBack
	spans, sums int
}

func (m *migration) run(ctx context.Context) error {
	s := m.store
	s.compacting.Lock()
	defer s.compacting.Unlock()
	if err := s.waitForLease(ctx); err != nil {
		return err
	}
	defer s.keepLease(ctx)()
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{})
	if err != nil {
		return fmt.Errorf("list blocks: %w", err)
	}
	for i := range blocks {
		if err := m.block(ctx, &blocks[i]); err != nil {
			return fmt.Errorf("migrate block %s: %w", blocks[i].Blob, err)
		}
	}
	return m.losses(ctx)
}

// waitForLease takes the lease, if need be when that of a collector that was killed has run out.
func (s *Store) waitForLease(ctx context.Context) error {
	for until := time.Now().Add(leaseTTL + time.Second); ; {
		held, err := s.lease(ctx)
		if err != nil || held {
			return err
		}
		if time.Now().After(until) {
			return ErrBusy
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// block migrates one block. One that cannot be read is taken out: to the earlier release it would be an error in every query.
func (m *migration) block(ctx context.Context, b *catalog.Block) error {
	s := m.store
	f, err := openFile(ctx, s.cfg.Blobs, b.Blob, nil)
	if err == nil {
		defer f.close()
		foot := f.opened.foot
		if foot.version == version1 {
			m.out.Kept++
			return nil
		}
		for _, ds := range foot.datasets {
			m.spans += int(bit(ds.regions[regionSpans].length > 0))
		}
		m.sums += int(bit(foot.resolution > 0))
		err = s.rewriteV1(ctx, *b)
	}
	if err == nil {
		m.out.Rewritten++
		return nil
	}
	var input *inputError
	if ctx.Err() != nil || f != nil && !errors.As(err, &input) {
		return err
	}
	m.out.Lost = append(m.out.Lost, fmt.Sprintf("blob %s, which cannot be read: %v", b.Blob, err))
	return s.swap(ctx, []catalog.Block{*b}, nil, time.Now().Add(unreadableFor))
}

// losses says what version 1 and schema 1 have no place for.
func (m *migration) losses(ctx context.Context) error {
	lost := func(n int, format string) {
		if n > 0 {
			m.out.Lost = append(m.out.Lost, fmt.Sprintf(format, n))
		}
	}
	lost(m.sums, "of %d blocks of sums the profiles that were added up: each window is one profile now, with its gauges' means rounded")
	lost(m.spans, "the spans (span_id, trace_id) of samples in %d datasets")
	pins, _, err := m.store.cfg.Catalog.Pins(ctx)
	if err != nil {
		return err
	}
	lost(len(pins), "%d pins: the earlier release's retention deletes what they kept")
	return nil
}
