package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// seriesWindow is how long a series counts against its service after its last profile.
const seriesWindow = 2 * time.Hour

// seriesLimiter bounds the series of each service, so that a label with a value per request cannot fill the store with indices. Safe for concurrent use.
type seriesLimiter struct {
	max      int
	mu       sync.Mutex
	seed     maphash.Seed
	services map[string]*serviceSeries
	swept    int64 // Unix ms: when services without series were last forgotten
}

type serviceSeries struct {
	last   map[uint64]int64 // hash of the series: Unix ms when it was last seen
	pruned int64            // Unix ms
}

// knows reports whether service was pushed to, or learnt, before.
func (l *seriesLimiter) knows(service string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.services[service] != nil
}

// learn takes the series of a service, with the times (Unix ms) when they were last seen, that were stored before this process started.
func (l *seriesLimiter) learn(now int64, service string, series map[string]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.service(now, service)
	for k, last := range series {
		h := maphash.String(l.seed, k)
		s.last[h] = max(s.last[h], last)
	}
}

func (l *seriesLimiter) service(now int64, service string) *serviceSeries {
	if l.services == nil {
		l.services, l.seed = map[string]*serviceSeries{}, maphash.MakeSeed()
	}
	s := l.services[service]
	if s == nil {
		s = &serviceSeries{last: map[uint64]int64{}, pruned: now}
		l.services[service] = s
	}
	return s
}

// learnSeries reads which series the services had in the last hours, once for each service in the life of the process. What cannot be read does not count.
func (s *Store) learnSeries(ctx context.Context, byService map[string][]string) error {
	for service := range byService {
		if s.limiter.knows(service) {
			continue
		}
		if err := s.learnService(ctx, service); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) learnService(ctx context.Context, service string) error {
	s.learning.Lock()
	defer s.learning.Unlock()
	if s.limiter.knows(service) {
		return nil
	}
	now := s.cfg.Now().UnixMilli()
	q := Query{Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, serviceLabel, service)}, From: now - seriesWindow.Milliseconds(), To: maxTime + 1}
	var series map[string]int64
	_, err := s.visit(ctx, q, func() { series = map[string]int64{} }, func(_ *file, ds *dataset) error {
		for i := range ds.series {
			if si := &ds.series[i]; si.maxEnd >= q.From {
				k := seriesKey(si.Labels, si.Type, si.Columns)
				series[k] = max(series[k], min(si.maxEnd, now))
			}
		}
		return nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		s.log.Warn("cannot read all series of a service; those it had before the start do not count towards its limit", "service", service, "err", err)
	}
	s.limiter.learn(now, service, series)
	return nil
}

// allow takes the series of a push, by service, or refuses them all.
func (l *seriesLimiter) allow(now int64, keys map[string][]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for service, series := range keys {
		s := l.service(now, service)
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
	l.sweep(now)
	for service, series := range keys {
		s := l.service(now, service)
		for _, k := range series {
			s.last[maphash.String(l.seed, k)] = now
		}
		if now-s.pruned > seriesWindow.Milliseconds()/4 {
			s.prune(now)
		}
	}
	return nil
}

// sweep forgets the services that sent nothing in the window. One that comes back is learnt again.
func (l *seriesLimiter) sweep(now int64) {
	if now-l.swept < seriesWindow.Milliseconds()/4 {
		return
	}
	l.swept = now
	for service, s := range l.services {
		if s.prune(now); len(s.last) == 0 {
			delete(l.services, service)
		}
	}
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
