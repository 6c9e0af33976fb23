package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

const (
	runEvery    = 5 * time.Second
	cleanEvery  = time.Minute
	expireEvery = time.Hour
	keyAge      = 14 * 24 * time.Hour
	retainTime  = 10 * time.Second // of one run of retention: then compaction has its turn
)

// The guard against a clock that jumps: see Store.trusted.
const (
	jump     = 25 * time.Hour // more than an outage over a night, less than the least that anybody keeps
	mistrust = time.Hour
)

// Run compacts, applies retention and deletes garbage until ctx is done, and then returns nil. What fails is logged and tried again.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(runEvery)
	defer tick.Stop()
	var cleaned time.Time
	// A compaction makes new blocks of old ones: what was to be deleted before must not be in them.
	s.attempt(ctx, "carry on deletions", func() error { return s.cleaning(ctx, s.resumeDeletions) })
	for {
		s.attempt(ctx, "compact", func() error { return s.Compact(ctx, false) })
		s.watchBacklog(ctx)
		if now := s.cfg.Now(); now.Sub(cleaned) >= cleanEvery || now.Before(cleaned) || s.more.Load() {
			cleaned = now
			s.attempt(ctx, "apply retention", func() error { return s.Clean(ctx) })
		} else {
			s.attempt(ctx, "delete garbage", func() error { return s.collectGarbage(ctx) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// attempt logs what fails, the same thing once a minute.
func (s *Store) attempt(ctx context.Context, what string, fn func() error) {
	err := fn()
	if err == nil || ctx.Err() != nil {
		return
	}
	if s.quiet == nil {
		s.quiet = map[string]time.Time{}
	}
	if now := time.Now(); now.Sub(s.quiet[what]) >= time.Minute {
		s.quiet[what] = now
		s.log.Error("cannot "+what, "err", err)
	}
}

// Clean carries on deletions, applies retention, deletes garbage whose time has come, and looks for orphans. Run does it every minute.
func (s *Store) Clean(ctx context.Context) error {
	return s.cleaning(ctx, func(ctx context.Context) error {
		return errors.Join(s.resumeDeletions(ctx), s.retain(ctx), s.collectGarbage(ctx), s.collectOrphans(ctx))
	})
}

// cleaning runs fn while nothing else compacts, or not at all where another collector holds the lease.
func (s *Store) cleaning(ctx context.Context, fn func(context.Context) error) error {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	held, err := s.lease(ctx)
	if err != nil || !held {
		return err
	}
	return fn(ctx)
}

// retain does what retention asks for, for retainTime; more says whether that was not enough. A block that cannot be read stays as it is until it is beyond its last step.
func (s *Store) retain(ctx context.Context) error {
	s.more.Store(false)
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{})
	if err != nil {
		return fmt.Errorf("apply retention: list blocks: %w", err)
	}
	now, err := s.trusted(ctx, newest(blocks))
	if err != nil {
		return fmt.Errorf("apply retention: %w", err)
	}
	var bad error
	for began := time.Now(); ; {
		ps, err := readPins(ctx, s.cfg.Catalog)
		if err != nil {
			return errors.Join(bad, fmt.Errorf("apply retention: %w", err))
		}
		if blocks, err = s.withoutDoomed(ctx, blocks); err != nil {
			return errors.Join(bad, fmt.Errorf("apply retention: %w", err))
		}
		a, ok := planRetention(s.readable(blocks), now, &s.retention, ps)
		if !ok {
			break
		}
		if err := s.apply(ctx, a, ps); err != nil {
			bad = errors.Join(bad, fmt.Errorf("apply retention to %d blocks from %s on: %w", len(a.In), a.In[0].ID, err))
			if s.setAside(err) != nil || ctx.Err() != nil {
				return bad
			}
		}
		if time.Since(began) > retainTime {
			s.more.Store(true)
			break
		}
		if blocks, err = s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{}); err != nil {
			return errors.Join(bad, fmt.Errorf("apply retention: list blocks: %w", err))
		}
	}
	return errors.Join(bad, s.expireRows(ctx, now))
}

// apply does one thing. Where a compaction or a deletion of another collector was there first the next plan finds what is left to do.
func (s *Store) apply(ctx context.Context, a action, ps *pins) error {
	var err error
	switch {
	case a.Drop:
		var now time.Time
		if now, err = s.cfg.Catalog.Now(ctx); err == nil {
			err = s.swap(ctx, a.In, nil, now.Add(s.cfg.Grace))
		}
		if err == nil {
			s.metrics.expired.WithLabelValues(a.Reason).Add(float64(len(a.In)))
		}
	case a.Split:
		err = s.split(ctx, a.In[0], ps)
	default:
		if err = s.downsample(ctx, a.In, steps[a.Step].resolution, steps[a.Step].window); err == nil {
			s.metrics.downsampled.WithLabelValues(a.Reason).Add(float64(len(a.In)))
		}
	}
	if errors.Is(err, catalog.ErrConflict) {
		return nil
	}
	return err
}

// newest returns the latest end of a profile.
func newest(blocks []catalog.Block) int64 {
	end := int64(0)
	for _, b := range blocks {
		for _, ds := range b.Datasets {
			end = max(end, ds.MaxEnd)
		}
	}
	return end
}

// trusted returns the time that retention goes by: the clock's, unless that has jumped ahead since retention last ran. Then retention stands still at the time
// that it last went by, and says so, until for an hour the clock has stayed there and profiles of that time have come: a wrong clock must not cost the
// data, and one that was set right, or a collector that was off for a week, loses nothing by the wait.
func (s *Store) trusted(ctx context.Context, newest int64) (time.Time, error) {
	last, err := s.cfg.Catalog.RetentionClock(ctx)
	if err != nil {
		return time.Time{}, err
	}
	now := s.cfg.Now()
	if !believable(last, now, newest, s.jumped, time.Now()) {
		if s.jumped.IsZero() {
			s.jumped = time.Now()
		}
		s.log.Warn("the clock has jumped ahead since retention last ran: nothing is deleted until profiles of the new time have come for an hour; if the clock is wrong, set it right",
			"before", time.UnixMilli(last), "now", now, "newest_profile", time.UnixMilli(newest))
		return time.UnixMilli(last), nil
	}
	s.jumped = time.Time{}
	return now, s.cfg.Catalog.SetRetentionClock(ctx, now.UnixMilli())
}

// believable decides whether retention may go by now: last is the time it last went by (0: never), newest that of the newest profile, jumped since when (on the monotonic clock,
// like at) the clock has been ahead, zero where it was not.
func believable(last int64, now time.Time, newest int64, jumped, at time.Time) bool {
	if last == 0 || now.Sub(time.UnixMilli(last)) <= jump {
		return true
	}
	return !jumped.IsZero() && at.Sub(jumped) >= mistrust && now.Sub(time.UnixMilli(newest)) <= jump
}

// expireRows removes keys, processes, builds and events that nothing refers to any more: those of processes that were only seen with each cleaning, the others once
// an hour, because it takes a look at every old row.
func (s *Store) expireRows(ctx context.Context, now time.Time) error {
	var keys, rows int64
	if s.rowsExpired.IsZero() || now.Sub(s.rowsExpired) >= expireEvery || now.Before(s.rowsExpired) {
		s.rowsExpired = now
		keys = now.Add(-max(keyAge, 2*s.retention.def.Raw)).UnixMilli()
		rows = now.Add(-s.retention.shortest()).UnixMilli()
	}
	if err := s.cfg.Catalog.Expire(ctx, max(0, keys), max(0, rows), max(0, rows)); err != nil {
		return fmt.Errorf("expire keys, processes and events: %w", err)
	}
	return nil
}

// shortest returns the least time for which any service's raw profiles are kept: what is younger need not be looked at.
func (r *retention) shortest() time.Duration {
	shortest := r.def.Raw
	for i := range r.rules {
		shortest = min(shortest, r.rules[i].Raw)
	}
	return max(shortest, day)
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
