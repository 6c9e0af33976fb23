// Package store keeps profiles in immutable segments and blocks and merges them back.
package store

import (
	"context"
	"log/slog"
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

	GatherDelay time.Duration // longest wait of a push for its segment to be cut while another is written; 0: 500 ms
	GatherBytes int           // cut a segment at about this many bytes; 0: 4 MiB
	MaxAge      time.Duration // retention by age; 0: 7 days
	MaxBytes    int64         // retention by size of all live blobs; 0: 10 GB
	MaxSeries   int           // series per service within 2 h; 0: 20,000
	Staleness   time.Duration // longest time one gauge capture stands for; 0: 5 min
	CacheBytes  int64         // opened blocks kept in memory; 0: 256 MiB
}

// Push is what one request or one scrape brings, stored as a whole or not at all.
type Push struct {
	Key      catalog.Key
	Process  *catalog.Process // upserted with it
	Build    *catalog.Build
	Events   []catalog.Event
	Profiles []Profile
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
}

// SeriesQuery asks for totals over time.
type SeriesQuery struct {
	Query
	Step int64    // ms, > 0; points are at From + i*Step for whole steps
	By   []string // group by these labels; none: one series
	Top  int      // keep the series with the largest totals and add up the rest under the label set {__rest__="true"}; 0: all
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
	What  string // "service cart has 20,000 series within 2 h"
}

func (e *LimitError) Error() string { return e.What + " (limit " + e.Limit + ")" }

// Store is the profile store. Safe for concurrent use.
type Store struct{}

// Open opens the store. It reads nothing but the catalogue's head.
func Open(ctx context.Context, cfg Config) (*Store, error) { panic("unwritten") }

// Run compacts, applies retention and deletes garbage until ctx is done.
func (s *Store) Run(ctx context.Context) error { panic("unwritten") }

// Append stores p. When it returns nil, p survives kill -9 and power loss and every query sees it. A p whose Key was stored before yields
// an error that wraps catalog.ErrDuplicate, and nothing is stored. Other errors: *LimitError, or the store could not write.
func (s *Store) Append(ctx context.Context, p Push) error { panic("unwritten") }

// Merge adds up all profiles that q selects.
func (s *Store) Merge(ctx context.Context, q Query) (*profiles.Stacks, error) { panic("unwritten") }

// Series returns totals over time.
func (s *Store) Series(ctx context.Context, q SeriesQuery) ([]Series, error) { panic("unwritten") }

// Services returns the services with profiles that start in [from, to).
func (s *Store) Services(ctx context.Context, from, to int64) ([]ServiceInfo, error) {
	panic("unwritten")
}

// LabelNames returns the sorted label names of the series that q selects; q.Type may be zero.
func (s *Store) LabelNames(ctx context.Context, q Query) ([]string, error) { panic("unwritten") }

// LabelValues returns the sorted values of label name in the series that q selects; q.Type may be zero.
func (s *Store) LabelValues(ctx context.Context, name string, q Query) ([]string, error) {
	panic("unwritten")
}

// Types returns the columns of the series that q selects; q.Type is ignored.
func (s *Store) Types(ctx context.Context, q Query) ([]TypeInfo, error) { panic("unwritten") }

// Compact runs compaction until nothing is left to do, regardless of age when all is true.
func (s *Store) Compact(ctx context.Context, all bool) error { panic("unwritten") }

// Close stops accepting pushes, waits for those in flight and releases everything. It may be called twice.
func (s *Store) Close() error { panic("unwritten") }

// Usage is what the store holds.
type Usage struct {
	Segments, Blocks int
	Bytes            int64
	Profiles         int64
}

// Usage returns what the catalogue lists as live.
func (s *Store) Usage(ctx context.Context) (Usage, error) { panic("unwritten") }

// Problem is one thing that Check found wrong.
type Problem struct{ Blob, What string }

// Check reads every live segment and block, verifies every checksum and reference, and compares them with the catalogue.
// Orphans (blobs that the catalogue does not know, older than grace) are problems too.
func Check(ctx context.Context, blobs blob.Store, cat catalog.Catalog, grace time.Duration) (checked int, problems []Problem, err error) {
	panic("unwritten")
}
