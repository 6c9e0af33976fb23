package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// repeatAfter is how long the agent is silent about a collector that it cannot reach, once it has said so.
const repeatAfter = 10 * time.Minute

// say logs a message once for each key.
func (a *Agent) say(key, msg string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sayLocked(key, msg, args...)
}

func (a *Agent) sayLocked(key, msg string, args ...any) {
	if a.said[key] || len(a.said) > 100 {
		return
	}
	a.said[key] = true
	a.log(slog.LevelWarn, msg, args...)
}

// log survives a logger that panics: it is the program's code, called from the agent's goroutine.
func (a *Agent) log(level slog.Level, msg string, args ...any) {
	defer func() { _ = recover() }()
	a.cfg.Logger.Log(context.Background(), level, msg, args...)
}

// sayDown notes that a window could not be sent and will be tried again.
func (a *Agent) sayDown(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.downSince.IsZero() {
		a.downSince = now
	}
	if a.closingNow() || now.Sub(a.downSaid) < repeatAfter {
		return
	}
	a.downSaid = now
	a.log(slog.LevelWarn, "sonde agent: cannot send; will try again", "url", a.cfg.URL, "err", err)
}

// sayLeft notes that Close left windows behind, unless it is known that the collector cannot be reached.
func (a *Agent) sayLeft(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.downSaid.IsZero() {
		a.log(slog.LevelWarn, "sonde agent: windows lost", "url", a.cfg.URL, "err", err)
	}
}

func (a *Agent) closingNow() bool { return isClosed(a.closing) }

// sayUp notes that a window was accepted.
func (a *Agent) sayUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.downSince.IsZero() && a.downSaid.After(a.downSince.Add(-time.Second)) {
		a.log(slog.LevelInfo, "sonde agent: sending again", "url", a.cfg.URL, "after", time.Since(a.downSince).Round(time.Second))
	}
	a.downSince = time.Time{}
}

// closeDeadline is a context that has no deadline until Close sets one.
type closeDeadline struct {
	context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	at     time.Time
}

func newCloseDeadline() *closeDeadline {
	ctx, cancel := context.WithCancel(context.Background())
	return &closeDeadline{Context: ctx, cancel: cancel}
}

func (d *closeDeadline) set(at time.Time) {
	d.mu.Lock()
	d.at = at
	d.mu.Unlock()
}

// Deadline returns when Close gives up, once it was called.
func (d *closeDeadline) Deadline() (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at, !d.at.IsZero()
}
