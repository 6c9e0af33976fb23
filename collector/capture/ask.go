package capture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
)

// Request asks for a capture of one process, or of all, of those that it selects.
type Request struct {
	Service  string
	Instance string
	Matchers []*labels.Matcher
	Kind     string
	Duration time.Duration // 0: of a lasting kind its default
	All      bool          // all processes, as many at once as may be; else one of them, at random
	Shadow   bool          // only say what would be done
	Reason   string        // in words, for the list
}

// Asked is the answer to a Request.
type Asked struct {
	Request  string            // shared by the captures
	Captures []catalog.Capture // one, or of each process one
	Known    int               // processes that the request selects
	Reached  int               // of them, that can be asked
}

// recent is how long ago a process may have been seen last to count as running.
const recent = 10 * time.Minute

// maxSelected bounds the processes that one request looks at.
const maxSelected = 20_000

// Ask queues captures. The error is ErrNobody where no process is reached, ErrInvalid where the request makes no sense, or a *LimitError.
func (b *Broker) Ask(ctx context.Context, r Request) (*Asked, error) {
	if err := r.normalize(); err != nil {
		return nil, err
	}
	out := &Asked{Request: newID(b.cfg.Now())}
	ps, known, err := b.candidates(ctx, &r)
	out.Known, out.Reached = known, len(ps)
	if r.Instance == "" { // one that is named is asked, so that it says itself what it can
		ps = slices.DeleteFunc(ps, func(p catalog.Process) bool { return !able(p.Gatherer, r.Kind) })
	}
	switch {
	case err != nil:
		return nil, err
	case known == 0:
		return nil, fmt.Errorf("%w: no running process is selected", ErrNobody)
	case len(ps) == 0 && out.Reached > 0:
		return nil, fmt.Errorf("%w: of %d that are selected %d can be asked, and none of these gives a capture of kind %s as it is gathered now", ErrNobody, known, out.Reached, r.Kind)
	case len(ps) == 0:
		return nil, fmt.Errorf("%w: of %d that are selected none can be asked now: neither an agent nor a gatherer of theirs waits for tasks", ErrNobody, known)
	}
	if !r.All {
		ps = []catalog.Process{b.pick(ps)}
	}
	for _, p := range ps {
		out.Captures = append(out.Captures, b.newCapture(&r, p, out.Request, 1))
	}
	if err := b.enqueue(ctx, &r, out.Captures); err != nil {
		return nil, err
	}
	return out, nil
}

func (r *Request) normalize() error {
	switch {
	case !ValidKind(r.Kind):
		return fmt.Errorf("%w: kind %.64q is none of %v", ErrInvalid, r.Kind, Kinds)
	case r.Duration < 0 || r.Duration > maxDuration:
		return fmt.Errorf("%w: a duration of %v is not within 0 and %v", ErrInvalid, r.Duration, maxDuration)
	case r.Duration > 0 && r.Duration < time.Second:
		return fmt.Errorf("%w: a duration of %v: pprof counts in whole seconds", ErrInvalid, r.Duration)
	case r.Duration == 0 && r.Kind == Trace:
		r.Duration = traceDuration
	case r.Duration == 0 && Lasting(r.Kind):
		r.Duration = defaultDuration
	}
	r.Reason = truncate(r.Reason, maxError)
	return nil
}

// candidates returns the running processes that r selects and that are reached, and how many it selects.
func (b *Broker) candidates(ctx context.Context, r *Request) (ps []catalog.Process, known int, err error) {
	all, err := b.cfg.Catalog.Processes(ctx, catalog.ProcessFilter{Instance: r.Instance, Service: r.Service, Since: b.cfg.Now().Add(-recent).UnixMilli(), Limit: maxSelected})
	if err != nil {
		return nil, 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	for _, p := range all {
		if p.State == "exited" || p.State == "crashed" || p.State == "lost" || !Selects(r.Matchers, p) {
			continue
		}
		known++
		if at, ok := b.polled[p.Instance]; ok && now.Sub(at) <= reachedFor || b.waiters[p.Instance] != nil || b.busy[p.Instance] > 0 {
			ps = append(ps, p)
		}
	}
	return ps, known, nil
}

// able reports whether a process that is gathered so can be expected to give a capture of that kind.
func able(gatherer, kind string) bool {
	switch gatherer {
	case "agent":
		return kind != OffCPU
	case "scrape":
		return kind != OffCPU && kind != Wall && kind != Flight
	case "gops":
		return slices.Contains([]string{CPU, Heap, Goroutines, Trace}, kind)
	case "perf": // the CPU from the kernel, the rest out of the process's memory
		return slices.Contains([]string{CPU, OffCPU, Heap, Goroutine, Goroutines, Mutex, Block}, kind)
	}
	return true
}

// pick chooses one process at random, of those whose executors wait at this moment and that are not busy, if there are such.
func (b *Broker) pick(ps []catalog.Process) catalog.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ready []catalog.Process
	for _, p := range ps {
		if b.waiters[p.Instance] != nil && b.busy[p.Instance] == 0 {
			ready = append(ready, p)
		}
	}
	if len(ready) > 0 {
		ps = ready
	}
	return ps[rand.IntN(len(ps))]
}

