package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

const (
	runEvery   = 5 * time.Second
	cleanEvery = time.Minute
	keyAge     = 14 * 24 * time.Hour
)

// Run compacts, applies retention and deletes garbage until ctx is done, and then returns nil. What fails is logged and tried again.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(runEvery)
	defer tick.Stop()
	var cleaned time.Time
	for {
		s.attempt(ctx, "compact", func() error { return s.Compact(ctx, false) })
		if now := s.cfg.Now(); now.Sub(cleaned) >= cleanEvery {
			cleaned = now
			s.attempt(ctx, "apply retention", func() error { return s.Clean(ctx) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Store) attempt(ctx context.Context, what string, fn func() error) {
	if err := fn(); err != nil && ctx.Err() == nil {
		s.log.Error("cannot "+what, "err", err)
	}
}

// Clean applies retention, deletes garbage whose time has come, and looks for orphans. Run does it every minute.
func (s *Store) Clean(ctx context.Context) error {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	held, err := s.lease(ctx)
	if err != nil || !held {
		return err
	}
	return errors.Join(s.expire(ctx), s.collectGarbage(ctx), s.collectOrphans(ctx))
}

// expire drops blocks that are too old, and the oldest while there are too many bytes.
func (s *Store) expire(ctx context.Context) error {
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{})
	if err != nil {
		return fmt.Errorf("expire blocks: %w", err)
	}
	now, err := s.cfg.Catalog.Now(ctx)
	if err != nil {
		return fmt.Errorf("expire blocks: %w", err)
	}
	oldest := s.cfg.Now().Add(-s.cfg.MaxAge).UnixMilli()
	for _, e := range planExpiry(blocks, oldest, s.cfg.MaxBytes) {
		err := s.swap(ctx, []catalog.Block{e.block}, nil, now.Add(s.cfg.Grace))
		if errors.Is(err, catalog.ErrConflict) { // compacted meanwhile; its successor's turn comes
			continue
		}
		if err != nil {
			return fmt.Errorf("expire block %s: %w", e.block.ID, err)
		}
		s.metrics.expired.WithLabelValues(e.reason).Inc()
	}
	keys := s.cfg.Now().Add(-max(keyAge, 2*s.cfg.MaxAge)).UnixMilli()
	if err := s.cfg.Catalog.Expire(ctx, keys, oldest, oldest); err != nil {
		return fmt.Errorf("expire keys, processes and events: %w", err)
	}
	return nil
}

// expiry is a block to drop and why.
type expiry struct {
	block  catalog.Block
	reason string // age, size
}

// planExpiry returns the blocks all of whose profiles ended before oldest, and then the oldest ones until the rest is at most maxBytes. It is a pure function.
func planExpiry(blocks []catalog.Block, oldest, maxBytes int64) []expiry {
	end := func(b *catalog.Block) int64 {
		e := int64(-1 << 63)
		for _, ds := range b.Datasets {
			e = max(e, ds.MaxEnd)
		}
		return e
	}
	sorted := slices.Clone(blocks)
	slices.SortFunc(sorted, func(a, b catalog.Block) int { return cmp.Or(cmp.Compare(end(&a), end(&b)), cmp.Compare(a.ID, b.ID)) })
	total := int64(0)
	for _, b := range sorted {
		total += b.Size
	}
	var out []expiry
	for i := range sorted {
		b := &sorted[i]
		switch {
		case end(b) < oldest:
			out = append(out, expiry{*b, "age"})
		case total > maxBytes:
			out = append(out, expiry{*b, "size"})
		default:
			return out
		}
		total -= b.Size
	}
	return out
}

// collectGarbage deletes blobs that were replaced or expired longer ago than the grace.
func (s *Store) collectGarbage(ctx context.Context) error {
	for {
		names, err := s.cfg.Catalog.Garbage(ctx, 256)
		if err != nil {
			return fmt.Errorf("collect garbage: %w", err)
		}
		if len(names) == 0 {
			return nil
		}
		for _, name := range names {
			if err := s.cfg.Blobs.Delete(ctx, name); err != nil {
				return fmt.Errorf("collect garbage: delete blob %s: %w", name, err)
			}
			s.metrics.garbage.Inc()
		}
		if err := s.cfg.Catalog.Forget(ctx, names); err != nil {
			return fmt.Errorf("collect garbage: %w", err)
		}
	}
}

// oldestSegment returns when the oldest live segment was made, 0 if there is none.
func (s *Store) oldestSegment(ctx context.Context) (int64, error) {
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{Levels: []int{0}})
	if err != nil {
		return 0, err
	}
	oldest := int64(0)
	for _, b := range blocks {
		if oldest == 0 || b.Created < oldest {
			oldest = b.Created
		}
	}
	return oldest, nil
}
