package scrape

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/internal/catalog"
)

const (
	firstWindow = 5 * time.Second  // the first interval of a target, so that a new process is seen at once
	slotsDecode = 2                // targets whose profiles are decoded and stored at the same time: each of them may be made to take half a gigabyte
	slotsFirst  = 4                // first CPU profiles taken out of turn at the same time
	settled     = 10 * time.Second // age at which Seen is told of a process that is not profiled: compilers and the like come and go
	retellBuild = time.Hour        // how long no other process tells of the same build
	maxBuilds   = 10_000           // that are remembered as told of
	maxSeenInfo = 256 << 10        // bytes of what a build says of itself that is told with a process
	retell      = time.Minute      // Seen is told again of a process that did not change, so that its last_seen is no older
)

// Manager scrapes targets. Make one with New.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	met     *metrics
	fetch   *fetcher
	epoch   string // one per Manager: windows count from 1 in it
	decode  chan struct{}
	firstUp chan struct{}
	wg      sync.WaitGroup

	mu         sync.Mutex
	ctx        context.Context // of Run; nil before
	ran        bool
	static     []Target
	sources    map[string][]Target // listed targets by who lists them
	discovered []Target
	metered    []Target // found with metrics and without profiles to be scraped
	loops      map[string]*loop
	measured   map[string]*loop // of metered, which do not run
	report     discover.Report  // as the scan gave it
	shown      discover.Report  // as callers see it: listed targets are scraped too
	scanned    bool             // the first scan is over, well or not
	skipped    []Status         // listed targets that something else gathers from
	told       map[string]told
	builds     map[string]time.Time // when Seen was told of each
	joined     map[string]time.Time // listed targets that led to a process of this machine, by address
	names      map[string]lookup    // by host
	looking    bool
	listedAt   time.Time // when listed targets changed last
}

// told is what Seen was last told of a process.
type told struct {
	p    catalog.Process
	when time.Time
}

