package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// Config configures a Store. Blobs and Catalog are required.
type Config struct {
	Blobs      blob.Store
	Catalog    catalog.Catalog
	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now

	GatherDelay  time.Duration   // longest wait of a push for its segment to be cut while another is written; 0: 500 ms
	GatherPause  time.Duration   // shortest time from one cut to the next, so that the pushes of a fleet share segments; 0: 100 ms, < 0: none
	GatherQuiet  time.Duration   // the pause ends early when no push came for this long; 0: 5 ms
	GatherBytes  int             // cut a segment at about this many bytes; 0: 4 MiB
	MaxAge       time.Duration   // how long raw profiles are kept; 0: 7 days
	MinuteAge    time.Duration   // how long sums by minute are kept, from the profile on; 0: 30 days, < 0: there are none
	HourAge      time.Duration   // how long sums by hour are kept, from the profile on; 0: 400 days, < 0: there are none
	MaxBytes     int64           // retention by size of all live blobs; 0: 10 GB
	ServiceBytes int64           // retention by size of each service; 0: only that of all
	Retention    []RetentionRule // of services that have a retention of their own; the first that matches counts
	MaxSeries    int             // series per service that are alive; 0: 20,000
	Staleness    time.Duration   // longest time one gauge capture stands for; 0: 5 min
	CacheBytes   int64           // opened blocks kept in memory; 0: 256 MiB
	Grace        time.Duration   // how long compacted and expired blobs stay for the queries that read them: longer than any query; 0: 1 min
	QueryCPU     time.Duration   // CPU time that one query may take; 0: no limit
	QueryMemory  int64           // bytes that one query may hold; 0: no limit
	// Symbolizer names what was stored as addresses of a binary, in the answers of queries; nil: they stay addresses.
	Symbolizer profiles.Symbolizer
	// Free returns how many bytes are free and how many there are on the disk of the blobs. Where few are left pushes are refused, so that compaction, retention and the catalogue
	// can go on. nil: pushes are refused when a write fails
	Free func() (free, total int64, err error)
}

// Push is what one request or one scrape brings, stored as a whole or not at all.
type Push struct {
	Key      catalog.Key
	Process  *catalog.Process // upserted with it
	Build    *catalog.Build
	Events   []catalog.Event
	Profiles []Profile
	// Taken, if not nil, is called when Append has taken over what it needs of Profiles, whose Data may be used again from there on. It waits for the
	// segment after that. Where the push is refused, Taken is not called.
	Taken func()
}

// Profile is one profile of one process. Data is not kept after Append returns.
type Profile struct {
	Labels labels.Labels // of the process; the series is Labels plus Type. service_name is required
	Type   string        // cpu, heap, goroutine, mutex, block, …
	Start  int64         // Unix ms
	End    int64         // Unix ms, > Start
	Data   *profiles.Profile
}

// Query selects profiles: those of Type whose series match and whose start lies in [From, To).
type Query struct {
	Matchers []*labels.Matcher
	Type     profiles.Type
	From, To int64 // Unix ms
	// Of the profiles that are selected these say which stacks count
	Samples []*labels.Matcher // on pprof labels of samples, numbers in decimal; on span_id or trace_id: the samples of these spans, while raw profiles are kept
	Focus   *regexp.Regexp    // stacks with a frame of a function whose name matches; nil: all
	Ignore  *regexp.Regexp    // but no stacks with a frame of a function whose name matches; nil: none
}

// SeriesQuery asks for totals over time.
type SeriesQuery struct {
	Query
	Step int64    // ms, > 0; points are at From + i*Step for whole steps
	By   []string // group by these labels, by labels of samples as sample.NAME; none: one series
	// Stats, if not nil, is filled with what was added up.
	Stats *profiles.MergeStats
	// Estimate multiplies what is of an interval type as Store.Estimate says, over the whole range: an estimate of what it would be had all processes been profiled all the time.
	Estimate bool
	Top      int // keep the series with the largest totals and add up the rest under the label set {__rest__="true"}; 0: all
}

// Series is one group's totals: Values[i] is over [From+i*Step, From+(i+1)*Step): an interval's sum, a gauge's mean.
type Series struct {
	Labels labels.Labels
	Values []float64
	Total  float64
}

// TypeInfo describes one column known in a range.
type TypeInfo struct {
	profiles.Type
	Period int64
}

// ServiceInfo describes one service known in a range.
type ServiceInfo struct {
	Name             string
	Types            []string
	MinStart, MaxEnd int64
	Profiles         int64
}

// LimitError says which limit a push broke.
type LimitError struct {
	Limit string // the setting's name: max_series_per_service
	Max   int64
	Got   int64
	What  string // "service cart has 20,001 series alive"
}

func (e *LimitError) Error() string { return e.What + " (limit " + e.Limit + ")" }

