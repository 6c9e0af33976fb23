package rotate

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// countEvery is how often the live replicas are counted. k follows a fleet that grows or shrinks within this time and a slot.
const countEvery = 30 * time.Second

// Config configures a Fleet. Alive is required.
type Config struct {
	// Alive returns the live processes that are profiled, by service. catalog.Catalog's AliveByService is one.
	Alive  func(ctx context.Context) (map[string]int, error)
	Logger *slog.Logger // nil: discard
}

// Fleet knows how many replicas each service has. Make one with New.
type Fleet struct {
	cfg   Config
	mu    sync.Mutex
	alive map[string]int
	held  map[held]int // k as it was last given out
}

type held struct {
	service  string
	replicas int
}

// New returns a Fleet that knows of nobody: until Run has counted all are profiled.
func New(cfg Config) *Fleet {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Fleet{cfg: cfg, held: map[held]int{}}
}

// Run counts until ctx is done, and returns nil. Where the count fails the last one stays.
func (f *Fleet) Run(ctx context.Context) error {
	t := time.NewTicker(countEvery)
	defer t.Stop()
	for {
		alive, err := f.cfg.Alive(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			f.cfg.Logger.Warn("cannot count the replicas of the services; they rotate as before", "error", err)
		default:
			f.Set(alive)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Set takes a count of the live replicas by service. It keeps alive.
func (f *Fleet) Set(alive map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alive = alive
	for h := range f.held {
		if alive[h.service] == 0 {
			delete(f.held, h)
		}
	}
}

// Rotate returns the settings for the replicas of service under rule, nil where all are to be profiled. k stays what it was while the count asks for one within a quarter of it: with each
// change the groups fall anew, and one that changed with every pod would leave it to chance who is profiled when.
func (f *Fleet) Rotate(rule Rule, service string) *Settings {
	if rule.Replicas <= 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	want := rule.Groups(f.alive[service])
	if want <= 1 {
		delete(f.held, held{service, rule.Replicas})
		return nil
	}
	at := held{service, rule.Replicas}
	k := f.held[at]
	if k <= 1 || 4*want > 5*k || 4*want < 3*k {
		k = want
		f.held[at] = k
	}
	return rule.settings(k)
}
