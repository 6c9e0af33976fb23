package metrics

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/sonde-io/sonde/collector/series"
)

// Why a sample is left out.
const (
	reasonTooOld    = "too_old"
	reasonFuture    = "future"
	reasonMaxSeries = "max_series"
	reasonDuplicate = "duplicate"
	reasonInvalid   = "invalid"
)

// reasonOf says why err leaves one sample out, "" where it is an error of the database.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, storage.ErrOutOfOrderSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrTooOldSample):
		return reasonTooOld
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return reasonDuplicate
	case errors.Is(err, errMaxSeries):
		return reasonMaxSeries
	case errors.Is(err, tsdb.ErrInvalidSample), errors.Is(err, errTooLong), errors.As(err, new(histogram.Error)):
		return reasonInvalid
	}
	return ""
}

// AppendSeries implements series.Appender: when it returns nil the samples survive a crash of this program.
func (s *Store) AppendSeries(ctx context.Context, batches ...series.Batch) (err error) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return fmt.Errorf("append metrics: %w", ErrClosed)
	}
	w := writer{s: s, ctx: ctx, app: s.db.Appender(ctx), latest: latest()}
	for i := range batches {
		if err := w.batch(&batches[i]); err != nil {
			return fmt.Errorf("append metrics: %w", errors.Join(err, w.app.Rollback()))
		}
	}
	if err := w.commit(); err != nil {
		return fmt.Errorf("append metrics: %w", err)
	}
	return nil
}

// writer appends batches.
type writer struct {
	s       *Store
	ctx     context.Context
	app     storage.Appender
	latest  int64
	pending int
}

func (w *writer) commit() error {
	if err := w.app.Commit(); err != nil {
		return err
	}
	w.s.metrics.appended.Add(float64(w.pending))
	w.pending = 0
	return nil
}

