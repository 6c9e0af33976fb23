package store

import (
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// seriesWindow is how long a series counts against its service after its last profile.
const seriesWindow = 2 * time.Hour

// seriesLimiter bounds the series of each service, so that a label with a value per request cannot fill the store with indices. It knows what
// this process has seen since it started: after a restart a service may have up to twice its series for two hours. Safe for concurrent use.
type seriesLimiter struct {
	max      int
	mu       sync.Mutex
	seed     maphash.Seed
	services map[string]*serviceSeries
}

type serviceSeries struct {
	last   map[uint64]int64 // hash of the series: Unix ms when it was last seen
	pruned int64            // Unix ms
}

// allow takes the series of a push, by service, or refuses them all.
func (l *seriesLimiter) allow(now int64, keys map[string][]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.services == nil {
		l.services, l.seed = map[string]*serviceSeries{}, maphash.MakeSeed()
	}
	for service, series := range keys {
		s := l.services[service]
		if s == nil {
			s = &serviceSeries{last: map[uint64]int64{}, pruned: now}
			l.services[service] = s
		}
		fresh := map[uint64]struct{}{}
		for _, k := range series {
			if h := maphash.String(l.seed, k); s.last[h] == 0 {
				fresh[h] = struct{}{}
			}
		}
		if len(s.last)+len(fresh) > l.max {
			s.prune(now)
		}
		if n := len(s.last) + len(fresh); n > l.max {
			return &LimitError{
				Limit: "max_series_per_service", Max: int64(l.max), Got: int64(n),
				What: fmt.Sprintf("service %s has %d series within 2 h, at most %d are allowed", service, n, l.max),
			}
		}
	}
	for service, series := range keys {
		s := l.services[service]
		for _, k := range series {
			s.last[maphash.String(l.seed, k)] = now
		}
		if now-s.pruned > seriesWindow.Milliseconds()/4 {
			s.prune(now)
		}
	}
	return nil
}

// prune forgets series without a profile in the window. At the limit it runs at most once a second.
func (s *serviceSeries) prune(now int64) {
	if now-s.pruned < 1000 {
		return
	}
	s.pruned = now
	for h, last := range s.last {
		if now-last > seriesWindow.Milliseconds() {
			delete(s.last, h)
		}
	}
}
