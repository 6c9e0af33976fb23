package trigger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// Target is one process to watch.
type Target struct {
	PID     int             // as the engine's proc shows it
	Process catalog.Process // its row; of one whose agent reports it, the agent's
	Start   uint64          // field 22 of /proc/PID/stat: another process of this pid is not it
	Agent   bool            // its agent takes its captures: only its end is told from here
}

// Config configures an Engine. Source and Events are required.
type Config struct {
	Executor capture.Executor // nil: nothing is captured from here, only ends are told
	Source   capture.Source
	Events   func(ctx context.Context, es []catalog.Event) error

	// Captured returns the captures of a process that were stored since a time (Unix ms), newest first, for the event of its end: those that its agent took. nil: whoever takes the event
	// adds them (capture.Broker.Attach).
	Captured func(ctx context.Context, instance string, since int64) ([]catalog.Capture, error)

	ProcRoot   string                // "": /proc
	CgroupRoot string                // "": /sys/fs/cgroup
	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

const (
	// How often a process is looked at, by how full its memory is.
	lookFar  = 5 * time.Second // without a limit
	lookNear = time.Second
	lookHot  = 250 * time.Millisecond // from 80 %
	lookEdge = 50 * time.Millisecond  // from 90 %, or where it is full soon

	// share bounds the part of the time that looking takes: after each round it rests for so many times as long, maxRest at most: a round in which the machine stood still has not used that time.
	share   = 50 // 2 %
	maxRest = time.Second

	// roundLooks bounds the looks of one round, and with it the rest after it.
	roundLooks = 64

	maxActions = 4                // captures that are taken at once
	maxKept    = 256 << 20        // bytes of captures that are kept in memory
	limitsFor  = 10 * time.Second // how long the limits of a cgroup are believed
)

// Engine watches processes. Make one with New.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	met     *metrics
	files   files
	actions chan struct{}
	wake    chan struct{} // there are new targets
	wg      sync.WaitGroup

	unreadable sync.Once // it was said that there are cgroups which cannot be read

	mu      sync.Mutex
	rules   []compiled
	watches map[string]*watch // by instance
	kept    int64             // bytes
	told    tally             // of events of exits
}

// compiled is a rule with its selector.
type compiled struct {
	capture.Rule
	matchers []*labels.Matcher
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Engine, error) {
	if cfg.Source == nil || cfg.Events == nil {
		return nil, errors.New("make trigger engine: no source, or nowhere to tell events")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ProcRoot == "" {
		cfg.ProcRoot = "/proc"
	}
	if cfg.CgroupRoot == "" {
		cfg.CgroupRoot = "/sys/fs/cgroup"
	}
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("make trigger engine: %w", err)
	}
	return &Engine{cfg: cfg, log: cfg.Logger, met: met, files: files{cfg.ProcRoot, cfg.CgroupRoot}, actions: make(chan struct{}, maxActions), wake: make(chan struct{}, 1),
		watches: map[string]*watch{}}, nil
}

// SetRules replaces the rules. If one is wrong nothing is changed.
func (e *Engine) SetRules(rules []capture.Rule) error {
	if err := capture.ValidateRules(rules); err != nil {
		return fmt.Errorf("set triggers: %w", err)
	}
	var next []compiled
	for _, r := range rules {
		c := compiled{Rule: r}
		if r.Selector != "" {
			var err error
			if c.matchers, err = profiles.ParseSelector(r.Selector); err != nil {
				return fmt.Errorf("set triggers: trigger %s: %w", r.Name, err)
			}
		}
		next = append(next, c)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rules = next
	for _, w := range e.watches {
		w.matched = e.match(w.target.Process)
	}
	return nil
}

// match returns the rules that select a process. e.mu is held.
func (e *Engine) match(p catalog.Process) []*ruleState {
	var out []*ruleState
	for i := range e.rules {
		if r := &e.rules[i]; capture.Selects(r.matchers, p) {
			out = append(out, &ruleState{rule: r.Rule})
		}
	}
	return out
}

// SetTargets replaces the processes that are watched. What is left out and dead has ended; what is left out and alive is watched for its end a little longer, unless another has its process.
func (e *Engine) SetTargets(ts []Target) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.cfg.Now()
	here, pids := map[string]bool{}, map[int]bool{}
	for _, t := range ts {
		instance := t.Process.Instance
		if instance == "" || t.PID <= 0 {
			continue
		}
		here[instance], pids[t.PID] = true, true
		w := e.watches[instance]
		if w == nil {
			w = &watch{next: now, every: lookEdge, matched: e.match(t.Process)}
			e.watches[instance] = w
		}
		w.target, w.left, w.moved = t, false, false
	}
	for instance, w := range e.watches {
		if here[instance] {
			continue
		}
		if !w.left {
			w.left, w.leftAt = true, now
		}
		w.moved, w.next = pids[w.target.PID], now
	}
	e.met.watched.Set(float64(len(here)))
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends and returns nil when everything that it began has ended.
func (e *Engine) Run(ctx context.Context) error {
	defer e.wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-e.wake:
		}
		began := time.Now()
		next := e.round(ctx, e.cfg.Now())
		took := time.Since(began)
		e.met.busy.Add(took.Seconds())
		timer.Reset(max(next.Sub(e.cfg.Now()), min(took*share, maxRest), lookEdge/2))
	}
}

// round looks at the processes whose time has come and returns when the next one's comes.
func (e *Engine) round(ctx context.Context, now time.Time) time.Time {
	e.mu.Lock()
	var due []*watch
	next := now.Add(lookFar)
	for _, w := range e.watches {
		if !w.next.After(now) {
			due = append(due, w)
		}
	}
	// Those that are looked at most often cannot wait; the others of a large node are spread over the rounds.
	slices.SortFunc(due, func(a, b *watch) int { return cmp.Compare(a.every, b.every) })
	due = due[:min(len(due), roundLooks)]
	for _, w := range due {
		w.t = w.target
	}
	e.mu.Unlock()
	rs := &readings{groups: map[string]*reading{}, machine: -1} // cgroups that several of them share are read once
	for _, w := range due {
		if ctx.Err() != nil {
			return next
		}
		e.look(ctx, w, now, rs)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.watches {
		if w.next.Before(next) {
			next = w.next
		}
	}
	return next
}

// cores is what a process may use where no cgroup limits it.
func cores() float64 { return float64(runtime.NumCPU()) }
