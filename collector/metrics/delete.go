package metrics

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
)

const serviceLabel = "service_name"

// Deletion selects samples in [From, To), Unix ms, of a service, of an instance, or of an instance of a service.
type Deletion struct {
	Service, Instance string
	From, To          int64
}

// Delete deletes what d selects. Queries that start after it returned do not find it, and neither does a Store that is opened later with d in its Config. Blocks are written anew without
// it by Run; what is of the last hours leaves the write-ahead log when that is cut, within some hours. To delete twice changes nothing. What comes late is stored: a deletion is about
// what was there.
func (s *Store) Delete(ctx context.Context, d Deletion) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return fmt.Errorf("delete series: %w", ErrClosed)
	}
	from, to, ms, err := d.selection()
	if err != nil || to < from {
		return err
	}
	// What came out of order is in no block and in no part of the head that deletions reach.
	if err := s.db.CompactOOOHead(ctx); err != nil {
		return fmt.Errorf("delete series: %w", err)
	}
	if err := s.db.Delete(ctx, from, to, ms...); err != nil {
		return fmt.Errorf("delete series: %w", err)
	}
	s.deleted.Store(true)
	return nil
}

// selection returns the closed interval and the matchers of d.
func (d Deletion) selection() (from, to int64, ms []*labels.Matcher, err error) {
	for _, l := range []labels.Label{{Name: serviceLabel, Value: d.Service}, {Name: instanceLabel, Value: d.Instance}} {
		if l.Value != "" {
			ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
		}
	}
	if len(ms) == 0 {
		err = errors.New("delete series: neither a service nor an instance is named")
	}
	return max(d.From, earliest), min(d.To-1, latest()), ms, err
}

// deleteAgain takes out of what was read from the log what was deleted: files of chunks that came out of order outlive their compaction, and are read again where the collector starts anew.
func (s *Store) deleteAgain(ctx context.Context) error {
	head := s.db.Head()
	for _, d := range s.cfg.Deleted {
		from, to, _, err := d.selection()
		if err != nil {
			return err
		}
		if from <= to && (head.OverlapsClosedInterval(from, to) || from <= head.MaxOOOTime() && head.MinOOOTime() <= to) {
			if err := s.Delete(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// clean writes blocks anew of which something was deleted.
func (s *Store) clean() error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed || !s.deleted.CompareAndSwap(true, false) {
		return nil
	}
	if err := s.db.CleanTombstones(); err != nil {
		s.deleted.Store(true)
		return fmt.Errorf("write blocks of series without what was deleted: %w", err)
	}
	return nil
}
