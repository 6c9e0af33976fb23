package perf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// Sampler watches processes. Make one with New.
type Sampler struct {
	cfg    Config
	log    *slog.Logger
	met    *metrics
	rights *rights
	mode   Mode // never ModeAuto; "" where nothing can be sampled
	kernel *kernelNames
	progs  programs
	cpus   func() ([]int, error) // onlineCPUs; replaced in a test

	work      atomic.Int64 // ns of CPU of the goroutines that open and name
	heldBytes atomic.Int64 // of stacks that wait to be named

	changed  chan struct{} // there are new targets
	captures chan captureRequest
	ended    chan struct{} // Run has ended

	mu      sync.Mutex
	ran     bool
	targets []Target
	stats   Stats
	tallies map[int]*tally // by pid
}

// New checks cfg, finds out what may be sampled and registers the metrics. It starts nothing. Where nothing may be sampled it makes a Sampler all the same, whose Can says why.
func New(cfg Config) (*Sampler, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("make perf sampler: %w", err)
	}
	s := &Sampler{cfg: cfg, log: cfg.Logger, met: met, rights: readRights(), cpus: onlineCPUs,
		changed: make(chan struct{}, 1), captures: make(chan captureRequest), ended: make(chan struct{}), tallies: map[int]*tally{}}
	switch {
	case s.rights.system:
		s.mode = ModeSystem
	case s.rights.own:
		s.mode = ModeProcess
	}
	if want := cfg.Mode; want != ModeAuto && s.mode != "" {
		if want != ModeProcess && !s.rights.system {
			s.rights.refused = append(s.rights.refused, "mode "+string(want)+" is refused: CAP_PERFMON is missing ("+s.rights.setting(0)+")")
			s.mode = ""
		} else {
			s.mode = want
		}
	}
	if cfg.Kernel {
		s.openKernelNames()
	}
	s.stats = Stats{Mode: s.mode, Hz: cfg.Hz, Every: cfg.Every, Refused: s.rights.text()}
	return s, nil
}

func (r *rights) text() string { return strings.Join(r.refused, "; ") }

func (s *Sampler) openKernelNames() {
	f, err := os.Open("/proc/kallsyms")
	if err == nil {
		s.kernel, err = readKernelNames(f)
		f.Close()
	}
	if err != nil {
		s.rights.refused = append(s.rights.refused, "frames of the kernel have no names: "+err.Error())
	}
}

// Can reports whether the process can be watched, else why not, in words.
func (s *Sampler) Can(p discover.Process) (ok bool, reason string) {
	if s.mode == "" {
		return false, s.rights.text()
	}
	if p.UID != s.rights.uid && !s.rights.has(capSysPtrace) {
		return false, fmt.Sprintf("process of uid %d: CAP_SYS_PTRACE is missing", p.UID)
	}
	if p.GoVersion != "" && !pclntab.Known(p.GoVersion) {
		return false, "its Go version " + p.GoVersion + " is not known to this Sonde"
	}
	return true, ""
}

// SetTargets replaces the processes to be watched. One that was found because it ran is watched until the second call that leaves it out.
func (s *Sampler) SetTargets(ts []Target) {
	s.mu.Lock()
	s.targets = slices.Clone(ts)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run samples until ctx is done, appends what there is, and returns nil when every goroutine has ended. It can be called once. Where nothing may be sampled it says so and waits.
func (s *Sampler) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.ran {
		s.mu.Unlock()
		return errors.New("run perf sampler: it ran before")
	}
	s.ran = true
	s.mu.Unlock()
	defer close(s.ended)
	if text := s.rights.text(); text != "" {
		s.log.Warn("perf: " + text)
	}
	if s.mode == "" {
		<-ctx.Done()
		return nil
	}
	return s.run(ctx)
}

// Status returns what is known of the processes that are watched, and of the targets that cannot be, by pid.
func (s *Sampler) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Status
	for _, pid := range slices.Sorted(maps.Keys(s.tallies)) {
		t := s.tallies[pid]
		st := t.status
		st.Samples, st.Profiles, st.Gaps = t.samples.Load(), t.profiles.Load(), t.gaps.Load()
		out = append(out, st)
	}
	return out
}

// Stats returns the sampler's own figures.
func (s *Sampler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Capture profiles the instance for d and returns the profile: kind cpu, or offcpu where Config.OffCPU is set. Where the process ends earlier the profile covers what there was.
func (s *Sampler) Capture(ctx context.Context, instance, kind string, d time.Duration) (*profiles.Profile, error) {
	switch {
	case s.mode == "":
		return nil, fmt.Errorf("capture %s of %s: %s", kind, instance, s.rights.text())
	case kind == kindOffCPU && !s.cfg.OffCPU:
		return nil, fmt.Errorf("capture offcpu of %s: off-CPU profiles are not switched on here", instance)
	case kind != kindCPU && kind != kindOffCPU:
		return nil, fmt.Errorf("capture %s of %s: perf takes cpu and offcpu only", kind, instance)
	case d <= 0 || d > maxCapture:
		return nil, fmt.Errorf("capture %s of %s: for %v, at most %v", kind, instance, d, maxCapture)
	}
	reply := make(chan captured, 1)
	select {
	case s.captures <- captureRequest{instance, kind, d, reply}:
	case <-s.ended:
		return nil, fmt.Errorf("capture %s of %s: %w", kind, instance, errClosed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case c := <-reply:
		return c.p, c.err
	case <-s.ended:
		select {
		case c := <-reply:
			return c.p, c.err
		default:
			return nil, fmt.Errorf("capture %s of %s: %w", kind, instance, errClosed)
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
