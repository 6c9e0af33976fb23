package capture

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// rate is a service's budget of starts: PerMinute of them at once, as many more in each minute.
type rate struct {
	tokens float64
	at     time.Time
}

// maxRates bounds the services whose budgets are kept; those that are full are forgotten first.
const maxRates = 4096

// spend takes one start from the service's budget, or n = 0 only looks. b.mu is held.
func (b *Broker) spend(service string, now time.Time, n float64) bool {
	most := float64(b.cfg.PerMinute)
	r := b.rates[service]
	if r == nil {
		if len(b.rates) >= maxRates {
			for s, r := range b.rates {
				if now.Sub(r.at) > time.Minute {
					delete(b.rates, s)
				}
			}
		}
		r = &rate{tokens: most, at: now}
		b.rates[service] = r
	}
	if d := now.Sub(r.at); d > 0 {
		r.tokens, r.at = min(most, r.tokens+d.Minutes()*most), now
	}
	if r.tokens < 1 {
		return false
	}
	r.tokens -= n
	return true
}

// startable reports whether e may start as far as limits go. b.mu is held.
func (b *Broker) startable(e *entry, now time.Time) bool {
	return b.room(e.c.Kind) == "" && b.busy[e.c.Instance] == 0 && b.spend(e.c.Service, now, 0)
}

// room returns the name of the limit that keeps a capture of that kind from starting, "" where none does. b.mu is held.
func (b *Broker) room(kind string) string {
	switch {
	case b.running >= b.cfg.MaxRunning:
		return "max_running_captures"
	case slices.Contains(expensive, kind) && b.kinds[kind] >= b.cfg.MaxExpensive:
		return "max_expensive_captures"
	}
	return ""
}

// dispatch gives tasks that may start to the polls that wait for them. b.mu is held.
func (b *Broker) dispatch(now time.Time) {
	if len(b.queue) == 0 {
		return
	}
	kept := b.queue[:0]
	for _, e := range b.queue {
		switch w := b.waiters[e.c.Instance]; {
		case !b.startable(e, now):
			e.free = time.Time{}
			kept = append(kept, e)
		case w == nil || len(w.given) >= maxHand:
			if e.free.IsZero() {
				e.free = now
			}
			kept = append(kept, e)
		default:
			b.spend(e.c.Service, now, 1)
			e.c.State = catalog.CaptureRunning
			// Long enough for what follows; the catalogue is told the right one before the executor is.
			e.c.Deadline = now.Add(time.Hour).UnixMilli()
			b.count(e, 1)
			if w.given = append(w.given, e); len(w.given) == 1 {
				close(w.ready)
			}
		}
	}
	clear(b.queue[len(kept):])
	b.queue = kept
}

// Next implements Source.
func (b *Broker) Next(ctx context.Context, instances []string, wait time.Duration) ([]Task, error) {
	w := &waiter{instances: instances, ready: make(chan struct{})}
	if err := b.wait(w); err != nil {
		return nil, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.ready:
	case <-timer.C:
	case <-ctx.Done():
	case <-b.stop:
	}
	given := b.leave(w)
	if ctx.Err() != nil {
		b.putBack(given)
		return nil, ctx.Err()
	}
	return b.start(ctx, given)
}

// wait enters a poll.
func (b *Broker) wait(w *waiter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosing
	}
	if b.polls >= maxPolls {
		b.met.refused.WithLabelValues("max_capture_polls").Inc()
		return &LimitError{Limit: "max_capture_polls", Max: maxPolls}
	}
	now := b.cfg.Now()
	b.polls++
	for _, i := range w.instances {
		b.polled[i], b.waiters[i] = now, w
	}
	b.dispatch(now)
	return nil
}

// leave ends a poll and returns what it was given.
func (b *Broker) leave(w *waiter) []*entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.polls--
	now := b.cfg.Now()
	for _, i := range w.instances {
		if b.waiters[i] == w {
			delete(b.waiters, i)
		}
		b.polled[i] = now
	}
	return w.given
}

// putBack lets captures wait again that nobody got.
func (b *Broker) putBack(given []*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range given {
		e.c.State, e.c.Deadline = catalog.CaptureAsked, 0
		b.count(e, -1)
	}
	b.queue = append(slices.Clone(given), b.queue...)
	b.dispatch(b.cfg.Now())
}

// start makes what a poll was given run, in the catalogue too, before the executor is told.
func (b *Broker) start(ctx context.Context, given []*entry) ([]Task, error) {
	var tasks []Task
	for i, e := range given {
		now := b.cfg.Now()
		deadline := now.Add(time.Duration(e.c.Duration)*time.Millisecond + taskSlack + deliverTime).UnixMilli()
		err := b.cfg.Catalog.StartCapture(ctx, e.c.ID, now.UnixMilli(), deadline)
		if errors.Is(err, catalog.ErrConflict) { // somebody else has ended it
			b.mu.Lock()
			b.forget(e)
			b.mu.Unlock()
			continue
		}
		if err != nil {
			b.putBack(given[i:])
			return tasks, err
		}
		b.mu.Lock()
		e.c.Started, e.c.Deadline = now.UnixMilli(), deadline
		b.mu.Unlock()
		b.met.start.Observe(now.Sub(time.UnixMilli(e.c.Created)).Seconds())
		tasks = append(tasks, Task{ID: e.c.ID, Instance: e.c.Instance, Kind: e.c.Kind, DurationMs: e.c.Duration, MaxBytes: maxBytes, Deadline: deadline})
	}
	return tasks, nil
}

// forget takes an entry out of what has not ended. b.mu is held.
func (b *Broker) forget(e *entry) {
	if b.tasks[e.c.ID] != e {
		return
	}
	delete(b.tasks, e.c.ID)
	if e.c.State == catalog.CaptureRunning {
		b.count(e, -1)
		return
	}
	b.queue = slices.DeleteFunc(b.queue, func(x *entry) bool { return x == e })
}
