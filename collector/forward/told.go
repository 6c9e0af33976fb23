package forward

import (
	"sync"
	"time"
)

// told remembers which process objects the upstream has. It is a cache: what it forgets is said again.
type told struct {
	mu sync.Mutex
	m  map[string]string // the hash by instance
}

// maxTold bounds it.
const maxTold = 64 << 10

func (t *told) has(instance, hash string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return instance != "" && t.m[instance] == hash
}

func (t *told) put(instance, hash string) {
	if instance == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil || len(t.m) >= maxTold {
		t.m = map[string]string{}
	}
	t.m[instance] = hash
}

func (t *told) forget(instance string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, instance)
}

// quietFor is how long the same words are not logged again.
const quietFor = time.Minute

// quiet keeps a log from being filled with the same line. What it is asked for are a handful of words.
type quiet struct {
	mu   sync.Mutex
	said map[string]time.Time
	held map[string]int64
}

// say reports whether words should be said now, and how often they were held back since the last time.
func (q *quiet) say(words string, now time.Time) (bool, int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.said == nil {
		q.said, q.held = map[string]time.Time{}, map[string]int64{}
	}
	if at, ok := q.said[words]; ok && now.Sub(at) < quietFor {
		q.held[words]++
		return false, 0
	}
	n := q.held[words]
	q.said[words], q.held[words] = now, 0
	return true, n
}
