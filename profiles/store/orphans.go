package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// orphanAge is the age from which a blob that no row names is deleted: nothing that is older can still be registered. Of this process that is certain:
// what it is about to register is in Store.underway, and a compaction holds the lock that the search for orphans needs. For other processes on the same
// catalogue it rests on registerWithin and on clocks that agree to ten minutes.
const (
	orphanAge      = 20 * time.Minute
	registerWithin = orphanAge / 4 // from the start of the writing of a blob to its registration, and of the registration itself
)

var errTooLate = errors.New("it took so long that its blob may be taken for an orphan")

// inTime says whether what was written since began may still be registered. Time that the machine slept counts.
func inTime(began time.Time) error {
	now := time.Now()
	if now.Sub(began) > registerWithin || now.Round(0).Sub(began.Round(0)) > registerWithin {
		return errTooLate
	}
	return nil
}

// dated is what a catalogue offers that knows when it was created.
type dated interface {
	Born(ctx context.Context) (time.Time, error)
}

// keepStrangers takes out of found what is older than the catalogue: a push or a compaction under another one made it. Where a catalogue was lost, and an empty one took its
// place, all that is stored is among it, and sonde check --rebuild can still bring it back.
func (s *Store) keepStrangers(ctx context.Context, found map[string]struct{}) error {
	cat, ok := s.cfg.Catalog.(dated)
	if !ok {
		return nil
	}
	born, err := cat.Born(ctx)
	if err != nil {
		return err
	}
	strangers := 0
	for name := range found {
		if id, ok := idOfBlob(name); ok && id.time().Before(born) {
			delete(found, name)
			strangers++
		}
	}
	if strangers > 0 && !s.strangersSaid {
		s.strangersSaid = true
		s.log.Error("there are blobs that are older than the catalogue, and that it does not name: they are left alone; if the catalogue was lost, stop the collector and run `sonde check --rebuild`", "blobs", strangers)
	}
	return nil
}

// collectOrphans deletes blobs that no row names: of pushes and compactions that did not come to their end, whichever process they were of.
func (s *Store) collectOrphans(ctx context.Context) error {
	pending, ok := s.cfg.Catalog.(pendingGarbage)
	if !ok {
		return nil // what waits as garbage cannot be told from orphans
	}
	old := s.cfg.Now().Add(-orphanAge)
	found := map[string]struct{}{}
	for _, folder := range [...]string{segmentFolder, blockFolder} {
		for info, err := range s.cfg.Blobs.List(ctx, folder) {
			if err != nil {
				return fmt.Errorf("look for orphans: %w", err)
			}
			if _, underway := s.underway.Load(info.Name); !underway && info.ModTime.Before(old) {
				found[info.Name] = struct{}{}
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	// In the order in which names move: a blob that is registered meanwhile is among the blocks, and one that is replaced is there or in the garbage.
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{})
	if err != nil {
		return fmt.Errorf("look for orphans: %w", err)
	}
	for _, b := range blocks {
		delete(found, b.Blob)
	}
	waiting, err := pending.Pending(ctx)
	if err != nil {
		return fmt.Errorf("look for orphans: %w", err)
	}
	for _, name := range waiting {
		delete(found, name)
	}
	if err := s.keepStrangers(ctx, found); err != nil {
		return fmt.Errorf("look for orphans: %w", err)
	}
	for name := range found {
		if err := s.cfg.Blobs.Delete(ctx, name); err != nil {
			return fmt.Errorf("delete orphan %s: %w", name, err)
		}
		s.log.Info("deleted a blob that no row names", "blob", name)
		s.metrics.garbage.Inc()
	}
	return nil
}
