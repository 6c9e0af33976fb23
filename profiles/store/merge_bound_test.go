package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// TestMergeIsBounded: a query ends where its tree becomes too large, or where its context ends, also within one dataset.
func TestMergeIsBounded(t *testing.T) {
	e := newEnv(t, nil)
	types := []profiles.ValueType{{Type: "cpu", Unit: "nanoseconds"}}
	var samples []sample
	for i := range 600 {
		samples = append(samples, sample{stack: []string{fmt.Sprintf("main.leaf%d", i), "main.main"}, values: []int64{1}})
	}
	start := e.clock.Now().UnixMilli() - 10_000
	must(t, e.store.Append(t.Context(), Push{Profiles: []Profile{{
		Labels: labels.FromStrings(serviceLabel, "cart"), Type: "cpu", Start: start, End: start + 10_000, Data: profileOf(types, 1, samples),
	}}}))
	cpu, err := profiles.ParseType("cpu")
	must(t, err)
	q := Query{Type: cpu, From: start, To: start + 1}
	merge := func(most int, after int) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var m *merger
		return e.store.visit(ctx, q, func() { m = newMerger(e.store, q); m.most = most }, func(f *file, ds *dataset) error {
			return m.dataset(&endsAfter{Context: ctx, n: after}, f, ds)
		})
	}
	if err := merge(601, 1<<30); err != nil {
		t.Errorf("a tree of 601 nodes, of which as many are allowed: %v", err)
	}
	err = merge(100, 1<<30)
	if le, ok := errors.AsType[*LimitError](err); !ok || le.Limit != "max_merge_nodes" || le.Max != 100 || le.Got > 110 {
		t.Errorf("a tree of 601 nodes, of which 100 are allowed: %v", err)
	}
	for after := range 4 {
		if err := merge(601, after); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that ended after %d looks at it: %v", after, err)
		}
	}
}

// endsAfter is a context whose end shows from the n-th look at it on.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}