// New checks cfg and registers the metrics. It starts nothing.
func New(cfg Config) (*Manager, error) {
	if cfg.Sink == nil {
		return nil, errors.New("make scrape manager: no sink")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Host == "" {
		cfg.Host, _ = os.Hostname() // without one it stays empty
	}
	setDefault(&cfg.ScanPeriod, 5*time.Second)
	setDefault(&cfg.CPUPeriod, time.Minute)
	setDefault(&cfg.Period, cfg.CPUPeriod/4)
	setDefault(&cfg.Timeout, 10*time.Second)
	setDefault(&cfg.MaxBody, 16<<20)
	setDefault(&cfg.MaxDecoded, 64<<20)
	setDefault(&cfg.MaxSamples, 200_000)
	if cfg.CPUDuration == 0 {
		cfg.CPUDuration = 10 * time.Second
	}
	if cfg.AppendRetries == 0 {
		cfg.AppendRetries = 3
	}
	if cfg.CPUDuration > cfg.CPUPeriod {
		return nil, fmt.Errorf("make scrape manager: a CPU profile of %v does not fit into a period of %v", cfg.CPUDuration, cfg.CPUPeriod)
	}
	if cfg.CPUDuration > 0 && cfg.CPUDuration < time.Second {
		return nil, fmt.Errorf("make scrape manager: a CPU profile of %v: pprof counts in whole seconds", cfg.CPUDuration)
	}
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("make scrape manager: %w", err)
	}
	var id [8]byte
	rand.Read(id[:])
	return &Manager{
		cfg: cfg, log: cfg.Logger, met: met, fetch: newFetcher(cfg),
		epoch:  hex.EncodeToString(id[:]),
		decode: make(chan struct{}, slotsDecode), firstUp: make(chan struct{}, slotsFirst),
		loops: map[string]*loop{}, told: map[string]told{}, sources: map[string][]Target{}, joined: map[string]time.Time{}, names: map[string]lookup{},
	}, nil
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// SetTargets replaces the static targets. Those that stay the same go on undisturbed. If one is wrong nothing is changed.
func (m *Manager) SetTargets(ts []Target) error {
	next, err := m.normalized(ts)
	if err != nil {
		return fmt.Errorf("set targets: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.static, m.listedAt = next, time.Now()
	m.reconcile()
	return nil
}

// SetSource replaces the targets that another source than the configuration lists, such as "kubernetes" or a job of service discovery; none forgets the source. Those that stay the same go on
// undisturbed. If one is wrong nothing is changed. A process that is reached by several ways is scraped once, as planTargets says; among sources the first by name wins.
func (m *Manager) SetSource(source string, ts []Target) error {
	next, err := m.normalized(ts)
	if err != nil {
		return fmt.Errorf("set targets of %s: %w", source, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[source], m.listedAt = next, time.Now()
	if len(next) == 0 {
		delete(m.sources, source)
	}
	m.reconcile()
	return nil
}

func (m *Manager) normalized(ts []Target) ([]Target, error) {
	next := make([]Target, len(ts))
	for i, t := range ts {
		if err := t.normalize(m.cfg.Host); err != nil {
			return nil, err
		}
		next[i] = t
	}
	return next, nil
}

// Run scans and scrapes until ctx is done and returns nil when every goroutine has ended. It can be called once.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	if m.ran {
		m.mu.Unlock()
		return errors.New("run scrape manager: it ran before")
	}
	m.ran, m.ctx = true, ctx
	m.reconcile()
	m.mu.Unlock()

	if m.cfg.Scanner != nil {
		m.scanLoop(ctx)
	}
	<-ctx.Done()
	m.mu.Lock()
	m.ctx = nil // no new loops
	m.metered = nil
	m.measure(nil)
	m.mu.Unlock()
	m.wg.Wait()
	m.fetch.close()
	return nil
}

// scanLoop scans until ctx is done. A scan that takes longer than the period delays the next: it never takes more than half of the time.
func (m *Manager) scanLoop(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		began := time.Now()
		report, err := m.cfg.Scanner.Scan(ctx)
		took := time.Since(began)
		m.met.scan.Observe(took.Seconds())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			m.log.Error("scan processes", "error", err)
			m.mu.Lock()
			m.scanned = true
			m.reconcile()
			m.mu.Unlock()
		default:
			if s := report.Summary(); s != said {
				// At debug: a machine that compiles starts Go programs all the time.
				said = s
				m.log.Debug("found " + s)
			}
			m.setReport(ctx, report)
		}
		if !sleep(ctx, max(m.cfg.ScanPeriod-took, took)) {
			return
		}
	}
}

// setReport takes over what a scan found.
func (m *Manager) setReport(ctx context.Context, r discover.Report) {
	var ts, metered []Target
	for _, p := range r.Processes {
		t, ok := Discovered(p, m.cfg.Host)
		if !ok && p.MetricsURL != "" && p.Service != "" {
			t = targetOf(p, m.cfg.Host)
			t.Dial = m.dialer(&p)
			metered = append(metered, t)
		}
		if !ok {
			continue
		}
		t.Dial = m.dialer(&p)
		if err := t.normalize(m.cfg.Host); err != nil {
			m.log.Warn("discovered process cannot be a target", "pid", p.PID, "error", err)
			continue
		}
		ts = append(ts, t)
	}
	m.lookUp(ctx, r.Time)
	m.mu.Lock()
	m.report, m.discovered, m.metered, m.scanned = r, ts, metered, true
	m.reconcile()
	shown := m.shown
	news := m.news(shown)
	m.mu.Unlock()
	states := map[discover.State]int{}
	for _, p := range shown.Processes {
		states[p.State]++
	}
	m.met.processes.Reset()
	for st, n := range states {
		m.met.processes.WithLabelValues(string(st)).Set(float64(n))
	}
	if m.cfg.Seen != nil && len(news) > 0 {
		m.cfg.Seen(ctx, news)
	}
	if m.cfg.Report != nil {
		m.cfg.Report(ctx, shown)
	}
}

// reconcile starts the loops of targets that have none and stops those of targets that are gone. Listed targets wait for the first scan, which tells which of them are
// processes of this machine. m.mu is held.
func (m *Manager) reconcile() {
	if m.ctx == nil || m.cfg.Scanner != nil && !m.scanned {
		return
	}
	pl := m.planTargets(time.Now())
	m.skipped = pl.skipped
	m.shown = m.report
	m.shown.Processes = slices.Clone(m.report.Processes)
	adopt(&m.shown, pl)
	want, scraped := map[string]bool{}, map[string]bool{}
	for _, t := range pl.scrape {
		key := t.key()
		scraped[t.Instance] = true
		if want[key] {
			continue // named twice
		}
		want[key] = true
		if m.loops[key] == nil {
			l := newLoop(m, t.Target, t.listed && t.Process.PID == 0)
			ctx, cancel := context.WithCancel(m.ctx)
			l.cancel = cancel
			m.loops[key] = l
			m.wg.Go(func() {
				defer l.t.access.close()
				l.run(ctx)
			})
		}
		m.loops[key].setMetrics(t.metricsURL())
	}
	m.measure(scraped)
	var rs []replica
	for key, l := range m.loops {
		if !want[key] {
			l.cancel()
			delete(m.loops, key)
			continue
		}
		rs = append(rs, replica{l.t.Service, l.t.Instance})
	}
	turns := phases(rs, m.cfg.CPUPeriod)
	for _, l := range m.loops {
		l.phase.Store(int64(turns[replica{l.t.Service, l.t.Instance}]))
	}
	m.met.targets.Set(float64(len(m.loops)))
}

// news returns the processes that Seen should be told of. m.mu is held. What its agent reports is the agent's to tell, under the instance id that it chose; only where
// the process was told of before, it is said that this row has no profiles because the agent's has.
func (m *Manager) news(r discover.Report) []catalog.Process {
	var out []catalog.Process
	now := r.Time.UnixMilli()
	here := map[string]bool{}
	for _, p := range r.Processes {
		old, known := m.told[p.Instance]
		if p.State == discover.SelfProcess || !known && (p.State == discover.ByAgent || p.State == discover.Waiting) {
			continue
		}
		if !known && p.Gatherer == "" && r.Time.Sub(p.Started) < settled {
			continue
		}
		here[p.Instance] = true
		row := ProcessOf(p, m.cfg.Host)
		if p.State == discover.ByAgent {
			row.Reason = "reached by its agent"
		}
		if p.State == discover.Denied {
			row.BuildID, row.Conditions = "", nil // a new build of what the rules keep Sonde from is no deploy for it to tell of
		}
		row.FirstSeen, row.LastSeen = now, now
		if known {
			row.FirstSeen = old.p.FirstSeen
			same := old.p.Reason == row.Reason && old.p.Gatherer == row.Gatherer && old.p.BuildID == row.BuildID
			if same && (p.State == discover.ByAgent || r.Time.Sub(old.when) < retell) {
				continue
			}
		}
		m.told[p.Instance] = told{row, r.Time}
		if !known {
			row.Build = m.newBuild(p, r.Time)
		}
		out = append(out, row)
	}
	for instance, old := range m.told {
		if !here[instance] {
			old.p.State, old.p.Reason = "exited", ""
			out = append(out, old.p)
			delete(m.told, instance)
		}
	}
	return out
}

// newBuild returns p's build where Seen was not told of it in the last hour. m.mu is held.
func (m *Manager) newBuild(p discover.Process, now time.Time) *catalog.Build {
	if when, ok := m.builds[p.BuildID]; p.State == discover.Denied || ok && now.Sub(when) < retellBuild {
		return nil
	}
	b := BuildOf(p)
	if b == nil || len(b.Info) > maxSeenInfo {
		return nil
	}
	if m.builds == nil || len(m.builds) >= maxBuilds {
		m.builds = map[string]time.Time{}
	}
	m.builds[p.BuildID] = now
	return b
}

// Processes returns the catalogue's rows of the processes that the last scan found, by pid.
func (m *Manager) Processes() []catalog.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.shown.Time.UnixMilli()
	var out []catalog.Process
	for _, p := range m.shown.Processes {
		row := ProcessOf(p, m.cfg.Host)
		row.LastSeen = now
		out = append(out, row)
	}
	return out
}

