package peers

import (
	"container/list"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// What is remembered of senders; those not heard of for longest go first.
const (
	maxSessions      = 16_384
	maxBaselineBytes = 64 << 20 // of the captures that cumulative ones are subtracted from
)

// sessions remembers of each process what its next profiles need. Safe for concurrent use.
type sessions struct {
	mu      sync.Mutex
	m       map[string]*session
	order   list.List // of *session, used last first
	bytes   int64     // of baselines
	metrics *metrics
}

// session is one process that sends.
type session struct {
	instance string
	key      string // the namespace of its windows
	window   uint64
	types    map[string]*series
	place    *list.Element
}

// series is one type of profile of a process.
type series struct {
	end   int64           // Unix ms: of the last profile
	delta *profiles.Delta // nil where its values are not cumulative
	bytes int64
}

// maxKeyInstance is how much of an instance is in its key, which has at most 128 bytes. The epoch tells apart those that begin alike.
const maxKeyInstance = 64

// get returns the session of an instance. s.mu is held.
func (s *sessions) get(source, instance string) *session {
	if x := s.m[instance]; x != nil {
		s.order.MoveToFront(x.place)
		return x
	}
	if s.m == nil {
		s.m = map[string]*session{}
	}
	var epoch [8]byte
	rand.Read(epoch[:]) // never fails
	x := &session{instance: instance, key: source + "/" + hex.EncodeToString(epoch[:]) + "/" + cut(instance, maxKeyInstance), types: map[string]*series{}}
	x.place = s.order.PushFront(x)
	s.m[instance] = x
	if len(s.m) > maxSessions {
		s.drop(s.order.Back().Value.(*session))
	}
	return x
}

// drop forgets a session. s.mu is held.
func (s *sessions) drop(x *session) {
	for _, t := range x.types {
		s.bytes -= t.bytes
	}
	s.order.Remove(x.place)
	delete(s.m, x.instance)
}

// key returns the key of the next push of an instance: so what forwards it can store it once.
func (s *sessions) key(source, instance string) catalog.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.get(source, instance)
	x.window++
	return catalog.Key{Instance: x.key, Window: x.window}
}

// maxTypes bounds the types of profiles that are remembered of one process.
const maxTypes = 32

// of returns what is known of a type. s.mu is held.
func (x *session) of(typ string) *series {
	t := x.types[typ]
	if t == nil {
		t = &series{}
		if len(x.types) < maxTypes {
			x.types[typ] = t
		}
	}
	return t
}

// usualPeriod is taken for the length of an interval that neither the sender nor an earlier profile tells, longestPeriod is what an earlier one may tell: all in ms.
const (
	usualPeriod   = 15_000
	longestPeriod = 5 * 60_000
)

// since returns where an interval begins that ends at end, and remembers end.
func (s *sessions) since(source, instance, typ string, end int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.get(source, instance).of(typ)
	start := end - usualPeriod
	if t.end != 0 && t.end < end && end-t.end <= longestPeriod {
		start = t.end
	}
	t.end = max(t.end, end)
	return start
}

// subtract returns what p, whose values count from its process's start, adds to the capture before: nil where there is none that it continues. The result is valid while
// p is.
func (s *sessions) subtract(source, instance, typ string, p *profiles.Profile) (*profiles.Profile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.get(source, instance)
	t := x.of(typ)
	if t.delta == nil {
		t.delta = profiles.NewDelta(typ)
	}
	out, err := t.delta.Next(p)
	if x.types[typ] == t {
		size := int64(len(p.Samples)) * int64(2*(48+8*p.Columns())) // two captures, each with a slot of a map and its values
		s.bytes += size - t.bytes
		t.bytes = size
	}
	for s.bytes > maxBaselineBytes && s.order.Len() > 1 {
		s.drop(s.order.Back().Value.(*session))
	}
	switch {
	case errors.Is(err, profiles.ErrReset) || err == nil && out == nil:
		s.metrics.gaps.Inc()
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("subtract the capture before: %w", err)
	case out == p:
		return p, nil
	}
	// The next call reuses what it returned.
	c := *out
	c.Samples, c.Values = slices.Clone(c.Samples), slices.Clone(c.Values)
	return &c, nil
}

// lost forgets the baselines of an instance: what was subtracted from them could not be stored, and a repeat must not be taken for the capture after.
func (s *sessions) lost(instance string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.m[instance]
	if x == nil {
		return
	}
	for _, t := range x.types {
		s.bytes -= t.bytes
		t.delta, t.bytes = nil, 0
	}
}
