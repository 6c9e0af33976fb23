package receive

import (
	"sync"
	"time"
)

// quietFor is how long the same words are not logged again.
const quietFor = time.Minute

// maxQuiet bounds how many different words are remembered.
const maxQuiet = 64

// quiet keeps a log from being filled with the same line. Safe for concurrent use.
type quiet struct {
	mu   sync.Mutex
	said map[string]*saying
}

type saying struct {
	at   time.Time
	held int64 // how often it was not said since
}

// say reports whether words should be said now, and how often they were held back since the last time.
func (q *quiet) say(words string, now time.Time) (bool, int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.said[words]
	if s != nil && now.Sub(s.at) < quietFor {
		s.held++
		return false, 0
	}
	if q.said == nil || len(q.said) >= maxQuiet {
		q.said = map[string]*saying{}
	}
	n := int64(0)
	if s != nil {
		n = s.held
	}
	q.said[words] = &saying{at: now}
	return true, n
}
