package store

import (
	"fmt"
	"sync"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
)

// What is kept free for all but pushes. A compaction holds its inputs and its outputs, which are no larger, on the disk at once; deleting and adding up, which
// is what frees space, need the catalogue's log and an output too. A small disk gives a twentieth.
const (
	reserveBytes = 2 * maxInputBytes
	reserveShare = 20
	freeEvery    = time.Second // how often the disk is asked while it has much more than the reserve
)

// diskGuard knows whether the disk has room for pushes. Safe for concurrent use.
type diskGuard struct {
	free func() (free, total int64, err error)

	mu   sync.Mutex
	at   time.Time
	near bool // so little is free that it may be gone within freeEvery: the disk is asked each time
}

// check returns an error that wraps blob.ErrNoSpace where a push could take what the rest of the store needs. A disk that cannot be asked counts as one with room: a write will tell.
func (g *diskGuard) check() error {
	if g.free == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if !g.near && now.Sub(g.at) < freeEvery {
		return nil
	}
	g.at, g.near = now, false
	if free, total, err := g.free(); err == nil {
		kept := reserve(total)
		if g.near = free < 8*kept; free < kept {
			return fmt.Errorf("%w: %d bytes are free, %d are kept free for compaction and retention", blob.ErrNoSpace, free, kept)
		}
	}
	return nil
}

// reserve returns how much of a disk of total bytes pushes leave alone.
func reserve(total int64) int64 { return min(reserveBytes, total/reserveShare) }
