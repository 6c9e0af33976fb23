package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/sonde-io/sonde/collector/series"
)

// Config configures a Store. Dir is required.
type Config struct {
	Dir        string // made where it is missing
	Settings   Settings
	Version    string                // of the collector, for status/buildinfo
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: no metrics
	Deleted    []Deletion            // in the last weeks: what is read from the log may have what they took out
}

const (
	lookback     = 5 * time.Minute  // how old the last sample of a series may be that a query still takes for its value: Prometheus' own
	maxAhead     = 10 * time.Minute // a sample that is further in the future is left out: it would make all true ones too old
	maxExemplars = 10_000           // of all series, in memory
	maxBlock     = 31 * 24 * time.Hour
	minBlock     = 2 * time.Hour
	commitEvery  = 20_000 // samples that are not yet written are in memory
)

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("metrics store is closed")

// Store is the time series database.
type Store struct {
	cfg     Config
	set     Settings
	log     *slog.Logger
	db      *tsdb.DB
	engine  *promql.Engine
	parser  parser.Parser
	slots   *slots
	metrics *storeMetrics
	targets targets
	meta    *metaStore
	rules   atomic.Pointer[ruleViews]

	opened  atomic.Bool // the log has been read: from here on max_series holds
	alive   alive
	deleted atomic.Bool // something that blocks still hold
	closing sync.RWMutex
	closed  bool
}

var _ series.Appender = (*Store)(nil)

// Open opens the database in cfg.Dir and reads what its write-ahead log holds.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if err := cfg.Settings.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, set: cfg.Settings.WithDefaults(), log: cfg.Logger, parser: boundedParser{parser.NewParser(parser.Options{})}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open metrics in %s: %w", cfg.Dir, err)
		}
	}()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if s.meta, err = openMeta(filepath.Join(cfg.Dir, metaFile)); err != nil {
		return nil, err
	}
	if s.db, err = tsdb.Open(cfg.Dir, Quiet(s.log).With("part", "metrics"), cfg.Registerer, s.options(), tsdb.NewDBStats()); err != nil {
		return nil, err
	}
	if err := s.deleteAgain(ctx); err != nil { // such as a full disk, which only a collector that runs makes room on
		s.log.Error("cannot delete again what the log of series brought back", "error", err)
	}
	s.opened.Store(true)
	s.deleted.Store(true) // perhaps by whoever had it open before
	s.metrics = newStoreMetrics(s)
	s.slots = newSlots(s.set.MaxConcurrentQueries)
	s.engine = promql.NewEngine(promql.EngineOpts{Logger: s.log, Reg: cfg.Registerer, MaxSamples: s.set.MaxQuerySamples, Timeout: time.Duration(s.set.QueryTimeout), ActiveQueryTracker: s.slots,
		LookbackDelta: lookback, NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryStep.Milliseconds() }, EnableAtModifier: true, EnableNegativeOffset: true, Parser: s.parser})
	return s, nil
}

func (s *Store) options() *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.RetentionDuration = time.Duration(s.set.RetentionAge).Milliseconds()
	o.MaxBytes = int64(s.set.RetentionSize)
	o.OutOfOrderTimeWindow = time.Duration(s.set.OutOfOrder).Milliseconds()
	o.MinBlockDuration = minBlock.Milliseconds()
	// Blocks of a tenth of the retention, as Prometheus has them: what is over is deleted by whole blocks.
	o.MaxBlockDuration = max(minBlock, min(maxBlock, time.Duration(s.set.RetentionAge)/10)).Milliseconds()
	o.WALCompression = compression.Snappy
	o.EnableExemplarStorage = true
	o.MaxExemplars = maxExemplars
	o.StripeSize = 1 << 11 // locks for series: the default of 16384 is 4 MB before there is one
	o.NoLockfile = true    // the data directory has one
	o.SeriesLifecycleCallback = lifecycle{s}
	return o
}

// lifecycle refuses series over the limits.
type lifecycle struct{ s *Store }

var (
	errMaxSeries = errors.New("max_series")
	errTooLong   = fmt.Errorf("labels of more than %d bytes", maxSeriesBytes)
)

// PreCreation implements tsdb.SeriesLifecycleCallback. What the log holds was taken once and is taken again.
func (l lifecycle) PreCreation(ls labels.Labels) error {
	switch bytes := int64(ls.ByteSize()); {
	case !l.s.opened.Load():
	case bytes > maxSeriesBytes:
		return errTooLong
	case !l.s.alive.hasRoom(ls.Get(serviceLabel), share{1, bytes}, share{int64(l.s.set.MaxSeries), max(maxSeriesBytes, int64(l.s.set.MaxSeries)*meanSeriesBytes)}):
		return errMaxSeries
	}
	return nil
}

