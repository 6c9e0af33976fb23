package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// TestQueriesAreBounded: a query ends where it holds too much memory or took too much CPU time, and where its context ends, also within one dataset.
func TestQueriesAreBounded(t *testing.T) {
	e := newEnv(t, nil)
	types := []profiles.ValueType{{Type: "cpu", Unit: "nanoseconds"}}
	var samples []sample
	for i := range 600 {
		samples = append(samples, sample{stack: []string{fmt.Sprintf("main.leaf%d", i), "main.main"}, values: []int64{1}})
	}
	start := e.clock.Now().UnixMilli() - 1_000_000
	for i := range int64(20) {
		must(t, e.store.Append(t.Context(), Push{Profiles: []Profile{{
			Labels: labels.FromStrings(serviceLabel, "cart"), Type: "cpu", Start: start + i*10_000, End: start + (i+1)*10_000, Data: profileOf(types, 1, samples),
		}}}))
	}
	cpu, err := profiles.ParseType("cpu")
	must(t, err)
	q := Query{Type: cpu, From: start, To: start + 1_000_000}
	queries := map[string]func(ctx context.Context) error{
		"merge": func(ctx context.Context) error {
			_, err := e.store.Merge(ctx, q)
			return err
		},
		"series": func(ctx context.Context) error {
			q := SeriesQuery{Query: q, Step: 10_000, By: []string{"sample.none"}}
			_, err := e.store.Series(ctx, q)
			return err
		},
		"windows": func(ctx context.Context) error {
			return e.store.EachWindow(ctx, q, 60_000, func(Window) error { return nil })
		},
	}
	for name, query := range queries {
		for _, c := range []struct {
			limit  string
			cpu    time.Duration
			memory int64
		}{{"", 0, 0}, {"", time.Hour, 1 << 20}, {"query_memory", time.Hour, 20_000}, {"query_cpu", 1, 1 << 20}} {
			e.store.lexicons.m = nil // as if it were the first query
			e.store.cfg.QueryCPU, e.store.cfg.QueryMemory = c.cpu, c.memory
			err := query(t.Context())
			for range 1000 { // some systems count a thread's time in steps that are longer than this query takes
				if err != nil || c.limit != "query_cpu" {
					break
				}
				err = query(t.Context())
			}
			le, ok := errors.AsType[*LimitError](err)
			if c.limit == "" && err != nil || c.limit != "" && (!ok || le.Limit != c.limit || le.Got <= le.Max && c.limit == "query_memory") {
				t.Errorf("%s with %v and %d bytes: %v, want limit %q", name, c.cpu, c.memory, err, c.limit)
			}
		}
		e.store.cfg.QueryCPU, e.store.cfg.QueryMemory = 0, 0
		for after := range 20 {
			e.store.lexicons.m = nil
			ctx := &endsAfter{Context: t.Context()}
			ctx.n.Store(int64(after))
			if err := query(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s whose context ended after %d looks at it: %v", name, after, err)
			}
		}
	}
}

// endsAfter is a context whose end shows from the n-th look at it on.
type endsAfter struct {
	context.Context
	n atomic.Int64
}

func (c *endsAfter) Err() error {
	if c.n.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}