// Store is the profile store. Safe for concurrent use.
type Store struct {
	cfg      Config
	log      *slog.Logger
	ids      *idSource
	cache    *cache
	metrics  *metrics
	limiter  seriesLimiter
	sumUse   sumUse
	lexicons lexicons // of queries
	parts    *partCache
	holder   string // of the lease
	leased   atomic.Bool

	mu           sync.Mutex
	pending      *batch
	inFlight     map[catalog.Key]*batch
	dictionaries *dictionaries
	recorder     recorder
	writing      int
	lastCut      time.Time
	closed       bool
	space        chan struct{} // closed when a batch is cut, for pushes that wait for room
	writers      sync.WaitGroup
	idle         chan *fileWriter // file writers to use again

	underway sync.Map   // names of segments from before they are written until their registration has come to its end
	learning sync.Mutex // held while a service's series are read

	compacting  sync.Mutex
	blockParts  *compressor          // of compactions; guarded by compacting
	aside       map[string]time.Time // blobs that compactions could not read, and when; guarded by compacting
	jumped      time.Time            // since when the clock has been ahead of retention's, zero where it is not; guarded by compacting
	rowsExpired time.Time            // when rows were last expired; guarded by compacting
	adopted     bool                 // the catalogue has the deletions that tombstones tell of; guarded by compacting

	damaged damaged

	strangersSaid bool // guarded by compacting

	retention retention
	more      atomic.Bool          // retention has more to do than it had time for
	quiet     map[string]time.Time // what failed in Run, and when that was last logged; Run's own
	lateSaid  time.Time            // when it was last logged that compaction does not keep up, zero where it does; Run's own
	disk      diskGuard
}

// ErrClosed says that the store does not take pushes any more.
var ErrClosed = errors.New("store is closed")

// Open opens the store. It reads nothing but the catalogue's head.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Blobs == nil || cfg.Catalog == nil {
		return nil, errors.New("open store: Blobs and Catalog are required")
	}
	cfg.setDefaults()
	s := &Store{
		cfg: cfg, log: cfg.Logger, ids: newIDSource(), cache: newCache(cfg.CacheBytes / 2), parts: newPartCache(cfg.CacheBytes / 4), inFlight: map[catalog.Key]*batch{}, dictionaries: newDictionaries(),
		space: make(chan struct{}), idle: make(chan *fileWriter, maxWriters), aside: map[string]time.Time{},
	}
	s.holder = s.ids.next(cfg.Now()).String()
	s.limiter.max = cfg.MaxSeries
	s.retention = retention{rules: cfg.Retention, maxBytes: cfg.MaxBytes, def: Retention{Raw: cfg.MaxAge, Minutes: cfg.MinuteAge, Hours: cfg.HourAge, Bytes: cfg.ServiceBytes}}
	s.disk.free = cfg.Free
	s.lexicons.ingest, s.lexicons.symbolizer = &s.mu, cfg.Symbolizer
	s.metrics = newMetrics(s)
	if _, err := cfg.Catalog.Now(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.metrics.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	orDuration := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	orDuration(&c.GatherDelay, 500*time.Millisecond)
	if c.GatherPause == 0 {
		c.GatherPause = 100 * time.Millisecond
	}
	orDuration(&c.GatherQuiet, 5*time.Millisecond)
	orDuration(&c.MaxAge, 7*24*time.Hour)
	orDuration(&c.Staleness, 5*time.Minute)
	orDuration(&c.Grace, time.Minute)
	if c.MinuteAge == 0 {
		c.MinuteAge = 30 * day
	}
	if c.HourAge == 0 {
		c.HourAge = 400 * day
	}
	if c.GatherBytes <= 0 {
		c.GatherBytes = 4 << 20
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 10_000_000_000
	}
	if c.MaxSeries <= 0 {
		c.MaxSeries = 20_000
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = 256 << 20
	}
}

// Close stops accepting pushes, waits for those in flight and releases everything. It may be called twice.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.scheduleLocked() // what waits for the pause to be over
	s.mu.Unlock()
	s.writers.Wait()
	if first {
		s.metrics.unregister(s.cfg.Registerer)
		return s.releaseLease()
	}
	return nil
}

// releaseLease lets the next store compact at once, and not only when the lease has run out.
func (s *Store) releaseLease() error {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	if !s.leased.Load() {
		return nil
	}
	if _, err := s.cfg.Catalog.Acquire(context.Background(), leaseName, s.holder, time.Millisecond); err != nil {
		return fmt.Errorf("close store: release the lease: %w", err)
	}
	return nil
}

// Usage is what the store holds.
type Usage struct {
	Segments, Blocks int
	Bytes            int64
	Profiles         int64
	Backlog          Backlog
}

// Usage returns what the catalogue lists as live.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{})
	if err != nil {
		return Usage{}, fmt.Errorf("add up usage: %w", err)
	}
	u := Usage{Backlog: backlog(blocks, s.cfg.Now())}
	for _, b := range blocks {
		if b.Level == 0 {
			u.Segments++
		} else {
			u.Blocks++
		}
		u.Bytes += b.Size
		for _, ds := range b.Datasets {
			u.Profiles += ds.Profiles
		}
	}
	return u, nil
}