// Summary says in one line what the last scan found, and how many static targets there are.
func (m *Manager) Summary() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := ""
	if m.cfg.Scanner != nil {
		s = "not scanned yet"
		if !m.shown.Time.IsZero() {
			s = m.shown.Summary()
		}
	}
	listed := len(m.static)
	for _, ts := range m.sources {
		listed += len(ts)
	}
	switch n := listed; {
	case n == 0 && s == "":
		return "discovery is off, and no targets are listed"
	case n == 0:
		return s
	case s != "":
		s += "; "
		fallthrough
	default:
		if n == 1 {
			return s + "1 listed target"
		}
		return s + fmt.Sprintf("%d listed targets", n)
	}
}

// Status returns what is known of each target and of each process that the last scan found, static targets first, then by pid.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	byInstance := map[string]*loop{}
	var out []Status
	for _, key := range slices.Sorted(maps.Keys(m.loops)) {
		l := m.loops[key]
		if l.static {
			out = append(out, l.status())
			continue
		}
		byInstance[l.t.Instance] = l
	}
	out = append(out, m.skipped...)
	for _, p := range m.shown.Processes {
		st := Status{
			Instance: p.Instance, PID: p.PID, Exe: p.Exe, Service: p.Service, Version: p.Version, GoVersion: p.GoVersion, Build: p.BuildID,
			Gatherer: p.Gatherer, State: string(p.State), Reason: p.Reason,
		}
		if l := byInstance[p.Instance]; l != nil {
			st = l.status()
		}
		out = append(out, st)
	}
	return out
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
