package inspect

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/profiles"
)

// Inspector watches processes. Make one with New.
type Inspector struct {
	cfg    Config
	log    *slog.Logger
	met    *metrics
	rights *rights
	turn   chan struct{} // held by the one that takes a snapshot; images belong to it
	images images
	ended  bool // Run has; guarded by turn
	wake   chan struct{}

	mu      sync.Mutex
	ran     bool
	watches map[string]*watch // by instance
	said    map[string]bool   // reasons that were logged
}

// watch is one target. What is not guarded by the Inspector's mu belongs to the snapshot's turn.
type watch struct {
	target Target // guarded by mu
	status Status // guarded by mu
	next   time.Time
	gone   bool // guarded by mu: no target any more

	epoch    string // windows count from 1 in it: a process that is watched again has another
	window   uint64
	deltas   map[string]*profiles.Delta
	last     map[string]time.Time // of each type: when the interval that is next began
	captures int
	failures int // in a row
}

// New checks cfg, finds out what this process may do, and registers the metrics. It starts nothing.
func New(cfg Config) (*Inspector, error) {
	if cfg.Sink == nil {
		return nil, errors.New("make inspector: no sink")
	}
	for _, ty := range cfg.Types {
		if !slices.Contains(types, ty) {
			return nil, fmt.Errorf("make inspector: profiles of type %q cannot be read from memory: want of %v", ty, types)
		}
	}
	if len(cfg.Types) == 0 {
		cfg.Types = types
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Period <= 0 {
		cfg.Period = time.Minute
	}
	if cfg.CPULimit == 0 {
		cfg.CPULimit = 0.02
	}
	if cfg.AppendRetries == 0 {
		cfg.AppendRetries = 3
	}
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("make inspector: %w", err)
	}
	return &Inspector{
		cfg: cfg, log: cfg.Logger, met: met, rights: readRights(), turn: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		watches: map[string]*watch{}, said: map[string]bool{},
	}, nil
}

// Can reports whether the memory of the process can be read, else why not, in words.
func (ins *Inspector) Can(p discover.Process) (ok bool, reason string) {
	if p.GoVersion != "" {
		if _, err := layoutOf(p.GoVersion); err != nil {
			return false, err.Error()
		}
	}
	if p.Build != nil {
		if arch := p.Build.Setting("GOARCH"); arch != "" && arch != "amd64" && arch != "arm64" {
			return false, "the runtime's structures are known on amd64 and arm64, not on " + arch
		}
	}
	reason = ins.rights.reason(p.Instance, p.PID, p.UID)
	return reason == "", reason
}

// SetTargets replaces the processes to be watched. Those that stay go on undisturbed.
func (ins *Inspector) SetTargets(ts []Target) {
	ins.mu.Lock()
	here := map[string]bool{}
	now := time.Now()
	for _, t := range ts {
		id := t.Process.Instance
		if here[id] {
			continue
		}
		here[id] = true
		if w := ins.watches[id]; w != nil && w.target.PID == t.PID && w.target.Process.BuildID == t.Process.BuildID {
			w.target = t
			continue
		} else if w != nil { // it runs another binary now
			w.gone = true
		}
		ins.watches[id] = newWatch(t, now, ins.cfg.Period)
		ins.log.Info("reads the memory of a process", "pid", t.PID, "exe", t.Process.Exe, "service", t.Process.Service, "instance", id, "types", ins.cfg.Types)
	}
	for id, w := range ins.watches {
		if !here[id] {
			w.gone = true
			delete(ins.watches, id)
			ins.log.Info("no longer reads the memory of a process", "pid", w.target.PID, "service", w.target.Process.Service, "instance", id)
		}
	}
	ins.met.targets.Set(float64(len(ins.watches)))
	ins.mu.Unlock()
	select {
	case ins.wake <- struct{}{}:
	default:
	}
}

// newWatch returns a watch whose first capture is soon, not at the same moment as that of others.
func newWatch(t Target, now time.Time, period time.Duration) *watch {
	var id [8]byte
	rand.Read(id[:])
	p := t.Process
	return &watch{
		target: t, next: now.Add(mrand.N(min(time.Second, period/4) + 1)), epoch: hex.EncodeToString(id[:]),
		deltas: map[string]*profiles.Delta{}, last: map[string]time.Time{},
		status: Status{Instance: p.Instance, PID: t.PID, Service: p.Service, State: stateWatching, Period: period},
	}
}

// Status returns what is known of the targets, by pid.
func (ins *Inspector) Status() []Status {
	ins.mu.Lock()
	defer ins.mu.Unlock()
	var out []Status
	for _, w := range ins.watches {
		st := w.status
		st.Off = maps.Clone(st.Off)
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Instance, b.Instance)) })
	return out
}

// Run captures until ctx is done and returns nil when every goroutine has ended. It can be called once.
func (ins *Inspector) Run(ctx context.Context) error {
	ins.mu.Lock()
	ran := ins.ran
	ins.ran = true
	ins.mu.Unlock()
	if ran {
		return errors.New("run inspector: it ran before")
	}
	if ins.rights.machine != "" {
		ins.log.Warn("the memory of processes is not read: " + ins.rights.machine)
	}
	free := time.Now() // when the CPU that was used is paid for
	for {
		w, due := ins.earliest()
		wait := time.Hour
		if w != nil {
			wait = time.Until(later(due, free))
		}
		if wait > 0 {
			if !ins.sleep(ctx, wait) {
				break
			}
			continue // the targets may be others
		}
		select {
		case ins.turn <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		cpu := ins.round(ctx, w)
		<-ins.turn
		free = ins.charge(free, time.Now(), cpu)
		if ctx.Err() != nil {
			break
		}
	}
	ins.turn <- struct{}{} // a capture on demand may be using the images
	ins.ended = true
	ins.images.close()
	<-ins.turn
	return nil
}

// charge returns when the next capture may begin, after one that took cpu. Up to a period's share may be used at once.
func (ins *Inspector) charge(free, now time.Time, cpu time.Duration) time.Time {
	if ins.cfg.CPULimit < 0 {
		return now
	}
	return later(free, now.Add(-ins.cfg.Period)).Add(time.Duration(float64(cpu) / ins.cfg.CPULimit))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sleep waits for d, or until there are new targets. It reports whether ctx is still alive.
func (ins *Inspector) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-ins.wake:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// earliest returns the watch whose turn is next, nil if there is none.
func (ins *Inspector) earliest() (best *watch, due time.Time) {
	ins.mu.Lock()
	defer ins.mu.Unlock()
	for _, w := range ins.watches {
		if w.status.State != stateRefused && (best == nil || w.next.Before(best.next)) {
			best = w
		}
	}
	if best != nil {
		due = best.next
	}
	return best, due
}

// say logs a reason that processes cannot be read, once.
func (ins *Inspector) say(reason string) {
	ins.mu.Lock()
	known := ins.said[reason]
	if len(ins.said) < 1000 {
		ins.said[reason] = true
	}
	ins.mu.Unlock()
	if !known {
		ins.log.Warn("the memory of a process is not read: " + reason)
	}
}