func (b *Broker) newCapture(r *Request, p catalog.Process, request string, attempt int) catalog.Capture {
	now := b.cfg.Now()
	c := catalog.Capture{ID: newID(now), Request: request, Kind: r.Kind, Service: p.Service, Instance: p.Instance, Build: p.BuildID, Host: p.Host, Reason: r.Reason,
		State: catalog.CaptureAsked, Attempt: attempt, Created: now.UnixMilli(), Duration: r.Duration.Milliseconds()}
	switch {
	case r.All:
		c.Spread = "all"
	case r.Instance == "":
		c.Spread = "one"
	}
	return c
}

// enqueue stores captures and lets them wait for their turn.
func (b *Broker) enqueue(ctx context.Context, r *Request, cs []catalog.Capture) error {
	now := b.cfg.Now()
	if r.Shadow {
		for i := range cs {
			cs[i].State, cs[i].Finished = catalog.CaptureShadow, now.UnixMilli()
			b.met.ended.WithLabelValues(cs[i].Kind, cs[i].State).Inc()
		}
		return b.cfg.Catalog.PutCaptures(ctx, cs)
	}
	b.mu.Lock()
	n := len(b.queue) + len(cs)
	b.mu.Unlock()
	if n > maxWaiting {
		b.met.refused.WithLabelValues("max_waiting_captures").Inc()
		return &LimitError{Limit: "max_waiting_captures", Max: maxWaiting, Got: int64(n)}
	}
	if err := b.cfg.Catalog.PutCaptures(ctx, cs); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range cs {
		e := &entry{c: c, request: r}
		b.tasks[c.ID] = e
		b.queue = append(b.queue, e)
	}
	b.dispatch(now)
	return nil
}

// again asks another process for what one of those selected did not deliver.
func (b *Broker) again(ctx context.Context, r *Request, c catalog.Capture) {
	if r == nil || c.Spread != "one" || c.Attempt >= maxAttempts || ctx.Err() != nil {
		return
	}
	before, err := b.cfg.Catalog.Captures(ctx, catalog.CaptureFilter{Request: c.Request})
	if err != nil {
		b.log.Error("cannot ask another process", "request", c.Request, "error", err)
		return
	}
	ps, _, err := b.candidates(ctx, r)
	ps = slices.DeleteFunc(ps, func(p catalog.Process) bool {
		return !able(p.Gatherer, c.Kind) || slices.ContainsFunc(before, func(c catalog.Capture) bool { return c.Instance == p.Instance })
	})
	if err != nil || len(ps) == 0 {
		return
	}
	next := b.newCapture(r, b.pick(ps), c.Request, c.Attempt+1)
	if err := b.enqueue(ctx, r, []catalog.Capture{next}); err != nil {
		b.log.Error("cannot ask another process", "request", c.Request, "error", err)
	}
}

// Cancel ends a capture that waits. One that runs is left to its executor.
func (b *Broker) Cancel(ctx context.Context, id string) error {
	var c catalog.Capture
	b.mu.Lock()
	if e := b.tasks[id]; e != nil {
		c = e.c
	}
	b.mu.Unlock()
	if c.State != catalog.CaptureAsked {
		return fmt.Errorf("capture %.64s: %w", id, ErrUnknown)
	}
	c.State, c.Error, c.Attempt = catalog.CaptureFailed, "cancelled", maxAttempts
	return b.finish(ctx, c)
}
