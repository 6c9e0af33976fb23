package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/sonde-io/sonde/collector/series"
)

// End says that the process of an instance ended.
type End struct {
	Instance string // service_instance_id
	At       int64  // Unix ms; one in the future is now
}

// end is what is remembered of an End.
type end struct {
	at   int64
	told time.Time
}

// maxEnds bounds the ends that are remembered for samples that are on the way.
const maxEnds = 100_000

var staleNaN = math.Float64frombits(value.StaleNaN)

// Ended ends the series of processes with staleness markers, as Prometheus does when a target is gone: without them queries count a process for five minutes after its end. The
// markers stand at the end, or right after the newest sample where that is later. Samples from before the end that come after it was told are followed by one too; where later ones
// come the process goes on. It concerns what AppendSeries took since the store was opened, not what rules and other senders write. To tell an end twice changes nothing.
func (s *Store) Ended(ctx context.Context, ends ...End) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return fmt.Errorf("end series: %w", ErrClosed)
	}
	now := time.Now()
	w := writer{s: s, ctx: ctx, app: s.db.Appender(ctx)}
	for _, e := range ends {
		if e.Instance == "" {
			continue
		}
		at := min(e.At, now.UnixMilli())
		for _, t := range s.targets.end(e.Instance, end{at, now}) {
			if err := w.end(t, at); err != nil {
				return fmt.Errorf("end series of %.128s: %w", e.Instance, errors.Join(err, w.app.Rollback()))
			}
		}
	}
	if err := w.commit(); err != nil {
		return fmt.Errorf("end series: %w", err)
	}
	return nil
}

// end remembers the end of a process and returns its targets.
func (ts *targets) end(instance string, e end) (of []*target) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if old, ok := ts.ends[instance]; ok || len(ts.ends) < maxEnds {
		if ts.ends == nil {
			ts.ends = map[string]end{}
		}
		e.at = max(e.at, old.at)
		ts.ends[strings.Clone(instance)] = e
	}
	for _, t := range ts.byHash {
		if t.instance == instance {
			of = append(of, t)
		}
	}
	return of
}

// end ends the series of t.
func (w *writer) end(t *target, at int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = max(t.ended, at, t.newest)
	return w.markStale(t)
}

// markStale ends the series of t, which has ended, that were not since their last sample. The caller holds t.mu.
func (w *writer) markStale(t *target) error {
	at := t.ended
	if t.newest >= at {
		at = t.newest + 1
	}
	for _, k := range t.series {
		if !k.open {
			continue
		}
		var err error
		// Without labels: a series that the database has forgotten meanwhile is not to come back for its end.
		if k.histogram {
			_, err = w.app.AppendHistogram(k.ref, labels.EmptyLabels(), at, nil, &histogram.FloatHistogram{Sum: staleNaN})
		} else {
			_, err = w.app.Append(k.ref, labels.EmptyLabels(), at, staleNaN)
		}
		if err != nil && reasonOf(err) == "" {
			return fmt.Errorf("series %.300s: %w", k.full.String(), err)
		}
		k.open = false
		if err == nil {
			w.pending++
		}
		if err := w.breathe(); err != nil {
			return err
		}
	}
	t.marked = at
	return nil
}

// took notes a sample of a series of t that was appended. The caller holds t.mu.
func (t *target) took(k *knownSeries, x *series.Sample) {
	k.histogram = x.H != nil
	if k.ref == 0 || x.T > t.marked {
		k.open = !value.IsStaleNaN(x.V) && (x.H == nil || !value.IsStaleNaN(x.H.Sum))
	}
	t.newest = max(t.newest, x.T)
	if x.T > t.ended {
		t.ended = 0
	}
}
