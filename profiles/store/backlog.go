package store

import (
	"context"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// behindAfter is how late compaction may be without a word: one long job and the wait for the next look.
const behindAfter = time.Minute

// Backlog is what waits to be compacted.
type Backlog struct {
	Segments int
	Bytes    int64
	Oldest   time.Duration // age of the oldest segment; 0: there is none
	// Behind is how much longer the oldest segment has waited than it should have: zero where compaction keeps up with what is pushed.
	Behind time.Duration
}

// Backlog returns what waits to be compacted.
func (s *Store) Backlog(ctx context.Context) (Backlog, error) {
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{Levels: []int{0}})
	if err != nil {
		return Backlog{}, err
	}
	return backlog(blocks, s.cfg.Now()), nil
}

func backlog(blocks []catalog.Block, now time.Time) Backlog {
	var b Backlog
	segments := slices.DeleteFunc(slices.Clone(blocks), func(x catalog.Block) bool { return x.Level != 0 })
	for _, x := range segments {
		b.Segments++
		b.Bytes += x.Size
		b.Oldest = max(b.Oldest, now.Sub(time.UnixMilli(x.Created)))
	}
	b.Behind = max(0, b.Oldest-dueAge(segments)-runEvery)
	return b
}

// watchBacklog says once a minute that compaction does not keep up, and once that it does again.
func (s *Store) watchBacklog(ctx context.Context) {
	b, err := s.Backlog(ctx)
	if err != nil {
		return // the next compaction says so
	}
	late := b.Behind > behindAfter
	switch {
	case late && time.Since(s.lateSaid) >= time.Minute:
		s.lateSaid = time.Now()
		s.log.Warn("compaction does not keep up with what is pushed", "behind", b.Behind.Round(time.Second), "segments", b.Segments, "bytes", b.Bytes)
	case !late && !s.lateSaid.IsZero():
		s.lateSaid = time.Time{}
		s.log.Info("compaction keeps up again")
	}
}
