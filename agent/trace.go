package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/trace"
	"sync"
	"time"

	"github.com/sonde-io/sonde/agent/internal/offheap"
)

// The bounds of execution traces.
const (
	flightAge   = 10 * time.Second
	flightBytes = 8 << 20  // of the runtime's memory, about
	flightMost  = 32 << 20 // of a window as it is written
	traceQueue  = 4 << 20  // that was recorded and not sent yet
	traceSlack  = 8 << 20  // that the runtime may still write while it is stopped
)

// startFlight starts the flight recorder where Config wants one; stopFlight stops it. They may be called twice.
func (a *Agent) startFlight() {
	a.flightMu.Lock()
	defer a.flightMu.Unlock()
	if !a.cfg.FlightRecorder || a.flight != nil {
		return
	}
	f, err := newFlight()
	if err != nil {
		a.say("flight", "sonde agent: no flight recorder", "err", err)
		return
	}
	a.flight = f
}

func (a *Agent) stopFlight() {
	a.flightMu.Lock()
	defer a.flightMu.Unlock()
	if a.flight != nil {
		a.flight.stop()
		a.flight = nil
	}
}

// captureFlight writes the flight recorder's window into memory outside the heap, which the caller releases.
func (a *Agent) captureFlight(limit int64) (*offheap.Slice[byte], int, error) {
	a.flightMu.Lock()
	defer a.flightMu.Unlock()
	if a.flight == nil {
		return nil, 0, errors.New("the flight recorder is off: Config.FlightRecorder or SONDE_FLIGHT_RECORDER=1 turns it on")
	}
	room, err := offheap.Make[byte](nil, int(min(limit, flightMost)))
	if err != nil {
		return nil, 0, err
	}
	w := &fixedWriter{to: room.All()}
	if err := a.flight.writeTo(w); err != nil {
		room.Release()
		return nil, 0, fmt.Errorf("write the flight recorder's window: %w", err)
	}
	return &room, w.n, nil
}

// fixedWriter writes into to and fails where it is full.
type fixedWriter struct {
	to []byte
	n  int
}

func (w *fixedWriter) Write(p []byte) (int, error) {
	n := copy(w.to[w.n:], p)
	w.n += n
	if n < len(p) {
		return n, fmt.Errorf("more than max_bytes %d", len(w.to))
	}
	return n, nil
}

// traceStream is an execution trace while it is taken. The runtime writes to it and never waits; a request's body reads from it. Reading is what ends it:
// after its time, once it holds all it may, or when ctx ends.
type traceStream struct {
	ctx     context.Context
	stop    <-chan struct{} // Close: the trace ends here and is whole
	limit   int64
	timer   *time.Timer
	more    chan struct{}
	full    chan struct{}
	once    sync.Once
	mu      sync.Mutex
	chunks  [][]byte
	waiting int   // bytes in chunks
	total   int64 // bytes written so far
	filled  bool  // full is closed
	over    bool  // the trace is over: no more is written
	err     error
}

// startTrace begins an execution trace of d that ends early at limit bytes. It fails where the program traces itself.
func startTrace(ctx context.Context, stop <-chan struct{}, d time.Duration, limit int64) (*traceStream, error) {
	s := &traceStream{ctx: ctx, stop: stop, limit: limit, more: make(chan struct{}, 1), full: make(chan struct{})}
	if err := trace.Start(s); err != nil {
		return nil, fmt.Errorf("the program traces itself, and is left alone: %w", err)
	}
	s.timer = time.NewTimer(d)
	return s, nil
}

// Write takes what the runtime recorded.
func (s *traceStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += int64(len(p))
	s.waiting += len(p)
	if s.total > s.limit+traceSlack || s.waiting > traceQueue+traceSlack {
		s.err = fmt.Errorf("trace: %d bytes, %d not sent yet: more than fits", s.total, s.waiting)
		s.chunks = nil
	} else {
		s.chunks = append(s.chunks, append([]byte(nil), p...))
	}
	if !s.filled && (s.total >= s.limit || s.waiting >= traceQueue) {
		s.filled = true
		close(s.full)
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// Read hands out what was recorded, and ends the trace when it is time.
func (s *traceStream) Read(p []byte) (int, error) {
	for {
		n, err := s.pop(p)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-s.more:
		case <-s.timer.C:
			s.end()
		case <-s.full:
			s.end()
		case <-s.stop:
			s.end()
		case <-s.ctx.Done():
			s.end()
			return 0, s.ctx.Err()
		}
	}
}

func (s *traceStream) pop(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, s.err
	case len(s.chunks) > 0:
		n := copy(p, s.chunks[0])
		s.waiting -= n
		if s.chunks[0] = s.chunks[0][n:]; len(s.chunks[0]) == 0 {
			s.chunks = s.chunks[1:]
		}
		return n, nil
	case s.over:
		return 0, io.EOF
	}
	return 0, nil
}

// end stops the trace and waits for the rest of it. It may be called twice, and by two goroutines at once.
func (s *traceStream) end() {
	s.once.Do(func() {
		trace.Stop()
		s.timer.Stop()
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
	})
}

// giveUp ends the trace for Pause.
func (s *traceStream) giveUp() {
	s.mu.Lock()
	s.err = errPaused // before the end, which would look like that of a whole trace
	s.mu.Unlock()
	s.end()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Close ends a trace that nobody reads any more.
func (s *traceStream) Close() error {
	s.end()
	return nil
}
