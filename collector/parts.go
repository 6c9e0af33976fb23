package collector

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sonde-io/sonde/collector/api"
	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/coverage"
	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/rotate"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/internal/backup"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/internal/telemetry"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// The files of a data directory.
const (
	CatalogFile = "catalog.db" // the catalogue, SQLite
	BlobDir     = "blobs"      // segments, blocks and captures
	BinaryDir   = "binaries"   // what frames that come as addresses are named by; it can be deleted
	LogsDir     = "logs"       // how far the logs that are followed were read
	LockFile    = "lock"       // held by the process that may change it
)

// parts are the parts of one running collector. open makes them, close ends what has no actor of its own.
type parts struct {
	cfg       *Config
	opts      *Options
	log       *slog.Logger
	registry  *prometheus.Registry
	telemetry *telemetry.Telemetry // nil: not sent anywhere
	started   time.Time
	rules     agentSettings
	ready     readiness

	closers  []func() error // in order of opening
	cat      catalog.Catalog
	life     *lifeCatalog // is cat
	binaries *binaries.Store
	blobs    blob.Store
	store    *store.Store
	captures *capture.Broker
	backups  *backup.Host
	measured
	gather  *gatherers
	receive *receive.Handler
	handler http.Handler
	serve   func(ctx context.Context) error
}

func open(ctx context.Context, cfg *Config, opts *Options) (_ *parts, err error) {
	p := &parts{cfg: cfg, opts: opts, started: time.Now(), registry: prometheus.NewRegistry()}
	p.rules.now = time.Now
	p.rules.fleet = rotate.New(rotate.Config{Alive: p.alive})
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.log, err = newLogger(cfg, opts.Stderr); err != nil {
		return nil, err
	}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(opts.Version))
	for _, step := range []func(context.Context) error{p.openData, p.openMetrics, p.openCaptures, p.openGatherers, p.openHTTP} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return p, p.apply(cfg)
}

// describe registers what this program says of itself, and sends it where the environment wants it.
func (p *parts) describe(ctx context.Context, name string) (err error) {
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(p.opts.Version))
	p.telemetry, err = telemetry.New(ctx, telemetry.Config{Service: name, Version: p.opts.Version, Instance: rand.Text(), Gatherer: p.registry, Logger: p.log})
	p.closers = append(p.closers, p.telemetry.Close)
	return err
}

// close ends what open began, last first.
func (p *parts) close() error {
	var errs []error
	for len(p.closers) > 0 {
		last := len(p.closers) - 1
		errs = append(errs, p.closers[last]())
		p.closers = p.closers[:last]
	}
	return errors.Join(errs...)
}

// openData locks the data directory and opens catalogue, blobs and store in it.
func (p *parts) openData(ctx context.Context) error {
	dir := p.cfg.Data
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &Error{fmt.Errorf("create data directory: %w", err), "name a directory that can be written with --data"}
	}
	lock, err := LockData(dir)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, lock.Close)
	cat, err := catalog.OpenSQLite(ctx, filepath.Join(dir, CatalogFile))
	if err != nil {
		return err
	}
	p.life = &lifeCatalog{DB: cat, log: p.log}
	p.cat = p.life
	p.closers = append(p.closers, cat.Close)
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, BlobDir))
	if err != nil {
		return err
	}
	if p.binaries, err = binaries.Open(binaries.Config{Dir: filepath.Join(dir, BinaryDir), Logger: p.log, Told: api.BinaryTold(cat.PutBuilds)}); err != nil {
		return err
	}
	p.closers = append(p.closers, p.binaries.Close)
	def, rules, err := p.cfg.retention()
	if err != nil {
		return err
	}
	p.store, err = store.Open(ctx, store.Config{Blobs: blobs, Catalog: p.cat, Logger: p.log, Registerer: p.registry, MaxAge: def.Raw, MinuteAge: none(def.Minutes), HourAge: none(def.Hours),
		Retention: rules, ServiceBytes: def.Bytes, MaxBytes: orUnlimited(int64(p.cfg.RetentionSize)), MaxSeries: p.cfg.MaxSeriesPerService, CacheBytes: int64(p.cfg.CacheBytes),
		Grace: p.cfg.grace(), QueryCPU: p.cfg.Limits.QueryCPU.D(), QueryMemory: int64(p.cfg.Limits.QueryMemory), Symbolizer: p.binaries, Free: func() (free, total int64, err error) { return diskSpace(dir) }})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, p.store.Close)
	p.blobs = blobs
	p.backups = &backup.Host{Dir: dir, Catalog: cat, Blobs: blobs}
	if err := p.backups.Sweep(); err != nil {
		return fmt.Errorf("open data directory %s: remove copies of the catalogue that were left behind: %w", dir, err)
	}
	p.closers = append(p.closers, p.backups.Close)
	p.ready.checks = append(p.ready.checks, check{"catalogue", func(ctx context.Context) error {
		_, err := cat.Now(ctx)
		return err
	}}, check{"data directory", func(context.Context) error { return writable(dir) }})
	return nil
}

// openCaptures makes the broker of captures, also where nobody is asked for any: those that are stored can be had.
func (p *parts) openCaptures(ctx context.Context) (err error) {
	c := p.cfg.Captures
	p.captures, err = capture.New(ctx, capture.Config{Catalog: p.cat, Blobs: p.blobs, MaxRunning: c.MaxRunning, MaxExpensive: c.MaxExpensive, PerMinute: c.PerMinute, MaxAge: c.MaxAge.D(),
		MaxBytes: int64(c.MaxBytes), Shadow: c.Shadow, Logger: p.log, Registerer: p.registry})
	return err
}

