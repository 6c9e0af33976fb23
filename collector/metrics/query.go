package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/sonde-io/sonde/collector/reply"
)

// Point is one value of a series.
type Point struct {
	T int64 // Unix ms
	V float64
	H *histogram.FloatHistogram // in place of V where the value is a histogram
}

// Series is one line of the answer to a query.
type Series struct {
	Labels labels.Labels
	Points []Point // by time; one for Query
}

// Query evaluates PromQL at a moment, from what this collector stores. A scalar is a series without labels. Errors that the expression or a limit causes are a *reply.Error.
func (s *Store) Query(ctx context.Context, expr string, at time.Time) ([]Series, error) {
	q, err := s.engine.NewInstantQuery(ctx, s.db, nil, expr, at)
	return s.exec(ctx, q, err)
}

// Range evaluates PromQL at from, from+step, … until to. Errors are as those of Query.
func (s *Store) Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	if step <= 0 || to.Before(from) {
		return nil, reply.Errorf(http.StatusBadRequest, "query from %s to %s by %s: the range is empty", from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339), step)
	}
	q, err := s.engine.NewRangeQuery(ctx, s.db, nil, expr, from, to, step)
	return s.exec(ctx, q, err)
}

func (s *Store) exec(ctx context.Context, q promql.Query, err error) ([]Series, error) {
	if err != nil {
		return nil, &reply.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("read PromQL: %v", err), Cause: err}
	}
	defer q.Close()
	if stepsOf(q) > float64(s.set.MaxQuerySamples) {
		return nil, s.queryError(promql.ErrTooManySamples("a subquery of so many steps"))
	}
	res := q.Exec(ctx)
	if res.Err != nil {
		return nil, s.queryError(res.Err)
	}
	switch v := res.Value.(type) {
	case promql.Scalar:
		return []Series{{Points: []Point{{T: v.T, V: v.V}}}}, nil
	case promql.Vector:
		out := make([]Series, len(v))
		for i, x := range v {
			out[i] = Series{Labels: x.Metric, Points: []Point{{T: x.T, V: x.F}}}
			if x.H != nil {
				out[i].Points[0] = Point{T: x.T, H: x.H.Copy()}
			}
		}
		return out, nil
	case promql.Matrix:
		out := make([]Series, len(v))
		for i, x := range v {
			out[i] = Series{Labels: x.Metric, Points: points(x)}
		}
		return out, nil
	}
	return nil, reply.Errorf(http.StatusBadRequest, "read PromQL: the answer is a %s, want numbers", res.Value.Type())
}

// points copies what the engine will use again; floats and histograms of one series take turns.
func points(x promql.Series) []Point {
	out := make([]Point, 0, len(x.Floats)+len(x.Histograms))
	fs, hs := x.Floats, x.Histograms
	for len(fs)+len(hs) > 0 {
		if len(hs) == 0 || len(fs) > 0 && fs[0].T < hs[0].T {
			out = append(out, Point{T: fs[0].T, V: fs[0].F})
			fs = fs[1:]
		} else {
			out = append(out, Point{T: hs[0].T, H: hs[0].H.Copy()})
			hs = hs[1:]
		}
	}
	return out
}

func (s *Store) queryError(err error) error {
	switch {
	case errors.As(err, new(promql.ErrTooManySamples)):
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "query needs too many samples", Limit: "max_query_samples", Max: int64(s.set.MaxQuerySamples), Cause: err}
	case errors.As(err, new(promql.ErrQueryTimeout)):
		return &reply.Error{Status: http.StatusServiceUnavailable, Message: fmt.Sprintf("query took longer than query_timeout (%s)", s.set.QueryTimeout), Limit: "query_timeout", Cause: err}
	case errors.As(err, new(promql.ErrStorage)):
		return fmt.Errorf("query metrics: %w", err)
	case errors.As(err, new(promql.ErrQueryCanceled)):
		return context.Canceled
	}
	return &reply.Error{Status: http.StatusUnprocessableEntity, Message: fmt.Sprintf("evaluate PromQL: %v", err), Cause: err}
}
