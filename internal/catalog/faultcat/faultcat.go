// Package faultcat is a catalog.Catalog that fails on demand around another one. It is for tests: the production binary must not import it
// (a test enforces that).
//
// A fault before the commit changes nothing. A fault after it is a lost answer: the change is made and the caller is told otherwise, as when a
// connection breaks in the wrong moment. Safe for concurrent use.
package faultcat

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// ErrInjected is what a Fault without Err fails with.
var ErrInjected = errors.New("injected catalogue fault")

// Op is a set of methods.
type Op uint8

// The methods that can fail.
const (
	Register Op = 1 << iota
	Swap
	Forget
	Blocks
	Garbage
	Acquire

	// Writes are the methods that change what a store holds.
	Writes = Register | Swap | Forget
)

// Fault makes one call fail.
type Fault struct {
	Ops    Op    // which calls count; 0: Writes
	N      int   // the N-th of them from the call of Inject on, the first being 1
	After  bool  // the call does its work, and its answer is lost
	Sticky bool  // all later ones of Ops fail too
	Err    error // nil: ErrInjected

	seen int
}

// Catalog wraps another Catalog; what is not overridden goes straight to it.
type Catalog struct {
	catalog.Catalog

	mu     sync.Mutex
	faults []*Fault
	counts map[Op]int
	fired  int
}

var _ catalog.Catalog = (*Catalog)(nil)

// New wraps inner. Close closes inner.
func New(inner catalog.Catalog) *Catalog { return &Catalog{Catalog: inner, counts: map[Op]int{}} }

// Inject replaces the faults in force. Without arguments nothing fails any more.
func (c *Catalog) Inject(faults ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
	for _, f := range faults {
		if f.Ops == 0 {
			f.Ops = Writes
		}
		if f.Err == nil {
			f.Err = ErrInjected
		}
		c.faults = append(c.faults, &f)
	}
}

// Count returns how many calls of ops there were since New.
func (c *Catalog) Count(ops Op) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for op, k := range c.counts {
		if op&ops != 0 {
			n += k
		}
	}
	return n
}

// Fired returns how many calls faults have failed since New.
func (c *Catalog) Fired() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fired
}

// do runs one call with its faults.
func (c *Catalog) do(op Op, call func() error) error {
	fault := c.next(op)
	if fault != nil && !fault.After {
		return fault.Err
	}
	// An error of the call itself is the truer answer.
	if err := call(); err != nil {
		return err
	}
	if fault != nil {
		return fault.Err
	}
	return nil
}

func (c *Catalog) next(op Op) *Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[op]++
	var hit *Fault
	for _, f := range c.faults {
		if f.Ops&op == 0 {
			continue
		}
		f.seen++
		if hit == nil && (f.seen == f.N || f.seen > f.N && f.Sticky) {
			hit = f
			c.fired++
		}
	}
	return hit
}

// Register implements catalog.Catalog.
func (c *Catalog) Register(ctx context.Context, r catalog.Registration) error {
	return c.do(Register, func() error { return c.Catalog.Register(ctx, r) })
}

// Swap implements catalog.Catalog.
func (c *Catalog) Swap(ctx context.Context, in []string, out []catalog.Block, deleteAfter time.Time) error {
	return c.do(Swap, func() error { return c.Catalog.Swap(ctx, in, out, deleteAfter) })
}

// Forget implements catalog.Catalog.
func (c *Catalog) Forget(ctx context.Context, names []string) error {
	return c.do(Forget, func() error { return c.Catalog.Forget(ctx, names) })
}

// Blocks implements catalog.Catalog.
func (c *Catalog) Blocks(ctx context.Context, f catalog.BlockFilter) (bs []catalog.Block, err error) {
	err = c.do(Blocks, func() error { bs, err = c.Catalog.Blocks(ctx, f); return err })
	if err != nil {
		bs = nil
	}
	return bs, err
}

// Garbage implements catalog.Catalog.
func (c *Catalog) Garbage(ctx context.Context, limit int) (names []string, err error) {
	err = c.do(Garbage, func() error { names, err = c.Catalog.Garbage(ctx, limit); return err })
	if err != nil {
		names = nil
	}
	return names, err
}

// Acquire implements catalog.Catalog.
func (c *Catalog) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (ok bool, err error) {
	err = c.do(Acquire, func() error { ok, err = c.Catalog.Acquire(ctx, name, holder, ttl); return err })
	return ok && err == nil, err
}
