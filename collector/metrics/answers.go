package metrics

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/sync/semaphore"

	"github.com/sonde-io/sonde/collector/reply"
)

// Prometheus' handlers make an answer as a whole before they send it, when the query is no longer one of those that run: many at once would take all memory.
const (
	answersBytes = 512 << 20 // that answers take at once, the next wait
	pointBytes   = 96        // of JSON, while its buffer grows and is copied
	seriesBytes  = 1 << 10   // the same of a series' labels
)

// oneOfMany has no more than max_concurrent_queries requests answered at once, until the last byte, and each within query_timeout, but for sending it.
func (s *Store) oneOfMany(h http.Handler) http.Handler {
	answering := newSlots(s.set.MaxConcurrentQueries)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Duration(s.set.QueryTimeout))
		defer cancel()
		slot, err := answering.Insert(ctx, "")
		if err != nil {
			reply.Fail(w, &reply.Error{Status: http.StatusServiceUnavailable, Message: "too many queries at once", Limit: "max_concurrent_queries", Max: int64(s.set.MaxConcurrentQueries), RetryAfter: 1, Cause: err})
			return
		}
		defer answering.Delete(slot)
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// weighed is an engine whose results wait until there is memory for their answers. What a result takes is given back by its query's Close, which the handlers call after the answer.
type weighed struct {
	promql.QueryEngine
	bytes int64
	steps int                 // that a subquery may have
	free  *semaphore.Weighted // of bytes
}

func newWeighed(e promql.QueryEngine, bytes int64, steps int) weighed {
	return weighed{e, bytes, steps, semaphore.NewWeighted(bytes)}
}

// NewInstantQuery implements promql.QueryEngine.
func (e weighed) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, expr string, at time.Time) (promql.Query, error) {
	query, err := e.QueryEngine.NewInstantQuery(ctx, q, opts, expr, at)
	if err != nil {
		return nil, err
	}
	return &weighedQuery{Query: query, of: e}, nil
}

// NewRangeQuery implements promql.QueryEngine.
func (e weighed) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, expr string, start, end time.Time, step time.Duration) (promql.Query, error) {
	query, err := e.QueryEngine.NewRangeQuery(ctx, q, opts, expr, start, end, step)
	if err != nil {
		return nil, err
	}
	return &weighedQuery{Query: query, of: e}, nil
}

type weighedQuery struct {
	promql.Query
	of   weighed
	held int64
}

// Exec implements promql.Query.
func (q *weighedQuery) Exec(ctx context.Context) *promql.Result {
	if stepsOf(q.Query) > float64(q.of.steps) {
		return &promql.Result{Err: promql.ErrTooManySamples("a subquery of so many steps")}
	}
	res := q.Query.Exec(ctx)
	if res.Err != nil {
		return res
	}
	weight := min(weightOf(res), q.of.bytes)
	if err := q.of.free.Acquire(ctx, weight); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return &promql.Result{Err: promql.ErrQueryTimeout("memory for its answer")}
		}
		return &promql.Result{Err: promql.ErrQueryCanceled("memory for its answer")}
	}
	q.held = weight
	return res
}

// Close implements promql.Query.
func (q *weighedQuery) Close() {
	q.Query.Close()
	q.of.free.Release(q.held)
	q.held = 0
}

// weightOf returns about how many bytes an answer takes while it is made.
func weightOf(res *promql.Result) (n int64) {
	switch v := res.Value.(type) {
	case promql.Vector:
		n = int64(len(v)) * (seriesBytes + pointBytes)
		for _, x := range v {
			if x.H != nil {
				n += int64(pointBytes * (len(x.H.PositiveBuckets) + len(x.H.NegativeBuckets)))
			}
		}
	case promql.Matrix:
		for _, x := range v {
			n += seriesBytes + int64(len(x.Floats))*pointBytes
			for _, h := range x.Histograms {
				n += int64(pointBytes * (1 + len(h.H.PositiveBuckets) + len(h.H.NegativeBuckets)))
			}
		}
	}
	return n
}
