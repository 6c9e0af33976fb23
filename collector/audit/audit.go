package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/binaries"
	"github.com/sonde-io/sonde/symbols/vulns"
)

// Catalog is what is read of the catalogue; catalog.Catalog is one.
type Catalog interface {
	FleetProcesses(ctx context.Context, since int64, limit int) ([]catalog.FleetProcess, error)
	Builds(ctx context.Context, service string) ([]catalog.Build, error)
}

// Profiles is what is read of the profiles; *store.Store is one.
type Profiles interface {
	Types(ctx context.Context, q store.Query) ([]store.TypeInfo, error)
	SeenFunctions(ctx context.Context, q store.FunctionsQuery) ([]store.SeenFunction, error)
}

// Binaries opens the names of the functions of binaries; *binaries.Store is one.
type Binaries interface {
	Functions(id string) (binaries.Functions, error)
}

// Limits of one report that are not settings.
const (
	maxProcesses = 150_000
	maxBinaries  = 4096             // builds whose functions are kept
	fresh        = 30 * time.Second // how long a report is given again
	maxReports   = 64
)

// Config configures an Auditor. Catalog and Profiles are required.
type Config struct {
	Catalog    Catalog
	Profiles   Profiles
	Binaries   Binaries // nil: none are known
	Settings   vulns.Settings
	Timeout    time.Duration // of a report, waiting for others included; 0: 60 s
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Auditor makes reports. Safe for concurrent use.
type Auditor struct {
	cfg      Config
	releases *vulns.Releases
	turn     chan struct{} // held by who makes a report; guards what follows
	database *vulns.Database
	stamp    string
	inside   map[string]*inside
	reports  map[string]kept

	posting chan struct{} // held by who reads a database that came with a request

	closing  sync.Once
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	cut      prometheus.Counter
}

type kept struct {
	report *Report
	at     time.Time
}

// New returns an Auditor. The database of vulnerabilities is opened by the report that needs it: it may come later, and change.
func New(cfg Config) (*Auditor, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Minute
	}
	releases, err := vulns.ReadReleases(cfg.Settings.Releases)
	if err != nil {
		return nil, err
	}
	a := &Auditor{cfg: cfg, releases: releases, turn: make(chan struct{}, 1), posting: make(chan struct{}, 1), inside: map[string]*inside{}, reports: map[string]kept{}}
	a.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_audit_requests_total", Help: "Requests for vulnerabilities by HTTP status."}, []string{"code"})
	a.duration = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sonde_audit_duration_seconds", Help: "Time to answer a request for vulnerabilities, its waiting included.",
		Buckets: prometheus.ExponentialBuckets(0.01, 2, 14)})
	a.cut = prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_audit_cut_total", Help: "Reports that left out processes beyond the 150,000 that were seen last."})
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(a.requests, a.duration, a.cut)
	}
	return a, nil
}

// Close closes the database. The Auditor makes no more reports. It may be called again.
func (a *Auditor) Close() (err error) {
	a.closing.Do(func() {
		a.turn <- struct{}{} // and keeps it
		if a.database != nil {
			err = a.database.Close()
		}
	})
	return err
}

// load opens the database if it is not open, or is another by now. With an error the one that is open stays.
func (a *Auditor) load() error {
	name := a.cfg.Settings.Database
	if name == "" {
		return nil
	}
	stamp, err := vulns.Stamp(name)
	if err == nil && stamp != a.stamp {
		var d *vulns.Database
		if d, err = vulns.Open(name); err == nil {
			if a.database != nil {
				err = a.database.Close()
			}
			a.database, a.stamp = d, stamp
			clear(a.inside)
			a.cfg.Logger.Info("vulnerability database opened", "path", name, "entries", d.Entries(), "modified", d.Modified())
		}
	}
	if err != nil && a.database != nil {
		a.cfg.Logger.Warn("the vulnerability database cannot be read again: the one of before is used", "path", name, "error", err)
		return nil
	}
	return err
}

// wait takes the turn.
func (a *Auditor) wait(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// inside is what of a build's vulnerable functions is in its binary.
type inside struct {
	known bool              // the binary was read
	of    [sha256.Size]byte // what the build was known to be made of, which decides whose functions were looked for
	names map[string]bool   // functions as vulns.Functions names them
}

// madeOf names what is known of a build's content, all that its findings depend on but the database.
func (b *ran) madeOf() [sha256.Size]byte { return sha256.Sum256([]byte(b.GoVersion + "\x00" + b.Info)) }

// binary says which of the vulnerable functions of a build are in its binary. What was read is kept until the database changes, or more becomes known of the build: one of which
// only the Go version was known is completed later, for instance by `sonde builds add`, and then has findings whose functions nobody looked for.
func (a *Auditor) binary(db *vulns.Database, b *ran) *inside {
	of := b.madeOf()
	if in := a.inside[b.ID]; in != nil && in.of == of && db == a.database {
		return in
	}
	if a.cfg.Binaries == nil {
		return &inside{}
	}
	table, err := a.cfg.Binaries.Functions(b.ID)
	if err != nil {
		a.cfg.Logger.Debug("the functions of a build are not known", "build", b.ID, "error", err)
		return &inside{} // it may become known
	}
	defer table.Close()
	var functions vulns.Functions
	for i := range b.findings {
		functions.Add(&b.findings[i])
	}
	in := &inside{known: true, of: of, names: map[string]bool{}}
	var ids []int
	table.EachName(func(name string) bool {
		ids = functions.Match(ids[:0], name, b.content.Main)
		for _, id := range ids {
			in.names[functions.Name(id)] = true
		}
		return true
	})
	if db != a.database {
		return in
	}
	if a.inside[b.ID] == nil && len(a.inside) >= maxBinaries {
		clear(a.inside)
	}
	a.inside[b.ID] = in
	return in
}

// noDatabase says what to do where there is none, "" where there is one.
func (a *Auditor) noDatabase(err error) string {
	switch {
	case a.cfg.Settings.Database == "":
		return "no vulnerability database is configured: set builds.vulndb to a directory or a zip file, such as a copy of https://vuln.go.dev/vulndb.zip, or send one with `sonde vulns --db`"
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("there is no vulnerability database at %s", a.cfg.Settings.Database)
	case err != nil:
		return err.Error()
	}
	return ""
}
