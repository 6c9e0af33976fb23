// Package rungroup runs the parts of a daemon and stops them together.
//
// Invariant: when Run returns, every actor has returned. When the first actor returns, for whatever reason, the others are stopped, in the
// order in which they were added: an actor's context ends only once those added before it have returned. So what takes work in
// (listeners) is added first and what work is handed to (the store) last, and nothing is stopped while something still uses it.
//
// A Group is filled and run by one goroutine. The package imports only the standard library.
package rungroup

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Group is a list of actors. The zero value is empty and ready.
type Group struct{ actors []actor }

type actor struct {
	name string
	run  func(ctx context.Context) error
}

// Add appends an actor. run works until ctx ends and then returns within a time of its own choosing; what it returns after that is an error only
// if it is not ctx's. An actor that returns nil of itself ends the group without an error.
func (g *Group) Add(name string, run func(ctx context.Context) error) {
	g.actors = append(g.actors, actor{name, run})
}

// PanicError is an actor's panic.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Run starts all actors and waits for the first to return or for ctx to end. Then it stops the others, in the order of Add, and returns once all have
// returned. The error is the first actor's, joined with those that failed while they were stopped; each names its actor. The end of ctx is no
// error. A panic in an actor is an error like others, so that the others still stop in good order.
func (g *Group) Run(ctx context.Context) error {
	if len(g.actors) == 0 {
		return nil
	}
	type result struct {
		i   int
		err error
	}
	results := make(chan result, len(g.actors))
	cancels := make([]context.CancelFunc, len(g.actors))
	done := make([]bool, len(g.actors))
	for i, a := range g.actors {
		// Not a child of ctx: its end would stop all of them at once.
		actorCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		cancels[i] = cancel
		go func() { results <- result{i, a.call(actorCtx)} }()
	}

	var errs []error
	take := func(r result) {
		done[r.i] = true
		if r.err != nil && !errors.Is(r.err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", g.actors[r.i].name, r.err))
		}
	}
	select {
	case r := <-results:
		take(r)
	case <-ctx.Done():
	}
	for i := range g.actors {
		cancels[i]()
		for !done[i] {
			take(<-results)
		}
	}
	return errors.Join(errs...)
}

func (a actor) call(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return a.run(ctx)
}
