package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	// seriesWindow is how long a series counts against its service after its last profile, while its instance goes on sending.
	seriesWindow = 2 * time.Hour
	// An instance that has said nothing for three of its own pauses, at least minSilence and at most maxSilence, has ended: nothing of it counts any more. A fleet
	// that replaces its pods all day has as many series as it has pods, not as many as it had.
	minSilence = time.Minute
	maxSilence = 10 * time.Minute
	// seriesSweep is how often what does not count any more is forgotten where no limit asks for it earlier.
	seriesSweep = 5 * time.Minute
)

// seriesRef is one series of a push, as the limiter sees it.
type seriesRef struct {
	key      string // seriesKey
	instance string // "" where the profile names none: such series count for seriesWindow
	end      int64  // of the profile, Unix ms
	length   int64  // of the profile, ms
}

// seriesLimiter bounds the series of each service that are alive, so that a label with a value per request cannot fill the store with indices. It holds no more than
// max series of a service. Safe for concurrent use.
type seriesLimiter struct {
	max      int
	mu       sync.Mutex
	seed     maphash.Seed
	services map[string]*serviceSeries
	swept    int64 // Unix ms: when services without series were last forgotten
}

type serviceSeries struct {
	instances map[uint64]*instanceSeries // by the hash of the instance; 0: of profiles that name none
	n         int                        // series of all instances
	pruned    int64                      // Unix ms
}

type instanceSeries struct {
	last, pace int64            // Unix ms of its last data; its longest pause so far, ms
	series     map[uint64]int64 // hash of the series: Unix ms when it was last seen
}

// alive reports whether the instance still counts.
func (i *instanceSeries) alive(now int64) bool {
	return now-i.last <= min(max(3*i.pace, minSilence.Milliseconds()), maxSilence.Milliseconds())
}

// knows reports whether service was pushed to, or learnt, before.
func (l *seriesLimiter) knows(service string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.services[service] != nil
}

// learn takes series of a service that were stored before this process started; end is when each was last seen.
func (l *seriesLimiter) learn(now int64, service string, series []seriesRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.service(now, service)
	for i := range series {
		if l.counts(now, &series[i]) {
			s.add(l, now, &series[i])
		}
	}
}

func (l *seriesLimiter) service(now int64, service string) *serviceSeries {
	if l.services == nil {
		l.services, l.seed = map[string]*serviceSeries{}, maphash.MakeSeed()
	}
	s := l.services[service]
	if s == nil {
		s = &serviceSeries{instances: map[uint64]*instanceSeries{}, pruned: now}
		l.services[service] = s
	}
	return s
}

func (l *seriesLimiter) instance(r *seriesRef) uint64 {
	if r.instance == "" {
		return 0
	}
	return maphash.String(l.seed, r.instance) | 1 // never that of none
}

// counts reports whether r is of something that lives. What a spool delivers late is of instances that may be long gone.
func (l *seriesLimiter) counts(now int64, r *seriesRef) bool {
	return r.instance == "" || now-r.end <= maxSilence.Milliseconds()
}

// add counts r.
func (s *serviceSeries) add(l *seriesLimiter, now int64, r *seriesRef) {
	id, at := l.instance(r), now
	if id != 0 {
		at = min(now, r.end)
	}
	i := s.instances[id]
	if i == nil {
		i = &instanceSeries{last: at, series: map[uint64]int64{}}
		s.instances[id] = i
	}
	i.pace = max(i.pace, r.length, at-i.last)
	i.last = max(i.last, at)
	h := maphash.String(l.seed, r.key)
	if _, ok := i.series[h]; !ok {
		s.n++
	}
	i.series[h] = max(i.series[h], at)
}

// has reports whether r is counted.
func (s *serviceSeries) has(l *seriesLimiter, r *seriesRef) bool {
	i := s.instances[l.instance(r)]
	return i != nil && i.series[maphash.String(l.seed, r.key)] != 0
}

