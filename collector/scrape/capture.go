package scrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	captures "github.com/sonde-io/sonde/collector/capture"
)

// errInterrupted says that a capture on demand has taken the place of the loop's own CPU profile.
var errInterrupted = errors.New("a capture on demand took its place")

// Kinds of captures that targets can be asked for.
var (
	httpKinds = []string{captures.CPU, captures.Heap, captures.Allocs, captures.Goroutine, captures.Mutex, captures.Block, captures.ThreadCreate, captures.Goroutines, captures.Trace}
	gopsKinds = []string{captures.CPU, captures.Heap, captures.Goroutines, captures.Trace}
)

var _ captures.Executor = (*Manager)(nil)

// Instances implements captures.Executor: the targets that are scraped.
func (m *Manager) Instances() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]string, 0, len(m.loops))
	for _, l := range m.loops {
		out = append(out, l.t.Instance)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Capture implements captures.Executor. It asks the target as the scraper does: never two things at once. A CPU profile of the scraper's own that runs is broken off; one that
// somebody else takes is not.
func (m *Manager) Capture(ctx context.Context, t captures.Task) (string, io.ReadCloser, error) {
	var l *loop
	m.mu.Lock()
	for _, x := range m.loops {
		if x.t.Instance == t.Instance {
			l = x
		}
	}
	m.mu.Unlock()
	if l == nil {
		return "", nil, fmt.Errorf("process %.64s is not scraped any more", t.Instance)
	}
	kinds := httpKinds
	if l.t.GopsAddr != "" {
		kinds = gopsKinds
	}
	if !slices.Contains(kinds, t.Kind) {
		return "", nil, fmt.Errorf("%w: %s gives %v", captures.ErrKind, l.t.redacted(), kinds)
	}
	interrupted, err := l.take(ctx)
	if err != nil {
		return "", nil, err
	}
	body, err := l.capture(ctx, t, interrupted)
	if err != nil {
		<-l.asking
		return "", nil, inWords(t, err)
	}
	return captures.ContentType(t.Kind), body, nil
}

// interruptible returns the context of a CPU profile of the loop's own, which a capture may end. done is called when the profile is there.
func (l *loop) interruptible(ctx context.Context) (_ context.Context, done func()) {
	if l.t.GopsAddr != "" {
		return ctx, func() {} // the agent would go on with it, and answer nobody meanwhile
	}
	ctx, cancel := context.WithCancelCause(ctx)
	cut := context.CancelFunc(func() { cancel(errInterrupted) })
	l.cut.Store(&cut)
	return ctx, func() {
		l.cut.Store(nil)
		cancel(nil)
	}
}

// take waits for its turn to ask the target. interrupted is true where a CPU profile was broken off for it: the target may take a moment to notice.
func (l *loop) take(ctx context.Context) (interrupted bool, err error) {
	poll := time.NewTicker(20 * time.Millisecond) // what runs may be followed by a CPU profile at once
	defer poll.Stop()
	for {
		if cut := l.cut.Load(); cut != nil {
			(*cut)()
			interrupted = true
		}
		select {
		case l.asking <- struct{}{}:
			return interrupted, nil
		case <-poll.C:
		case <-ctx.Done():
			return interrupted, fmt.Errorf("the target is busy with the scraper's last request: %w", context.Cause(ctx))
		}
	}
}

// notices is how long a target may take to end a CPU profile that was broken off.
const notices = 3 * time.Second

// capture asks the target. The loop's turn is held until the body is closed.
func (l *loop) capture(ctx context.Context, t captures.Task, interrupted bool) (io.ReadCloser, error) {
	wait := l.m.cfg.Timeout + t.Duration()
	if l.t.GopsAddr != "" {
		body, err := l.m.fetch.gops(ctx, &l.t, t.Kind)
		return &held{Reader: bytes.NewReader(body), release: func() { <-l.asking }}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait+notices, fmt.Errorf("no whole answer within %v", wait))
	path, until := capturePath(t), time.Now().Add(notices)
	body, err := l.m.fetch.open(ctx, &l.t, path)
	for interrupted && errors.Is(err, errRival) && time.Now().Before(until) && sleep(ctx, 100*time.Millisecond) {
		body, err = l.m.fetch.open(ctx, &l.t, path)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &held{Reader: body, release: func() {
		body.Close()
		cancel()
		<-l.asking
	}}, nil
}

// capturePath is what net/http/pprof calls what is wanted.
func capturePath(t captures.Task) string {
	seconds := strconv.Itoa(max(1, int(t.Duration().Round(time.Second)/time.Second)))
	switch {
	case t.Kind == captures.CPU:
		return "/profile?seconds=" + seconds
	case t.Kind == captures.Trace:
		return "/trace?seconds=" + seconds
	case t.Kind == captures.Goroutines:
		return "/goroutine?debug=2"
	case t.DurationMs > 0: // the difference over this time
		return "/" + t.Kind + "?seconds=" + seconds
	}
	return "/" + t.Kind
}

// inWords says what whoever asked can do about it.
func inWords(t captures.Task, err error) error {
	switch {
	case errors.Is(err, errRival):
		return fmt.Errorf("%w, and a process has room for one; it is left alone", err)
	case errors.Is(err, errNotServed):
		return fmt.Errorf("%w: its server does not answer at %s", captures.ErrKind, capturePath(t))
	case errors.Is(err, errTooLong):
		return fmt.Errorf("%w: its WriteTimeout is shorter than %v; ask for less time", err, t.Duration())
	}
	return err
}

// held is a body that ends a turn when it is closed, once.
type held struct {
	io.Reader
	release func()
}

// Close ends the turn.
func (h *held) Close() error {
	if h.release != nil {
		h.release()
		h.release = nil
	}
	return nil
}