// PostCreation implements tsdb.SeriesLifecycleCallback.
func (l lifecycle) PostCreation(ls labels.Labels) { l.s.alive.add(ls, 1) }

// PostDeletion implements tsdb.SeriesLifecycleCallback.
func (l lifecycle) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	for _, ls := range gone {
		l.s.alive.add(ls, -1)
	}
}

// Run keeps house until ctx ends: it writes what became known of names, forgets targets that say nothing any more, and takes what was deleted out of blocks. The database compacts by itself.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			s.targets.forget(now.Add(-targetIdle))
			if err := s.meta.save(); err != nil {
				s.log.Error("cannot write the metadata of metrics", "error", err)
			}
			if err := s.clean(); err != nil {
				s.log.Error("cannot clean up after a deletion", "error", err)
			}
		}
	}
}

// Close writes what is left and closes the database. Queries and appends that run are waited for.
func (s *Store) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err := errors.Join(s.meta.save(), s.db.Close(), s.slots.Close()); err != nil {
		return fmt.Errorf("close metrics: %w", err)
	}
	return nil
}

// Engine evaluates PromQL, within the limits of the settings.
func (s *Store) Engine() *promql.Engine { return s.engine }

// Queryable gives the stored series to an engine.
func (s *Store) Queryable() storage.SampleAndChunkQueryable { return s.db }

// Snapshot writes all that is stored as blocks into dir, which must be missing or empty: a Store, or Prometheus, opens it. Appends go on meanwhile and may or may not be in it.
func (s *Store) Snapshot(dir string) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return fmt.Errorf("copy metrics: %w", ErrClosed)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("copy metrics: %w", err)
	}
	// What came out of order is apart until it is compacted, and Snapshot leaves it out.
	if err := s.db.CompactOOOHead(context.Background()); err != nil {
		return fmt.Errorf("copy metrics to %s: %w", dir, err)
	}
	if err := s.db.Snapshot(dir, s.db.Head().NumSeries() > 0); err != nil {
		return fmt.Errorf("copy metrics to %s: %w", dir, err)
	}
	if err := s.meta.saveTo(filepath.Join(dir, metaFile)); err != nil {
		return fmt.Errorf("copy metrics to %s: %w", dir, err)
	}
	return nil
}

// storeMetrics are what the collector's own /metrics says of the store, besides tsdb's and promql's own.
type storeMetrics struct {
	appended prometheus.Counter
	dropped  *prometheus.CounterVec
}

func newStoreMetrics(s *Store) *storeMetrics {
	m := &storeMetrics{
		appended: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_metrics_appended_samples_total", Help: "Samples that were stored, repeated ones included."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_metrics_dropped_samples_total",
			Help: "Samples that were left out: too_old (out_of_order), future, max_series, duplicate (same series and time, other value), invalid (histograms of more than 10000 buckets, labels of more than 64 KiB, too); max_series is also for a service that has as many series as are still free."}, []string{"reason"}),
	}
	for _, reason := range []string{reasonTooOld, reasonFuture, reasonMaxSeries, reasonDuplicate, reasonInvalid} {
		m.dropped.WithLabelValues(reason)
	}
	if r := s.cfg.Registerer; r != nil {
		r.MustRegister(m.appended, m.dropped,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sonde_metrics_series", Help: "Series that are alive: they had a sample in the last hours."}, func() float64 { return float64(s.db.Head().NumSeries()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sonde_metrics_max_series", Help: "The limit of series that are alive (setting metrics.max_series)."}, func() float64 { return float64(s.set.MaxSeries) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sonde_metrics_label_bytes", Help: "Bytes of the labels of the series that are alive: at most 2 KiB times the limit of series."}, func() float64 { return float64(s.alive.total().bytes) }))
	}
	return m
}

// slots bounds the queries that run at once.
type slots struct{ free chan struct{} }

var _ promql.QueryTracker = (*slots)(nil)

func newSlots(n int) *slots { return &slots{free: make(chan struct{}, n)} }

func (t *slots) GetMaxConcurrent() int { return cap(t.free) }

func (t *slots) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case t.free <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for one of max_concurrent_queries (%d): %w", cap(t.free), ctx.Err())
	}
}

func (t *slots) Delete(int) { <-t.free }

func (*slots) Close() error { return nil }

// latest is the last time at which a sample may be.
func latest() int64 { return time.Now().Add(maxAhead).UnixMilli() }

const earliest = math.MinInt64 / 4 // what tsdb computes with

// Quiet returns a logger for Prometheus' parts: what they say at level info, such as each compaction, is of level debug.
func Quiet(log *slog.Logger) *slog.Logger { return slog.New(quiet{log.Handler()}) }

// quiet is Quiet's handler.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, lower(l))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lower(r.Level)
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(as []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(as)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

func lower(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
}
