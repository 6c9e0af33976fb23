package store

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// unreadableRetry is how long queries pass over a blob that could not be read before they try it again.
const unreadableRetry = 10 * time.Minute

// unreadableError says that a blob could not be read, or that what it holds is not what was written.
type unreadableError struct {
	blob string
	err  error
}

func (e *unreadableError) Error() string { return "read blob " + e.blob + ": " + e.err.Error() }
func (e *unreadableError) Unwrap() error { return e.err }

// unreadable makes an *unreadableError of what went wrong with a blob, unless it is about the query or about the machine: limits, the end of ctx, too many open files.
func unreadable(ctx context.Context, name string, err error) error {
	var limit *LimitError
	if err == nil || ctx.Err() != nil || errors.As(err, &limit) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) {
		return err
	}
	return &unreadableError{name, err}
}

// damaged knows which blobs queries could not read: one bad block costs what it held, and not the answer. Safe for concurrent use.
type damaged struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// has reports whether queries pass over the blob.
func (d *damaged) has(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.since[name]
	if ok && time.Since(at) > unreadableRetry {
		delete(d.since, name)
		ok = false
	}
	return ok
}

// note has queries pass over the blob, and reports whether that is news.
func (d *damaged) note(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since == nil {
		d.since = map[string]time.Time{}
	}
	_, known := d.since[name]
	d.since[name] = time.Now()
	return !known
}

// leaveOut has this query and those that follow go on without a blob.
func (s *Store) leaveOut(e *unreadableError) {
	if s.damaged.note(e.blob) {
		s.metrics.unreadable.Inc()
		s.log.Error("a block cannot be read: queries leave it out and say so in stats.unreadable; `sonde check` says more", "blob", e.blob, "err", e.err)
	}
	s.cache.drop(e.blob)
}