// learnSeries reads which series of the services are alive, once for each service in the life of the process. What cannot be read does not count.
func (s *Store) learnSeries(ctx context.Context, byService map[string][]seriesRef) error {
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
	series, err := s.aliveSeries(ctx, service, now)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		s.log.Warn("cannot read all series of a service; those it had before the start do not count towards its limit", "service", service, "err", err)
	}
	s.limiter.learn(now, service, series)
	return nil
}

// aliveSeries reads the series of the instances that had data in the last minSilence, and those without an instance, of the last seriesWindow. It looks twice: what an
// hour of short-lived instances left is never in memory together.
func (s *Store) aliveSeries(ctx context.Context, service string, now int64) ([]seriesRef, error) {
	q := Query{Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, serviceLabel, service)}, From: now - seriesWindow.Milliseconds(), To: maxTime + 1}
	var alive map[string]bool
	if _, err := s.visit(ctx, q, func() { alive = map[string]bool{"": true} }, func(_ *file, ds *dataset) error {
		for i := range ds.series {
			if si := &ds.series[i]; si.maxEnd >= now-minSilence.Milliseconds() && len(alive) <= s.limiter.max {
				alive[si.Labels.Get(instanceLabel)] = true
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var last map[string]seriesRef
	_, err := s.visit(ctx, q, func() { last = map[string]seriesRef{} }, func(_ *file, ds *dataset) error {
		for i := range ds.series {
			si := &ds.series[i]
			instance := si.Labels.Get(instanceLabel)
			if si.maxEnd < q.From || !alive[instance] || len(last) > s.limiter.max {
				continue
			}
			k := seriesKey(si.Labels, si.Type, si.Columns)
			last[k] = seriesRef{key: k, instance: instance, end: max(last[k].end, min(si.maxEnd, now))}
		}
		return nil
	})
	out := make([]seriesRef, 0, len(last))
	for _, r := range last {
		out = append(out, r)
	}
	return out, err
}

// allow takes the series of a push, by service, or refuses them all.
func (l *seriesLimiter) allow(now int64, refs map[string][]seriesRef) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for service, series := range refs {
		s := l.service(now, service)
		fresh := l.fresh(now, s, series)
		if s.n+fresh > l.max {
			s.prune(now)
			fresh = l.fresh(now, s, series)
		}
		if n := s.n + fresh; fresh > 0 && n > l.max {
			return &LimitError{
				Limit: "max_series_per_service", Max: int64(l.max), Got: int64(n),
				What: fmt.Sprintf("service %s has %d series alive, at most %d are allowed", service, n, l.max),
			}
		}
	}
	l.sweep(now)
	for service, series := range refs {
		s := l.service(now, service)
		for i := range series {
			if l.counts(now, &series[i]) {
				s.add(l, now, &series[i])
			}
		}
		if now-s.pruned > seriesSweep.Milliseconds() {
			s.prune(now)
		}
	}
	return nil
}

// fresh returns how many of series are not counted yet and would be.
func (l *seriesLimiter) fresh(now int64, s *serviceSeries, series []seriesRef) int {
	var seen map[string]bool
	n := 0
	for i := range series {
		r := &series[i]
		if !l.counts(now, r) || s.has(l, r) || seen[r.key] {
			continue
		}
		if seen == nil {
			seen = map[string]bool{}
		}
		seen[r.key] = true
		n++
	}
	return n
}

// sweep forgets the services that sent nothing in the window. One that comes back is learnt again.
func (l *seriesLimiter) sweep(now int64) {
	if now-l.swept < seriesSweep.Milliseconds() {
		return
	}
	l.swept = now
	for service, s := range l.services {
		if s.prune(now); s.n == 0 {
			delete(l.services, service)
		}
	}
}

// prune forgets instances that have ended, and series without a profile in the window. At the limit it runs at most once a second.
func (s *serviceSeries) prune(now int64) {
	if now-s.pruned < 1000 {
		return
	}
	s.pruned = now
	for id, i := range s.instances {
		if id != 0 && !i.alive(now) {
			s.n -= len(i.series)
			delete(s.instances, id)
			continue
		}
		for h, last := range i.series {
			if now-last > seriesWindow.Milliseconds() {
				delete(i.series, h)
				s.n--
			}
		}
		if len(i.series) == 0 {
			delete(s.instances, id)
		}
	}
}
