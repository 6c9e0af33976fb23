package faultcat_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/catalog/faultcat"
)

func TestFaults(t *testing.T) {
	ctx := t.Context()
	db, err := catalog.OpenSQLite(ctx, filepath.Join(t.TempDir(), "catalog.db"))
	must(t, err)
	c := faultcat.New(db)
	defer c.Close()
	live := func() int {
		t.Helper()
		bs, err := db.Blocks(ctx, catalog.BlockFilter{})
		must(t, err)
		return len(bs)
	}
	register := func(id string) error {
		return c.Register(ctx, catalog.Registration{
			Block: &catalog.Block{ID: id, Blob: id, Datasets: []catalog.Dataset{{Service: "s"}}}, Keys: []catalog.Key{{Idempotency: id}},
		})
	}

	c.Inject(faultcat.Fault{Ops: faultcat.Register, N: 2})
	must(t, register("a"))
	if err := register("b"); !errors.Is(err, faultcat.ErrInjected) || live() != 1 {
		t.Errorf("a fault before the commit: %v with %d blocks, want the fault and 1", err, live())
	}
	must(t, register("b"))

	lost := errors.New("connection reset")
	c.Inject(faultcat.Fault{Ops: faultcat.Register, N: 1, After: true, Err: lost})
	if err := register("c"); !errors.Is(err, lost) || live() != 3 {
		t.Errorf("a lost answer: %v with %d blocks, want the error and 3", err, live())
	}
	if err := register("c"); !errors.Is(err, catalog.ErrDuplicate) {
		t.Errorf("the repeat after a lost answer: %v, want ErrDuplicate", err)
	}

	c.Inject(faultcat.Fault{Ops: faultcat.Swap, N: 1, After: true}, faultcat.Fault{Ops: faultcat.Acquire, N: 1, Sticky: true})
	if err := c.Swap(ctx, []string{"a"}, nil, time.Unix(0, 0)); !errors.Is(err, faultcat.ErrInjected) || live() != 2 {
		t.Errorf("Swap with a lost answer: %v with %d blocks, want the fault and 2", err, live())
	}
	if err := c.Swap(ctx, []string{"a"}, nil, time.Unix(0, 0)); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("the repeat of a Swap: %v, want ErrConflict", err)
	}
	for range 2 {
		if ok, err := c.Acquire(ctx, "l", "h", time.Hour); ok || !errors.Is(err, faultcat.ErrInjected) {
			t.Errorf("Acquire = %v, %v, want the fault", ok, err)
		}
	}
	if got := c.Count(faultcat.Register | faultcat.Swap); got != 7 {
		t.Errorf("Count = %d, want 7", got)
	}
	if got := c.Fired(); got != 5 {
		t.Errorf("Fired = %d, want 5", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