func (w *writer) batch(b *series.Batch) error {
	for _, m := range b.Metadata {
		w.s.meta.put(m)
	}
	if !b.Process.IsEmpty() {
		return w.samples(w.s.targets.of(b.Process), b.Samples)
	}
	// A sidecar's batch is of many processes, one after the other.
	for rest := b.Samples; len(rest) > 0; {
		instance, n := carriedInstance(rest[0].Labels), 1
		for n < len(rest) && carriedInstance(rest[n].Labels) == instance {
			n++
		}
		if err := w.samples(w.s.targets.ofInstance(instance), rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// carriedInstance returns the instance of a process whose labels a sample carries, "" where it is of none: what rules record has no job and instance (series.WithTarget).
func carriedInstance(ls labels.Labels) string {
	if !ls.Has(model.InstanceLabel) {
		return ""
	}
	return ls.Get(instanceLabel)
}

// samples appends samples of t.
func (w *writer) samples(t *target, all []series.Sample) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range all {
		if err := w.sample(t, i, &all[i]); err != nil {
			return err
		}
		if err := w.breathe(); err != nil {
			return err
		}
	}
	if len(t.series) == 0 { // all were left out: who invents processes over a limit is not to fill the memory with them
		w.s.targets.drop(t)
		return nil
	}
	if t.ended != 0 {
		return w.markStale(t) // these were on the way when the end was told
	}
	return nil
}

// breathe writes what is pending where it is much.
func (w *writer) breathe() error {
	if w.pending < commitEvery {
		return nil
	}
	if err := w.commit(); err != nil {
		return err
	}
	w.app = w.s.db.Appender(w.ctx) // ended by whoever gets an error
	return w.ctx.Err()
}

// sample appends x, number at of its batch.
func (w *writer) sample(t *target, at int, x *series.Sample) (err error) {
	if x.T > w.latest || x.T < earliest {
		reason := reasonFuture
		if x.T < earliest {
			reason = reasonTooOld
		}
		w.s.metrics.dropped.WithLabelValues(reason).Inc()
		return nil
	}
	if isTooWide(nil, x.H) {
		w.s.metrics.dropped.WithLabelValues(reasonInvalid).Inc()
		return nil
	}
	known := t.get(at, x.Labels)
	ref := known.ref
	if x.H != nil {
		ref, err = w.app.AppendHistogram(ref, known.full, x.T, nil, x.H)
	} else {
		ref, err = w.app.Append(ref, known.full, x.T, x.V)
	}
	if err == nil {
		t.took(known, x)
		known.ref = ref
		w.pending++
		return nil
	}
	reason := reasonOf(err)
	if reason == "" {
		return fmt.Errorf("series %.300s: %w", known.full.String(), err)
	}
	if known.ref == 0 {
		t.remove(x.Labels) // one over the limit is nothing to remember
	}
	w.s.metrics.dropped.WithLabelValues(reason).Inc()
	return nil
}

const (
	targetIdle      = 30 * time.Minute
	maxTargetSeries = 50_000 // of one target whose references are remembered
)

// targets remembers of each process the references of its series, so that neither labels are joined nor the database is searched for each sample.
type targets struct {
	mu     sync.Mutex
	byHash map[uint64]*target
	ends   map[string]end // of processes, by instance: what was on the way comes later, mostly within seconds
}

type target struct {
	process  labels.Labels // as it came
	instance string
	used     time.Time // guarded by targets.mu

	mu     sync.Mutex
	full   labels.Labels // with job and instance
	series map[uint64]*knownSeries
	order  []*knownSeries // of the last batch: the next one of a process is mostly in the same
	newest int64          // time of the newest sample
	ended  int64          // time of the process's end, 0: none is known
	marked int64          // time of the last staleness markers, 0: none
}

type knownSeries struct {
	own, full labels.Labels
	ref       storage.SeriesRef // 0: not known yet; one that the database forgot is no harm
	histogram bool              // the last sample is one
	open      bool              // it has a sample and no staleness marker after it
}

const instanceLabel = "service_instance_id"

// of returns the target of a process. Two with one hash take turns.
func (ts *targets) of(process labels.Labels) *target {
	return ts.get(process, process.Get(instanceLabel), func() labels.Labels { return series.WithTarget(process) })
}

// ofInstance returns the target of samples that carry all labels of their process, "": of those that are of no process.
func (ts *targets) ofInstance(instance string) *target {
	return ts.get(labels.FromStrings("__carried__", instance), instance, labels.EmptyLabels)
}

// get returns the target with that key; full makes the labels that its samples lack.
func (ts *targets) get(process labels.Labels, instance string, full func() labels.Labels) *target {
	hash, now := process.Hash(), time.Now()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byHash[hash]
	if t == nil || !labels.Equal(t.process, process) {
		t = &target{process: process, instance: strings.Clone(instance), full: full(), series: map[uint64]*knownSeries{}, ended: ts.ends[instance].at}
		if ts.byHash == nil {
			ts.byHash = map[uint64]*target{}
		}
		ts.byHash[hash] = t
	}
	t.used = now
	return t
}

// drop forgets a target.
func (ts *targets) drop(t *target) {
	hash := t.process.Hash()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.byHash[hash] == t {
		delete(ts.byHash, hash)
	}
}

// forget drops targets that were not used since.
func (ts *targets) forget(since time.Time) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for hash, t := range ts.byHash {
		if t.used.Before(since) {
			delete(ts.byHash, hash)
		}
	}
	for instance, e := range ts.ends {
		if e.told.Before(since) {
			delete(ts.ends, instance)
		}
	}
}

// get returns what is known of a series that is sample number at of its batch.
func (t *target) get(at int, own labels.Labels) *knownSeries {
	if at < len(t.order) && labels.Equal(t.order[at].own, own) {
		return t.order[at]
	}
	k := t.find(own)
	if at < len(t.order) {
		t.order[at] = k
	} else if at == len(t.order) && at < maxTargetSeries {
		t.order = append(t.order, k)
	}
	return k
}

func (t *target) find(own labels.Labels) *knownSeries {
	hash := own.Hash()
	k := t.series[hash]
	if k == nil || !labels.Equal(k.own, own) {
		if len(t.series) >= maxTargetSeries {
			clear(t.series)
		}
		k = &knownSeries{own: own, full: series.Merge(t.full, own)}
		t.series[hash] = k
	}
	return k
}

func (t *target) remove(own labels.Labels) { delete(t.series, own.Hash()) }