// openGatherers makes what finds and profiles processes.
func (p *parts) openGatherers(context.Context) error {
	agents := &agentIndex{cat: p.cat, now: time.Now}
	g, err := newGatherers(p.cfg, p.opts.Version, p.log, p.registry, outlets{sink: p.store, series: p.metrics, lines: p.lines, seen: p.seen, events: p.tell, renamed: p.life.renamed, agentOf: agents.of, agentIn: agents.ofPod, turns: p.rules.turns,
		captures: p.captures, report: coverage.Into(p.cat), reporter: "serve", binaries: p.binaries})
	if err != nil {
		return err
	}
	p.gather = g
	p.closers = append(p.closers, g.close)
	return nil
}

// alive counts the processes of each service that say something.
func (p *parts) alive(ctx context.Context) (map[string]int, error) {
	return p.cat.AliveByService(ctx, time.Now().Add(-agentsRecent).UnixMilli())
}

// tell stores events, those of ends with the captures that were taken before.
func (p *parts) tell(ctx context.Context, es []catalog.Event) error {
	return p.cat.AddEvents(ctx, p.captures.Attach(ctx, es))
}

// seen puts what discovery tells into the catalogue.
func (p *parts) seen(ctx context.Context, ps []catalog.Process) {
	if err := p.cat.PutProcesses(ctx, ps); err != nil && ctx.Err() == nil {
		p.log.Error("cannot store discovered processes", "error", err)
	}
}

func scrapeTargets(ts []Target) []scrape.Target {
	out := make([]scrape.Target, len(ts))
	for i, t := range ts {
		out[i] = scrape.Target{Service: t.Service, URL: t.URL, Labels: t.Labels, Types: t.Types, MetricsURL: t.MetricsURL}
	}
	return out
}

// orForever is the store's word for no limit by age: its own 0 means a default. A century leaves room for arithmetic.
func orForever(d time.Duration) time.Duration {
	if d == 0 {
		return 100 * 365 * 24 * time.Hour
	}
	return d
}

func orUnlimited(n int64) int64 {
	if n == 0 {
		return math.MaxInt64
	}
	return n
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sonde_build_info", Help: "Always 1, with the version of the collector."}, []string{"version"})
	g.WithLabelValues(version).Set(1)
	return g
}

// writable reports whether files can be made in dir: a disk that turned read-only or full is not ready.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, "ready-*.tmp")
	if err != nil {
		return err
	}
	_, werr := f.Write([]byte("ready"))
	return errors.Join(werr, f.Close(), os.Remove(f.Name()))
}

// agentIndex knows which processes are reported by their own agents, from the catalogue, so that a restart knows it too.
type agentIndex struct {
	cat catalog.Catalog
	now func() time.Time

	mu   sync.Mutex
	at   time.Time
	rows []agentRow

	podsMu sync.Mutex
	podsAt time.Time
	pods   map[string]bool // uids of pods, and names of hosts, that agents report from
}

type agentRow struct {
	id  discover.Identity
	row catalog.Process
}

const (
	agentsFresh  = time.Second      // a scan asks for every process at once
	podsFresh    = 30 * time.Second // the whole fleet is read for it
	agentsRecent = 5 * time.Minute  // an agent that said nothing for longer does not count
)

// of returns the row of the process with that identity, as its agent reports it.
func (a *agentIndex) of(want discover.Identity) (catalog.Process, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); now.Sub(a.at) >= agentsFresh {
		a.at = now
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		ps, err := a.cat.Processes(ctx, catalog.ProcessFilter{BootID: want.BootID, Since: now.Add(-agentsRecent).UnixMilli()})
		if err != nil {
			return catalog.Process{}, false // asked again in the next scan
		}
		a.rows = a.rows[:0]
		for _, p := range ps {
			if p.Gatherer != "agent" || p.LabelsHash == "" {
				continue
			}
			id := discover.Identity{BootID: p.BootID, PIDNS: p.PIDNS, StartTicks: p.StartTicks, PIDs: p.NSPIDs}
			if len(id.PIDs) == 0 {
				id.PIDs = []int{p.PID}
			}
			a.rows = append(a.rows, agentRow{id, p})
		}
	}
	for _, r := range a.rows {
		if r.id.Same(want) {
			return r.row, true
		}
	}
	return catalog.Process{}, false
}

// ofPod reports whether an agent reports from the pod that a target with these labels is in: one on another machine, of which nothing more is known.
func (a *agentIndex) ofPod(ls map[string]string) bool {
	uid, name := ls["k8s_pod_uid"], ls["k8s_pod_name"]
	if uid == "" && name == "" {
		return false
	}
	a.podsMu.Lock()
	defer a.podsMu.Unlock()
	if now := a.now(); now.Sub(a.podsAt) >= podsFresh {
		a.podsAt = now
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		ps, err := a.cat.Processes(ctx, catalog.ProcessFilter{Since: now.Add(-agentsRecent).UnixMilli()})
		if err != nil {
			return a.pods["uid "+uid] || a.pods["name "+name]
		}
		a.pods = map[string]bool{}
		for _, p := range ps {
			if p.Gatherer == "agent" && p.LabelsHash != "" {
				a.pods["uid "+p.Labels.Get("k8s_pod_uid")] = true
				a.pods["name "+p.Labels.Get("host_name")] = true // of a container it is its pod's
			}
		}
		delete(a.pods, "uid ")
		delete(a.pods, "name ")
	}
	return a.pods["uid "+uid] || a.pods["name "+name]
}
