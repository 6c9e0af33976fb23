package scrape

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/profiles"
)

// loop scrapes one target, one thing at a time. Everything but mu's, m.mu's and phase is its goroutine's own.
type loop struct {
	m       *Manager
	t       Target
	static  bool
	metrics string // URL of its metrics; m.mu's
	cancel  context.CancelFunc
	phase   atomic.Int64                       // when in each CPUPeriod its CPU profile begins, ns
	asking  chan struct{}                      // held by whoever asks the target something: the loop itself, or a capture on demand
	cut     atomic.Pointer[context.CancelFunc] // ends the loop's own CPU profile for a capture; nil: none runs

	key      string // of its pushes
	window   uint64 // of the last push
	types    map[string]*typeState
	failures int // rounds in a row in which the target could not be reached
	began    bool

	cpuLength time.Duration // 0: no more CPU profiles
	cpuRow    int           // rivals or failures in a row
	short     bool          // the first CPU profile was taken, or passed over
	nextRest  time.Time
	nextCPU   time.Time

	mu sync.Mutex
	st Status
}

// typeState is what is remembered of one type of profile.
type typeState struct {
	delta    *profiles.Delta // nil for a type that is a gauge throughout
	last     time.Time       // the capture that the next interval begins at; zero: none
	missing  bool            // the target does not serve it
	failures int             // in a row
	next     time.Time       // not before
}

func newLoop(m *Manager, t Target, static bool) *loop {
	p := t.Process
	t.access = newAccess(&t)
	l := &loop{
		m: m, t: t, static: static, types: map[string]*typeState{}, asking: make(chan struct{}, 1),
		key: "scrape/" + m.epoch + "/" + t.Instance,
		st: Status{
			Instance: t.Instance, PID: p.PID, Exe: p.Exe, Service: t.Service, Version: p.Version, GoVersion: p.GoVersion, Build: p.BuildID,
			Gatherer: t.gatherer(), State: string(discover.Profiling), URL: t.redacted(), Static: static,
		},
	}
	for _, ty := range t.rest() {
		ts := &typeState{}
		if cumulative(ty) {
			ts.delta = profiles.NewDelta(ty)
		}
		l.types[ty] = ts
	}
	if t.wants("cpu") && m.cfg.CPUDuration > 0 {
		l.cpuLength = m.cfg.CPUDuration.Truncate(time.Second)
		if t.GopsAddr != "" {
			l.cpuLength = gopsCPU
		}
	}
	return l
}

func cumulative(ty string) bool { return ty == "heap" || ty == "mutex" || ty == "block" }

// status returns a copy.
func (l *loop) status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.st
	st.Missing = slices.Clone(st.Missing)
	all := len(l.t.rest())
	if l.t.wants("cpu") && l.m.cfg.CPUDuration > 0 {
		all++
	}
	if len(st.Missing) >= all && all > 0 { // an annotation may ask for what is not there
		st.State, st.Reason = string(discover.NoEndpoint), "it serves none of the types that it is asked for"
	}
	return st
}

func (l *loop) update(f func(st *Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.st)
}

// setMetrics says where the metrics are. m.mu is held.
func (l *loop) setMetrics(at string) {
	if l.metrics == at {
		return
	}
	l.metrics = at
	l.update(func(st *Status) { st.MetricsURL = redactedURL(at) })
}

// run scrapes until ctx is done.
func (l *loop) run(ctx context.Context) {
	if !sleep(ctx, rand.N(min(time.Second, l.m.cfg.Period/4)+1)) {
		return
	}
	now := time.Now()
	l.nextRest, l.nextCPU = now, now
	for {
		cpu := l.cpuLength > 0 && l.nextCPU.Before(l.nextRest)
		next := l.nextRest
		if cpu {
			next = l.nextCPU
		}
		if !sleep(ctx, time.Until(next)) {
			return
		}
		select {
		case l.asking <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if cpu {
			l.cpu(ctx)
		} else {
			l.round(ctx)
		}
		<-l.asking
	}
}

// capture is one fetched profile before it is decoded.
type capture struct {
	ty    string
	ts    *typeState // nil for cpu
	body  []byte
	start time.Time // zero: a baseline
	end   time.Time
}

// round takes every type but cpu.
func (l *loop) round(ctx context.Context) {
	var got []capture
	var bad error
	asked, reached := 0, true
	for _, ty := range l.t.rest() {
		ts := l.types[ty]
		at := time.Now()
		if ts.missing || at.Before(ts.next) || !l.due(ty, ts, at) {
			continue
		}
		asked++
		body, err := l.m.fetch.get(ctx, &l.t, ty, 0)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errUnanswered) {
			bad, reached = l.failed(ty, err), false
			break
		}
		if err != nil {
			bad = l.typeFailed(ty, ts, err)
			continue
		}
		got = append(got, capture{ty: ty, ts: ts, body: body, start: ts.last, end: at})
	}
	if err := l.store(ctx, got); err != nil {
		bad = err
	}
	l.scheduleRest(reached)
	if asked > 0 {
		l.settle(bad, reached, len(got) > 0)
	}
}

// scheduleRest sets the time of the next round.
func (l *loop) scheduleRest(reached bool) {
	wait := l.m.cfg.Period
	switch {
	case !reached:
		l.failures++
		wait = backoff(wait, l.failures, 5)
	case !l.began:
		l.began, l.failures = true, 0
		wait = min(wait, firstWindow)
	default:
		l.failures = 0
	}
	l.nextRest = time.Now().Add(jitter(wait))
}

// settle brings the status up to date after a round or a CPU profile.
func (l *loop) settle(bad error, reached, got bool) {
	l.update(func(st *Status) {
		if got {
			st.LastScrape = time.Now()
		}
		st.LastError, st.Reason, st.State = "", "", string(discover.Profiling)
		if bad != nil {
			st.LastError = bad.Error()
		}
		if !reached {
			st.State, st.Reason = "failing", st.LastError
		}
	})
}

// failed counts an error of type ty and returns it with the type's name.
func (l *loop) failed(ty string, err error) error {
	l.m.met.errors.WithLabelValues(ty).Inc()
	err = fmt.Errorf("scrape %s: %w", ty, err)
	l.m.log.Debug("scrape failed", "service", l.t.Service, "target", l.t.redacted(), "error", err)
	return err
}

// typeFailed notes that the target answered, but not with a profile of type ty. What it does not serve is no error and is not asked for again.
func (l *loop) typeFailed(ty string, ts *typeState, err error) error {
	if errors.Is(err, errNotServed) {
		ts.missing = true
		l.update(func(st *Status) { st.Missing = append(st.Missing, ty) })
		return nil
	}
	ts.failures++
	ts.next = time.Now().Add(backoff(l.m.cfg.Period, ts.failures, 5))
	return l.failed(ty, err)
}

// gap counts an interval that will have no profile.
func (l *loop) gap(cause string) {
	l.m.met.gaps.WithLabelValues(cause).Inc()
	l.update(func(st *Status) { st.Gaps++ })
}
