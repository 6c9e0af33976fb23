package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
	"github.com/sonde-io/sonde/agent/internal/offheap"
	"github.com/sonde-io/sonde/agent/internal/pprofenc"
)

// The kinds of capture. What is not in spans is taken in a moment.
var (
	kinds = []string{"cpu", "heap", "allocs", "goroutine", "mutex", "block", "threadcreate", "wall", "goroutines", "trace", "flight"}
	spans = []string{"cpu", "wall", "trace"}
)

// The bounds of a capture.
const (
	defaultCapture = 10 * time.Second
	maxCapture     = 10 * time.Minute
	maxCaptureSize = 64 << 20
	dumpBytes      = 8 << 20 // of a text of all goroutines
)

// captured is a capture's content: a stream that can be read once, or data and what stands after it.
type captured struct {
	text   bool
	stream io.ReadCloser
	data   []byte
	tail   string
	memory *offheap.Slice[byte] // that data lies in
	from   time.Time            // what it covers
	to     time.Time            // zero: until it is sent

	mu   sync.Mutex
	gone bool // memory was given back
}

// reader returns the content from its start.
func (c *captured) reader() io.Reader {
	if c.stream != nil {
		return c.stream
	}
	return io.MultiReader(&guarded{c: c, rest: c.data}, strings.NewReader(c.tail))
}

// done ends the stream and gives the memory back.
func (c *captured) done() {
	if c.stream != nil {
		_ = c.stream.Close() // a trace's: it cannot fail
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone = true; c.memory != nil {
		c.memory.Release()
	}
}

// guarded reads a capture's data. A transport may read a request's body even after its answer came, when the memory is not mapped any more.
type guarded struct {
	c    *captured
	rest []byte
}

func (g *guarded) Read(p []byte) (int, error) {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	if g.c.gone {
		return 0, io.ErrClosedPipe
	}
	if len(g.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

// errPaused says that Pause stopped everything, or does so now.
var errPaused = errors.New("the agent is paused")

// capture takes one capture. It returns early when stopping is closed: a profile over a span is then what there is so far.
func (t *taker) capture(ctx context.Context, kind string, d time.Duration, limit int64) (*captured, error) {
	if limit <= 0 || limit > maxCaptureSize {
		limit = maxCaptureSize
	}
	delta := d > 0
	if d <= 0 {
		d = defaultCapture
	}
	d = min(d, maxCapture)
	t.begin()
	if t.a.rec.off() {
		return nil, errPaused
	}
	if t.a.privacy.redacts() && (kind == "trace" || kind == "flight") {
		return nil, errors.New("Config.Redact is set, and the texts in an execution trace cannot be redacted")
	}
	from := time.Now()
	var c *captured
	var err error
	switch kind {
	case "cpu":
		c, err = t.captureCPU(d)
	case "wall":
		c, err = t.captureWall(d)
	case "goroutines":
		c, err = t.captureDump(limit)
	case "flight":
		c, err = t.captureFlight(limit)
	case "trace":
		var s *traceStream
		if s, err = startTrace(ctx, t.stopping, d, limit); err == nil {
			t.halting(s.giveUp)
			if t.a.rec.off() {
				t.pause()
			}
			return &captured{stream: s, from: from}, nil
		}
	default:
		var data []byte
		if _, counts := deltas[kind]; counts && delta {
			data, err = t.captureDelta(kind, d)
		} else {
			data, err = t.a.rec.snapshot(kind)
		}
		if err == nil {
			c = &captured{data: data}
		}
	}
	if err != nil {
		return nil, err
	}
	if int64(len(c.data)) > limit {
		c.done()
		return nil, fmt.Errorf("%d bytes, more than max_bytes %d", len(c.data), limit)
	}
	if c.from.IsZero() {
		c.from = from
	}
	c.to = time.Now()
	return c, nil
}

// captureCPU takes the next d out of the profile that the agent and the program share.
func (t *taker) captureCPU(d time.Duration) (*captured, error) {
	tap, err := cpu.open()
	if err != nil {
		return nil, err
	}
	t.halting(func() { cpu.close(tap) })
	if t.a.rec.off() { // Pause came between
		t.pause()
	}
	t.wait(d)
	piece := cpu.close(tap)
	if t.halting(nil); t.isHalted() {
		return nil, errPaused
	}
	data, err := piece.profile()
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, errBusy
	}
	if data, err = t.scrub.scrub(data); err != nil {
		return nil, err
	}
	return &captured{data: data}, nil
}

// cumulative is a profile that the runtime counts up from the program's start.
type cumulative interface {
	Baseline() error
	Capture(b *pprofenc.Builder, w io.Writer, start, end time.Time) (int, error)
	Release()
}

// deltas makes the profiles that can be taken of a span: what was counted in it. What is in use is so at its end.
var deltas = map[string]func(*offheap.Account) cumulative{
	"heap": func(a *offheap.Account) cumulative { return pprofenc.NewHeap(a) },
	"allocs": func(a *offheap.Account) cumulative {
		h := pprofenc.NewHeap(a)
		h.Default = "alloc_space"
		return h
	},
	"mutex": func(a *offheap.Account) cumulative { return pprofenc.NewMutex(a) },
	"block": func(a *offheap.Account) cumulative { return pprofenc.NewBlock(a) },
}

// captureDelta takes what a cumulative profile counts within d, beside the windows' own.
func (t *taker) captureDelta(kind string, d time.Duration) ([]byte, error) {
	r := t.a.rec
	r.mu.Lock()
	p, start := deltas[kind](r.acct), time.Now()
	err := p.Baseline()
	r.mu.Unlock()
	if err == nil {
		t.wait(d)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer p.Release()
	if err != nil {
		return nil, err
	}
	if r.paused {
		return nil, errPaused
	}
	defer r.enc.Rest()
	var buf bytes.Buffer
	n, err := p.Capture(r.enc, &buf, start, time.Now())
	if err == nil && n == 0 {
		err = errNothing
	}
	return buf.Bytes(), err
}

// errNothing says that a profile has no sample.
var errNothing = errors.New("nothing was recorded: the program sets no rate (Config.MutexFraction, Config.BlockRate), or nothing waited")

// wallRest is how many times what a sample costs passes between two samples of a capture of kind wall: at most a twentieth of a core.
const wallRest = 20

// captureWall samples goroutines for d, ten times a second where a sample takes less than 5 ms.
func (t *taker) captureWall(d time.Duration) (*captured, error) {
	r := t.a.rec
	w := newWall(r.acct)
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		w.Release()
	}()
	start := time.Now()
	last := start
	for end := start.Add(d); ; {
		now := time.Now()
		if !now.Before(end) || isClosed(t.stopping) {
			break
		}
		if r.off() {
			return nil, errPaused
		}
		r.mu.Lock()
		began := cputime.Thread()
		_, err := w.Sample(now.Sub(last), t.a.cfg.MaxGoroutines)
		cost := cputime.Thread() - began
		r.mu.Unlock()
		if err != nil {
			return nil, err
		}
		last = now
		t.wait(min(jittered(max(wallEvery, wallRest*cost)), end.Sub(now)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out bytes.Buffer
	n, err := w.Capture(r.enc, &out, start, last)
	r.enc.Rest()
	if err == nil && n == 0 {
		err = errors.New("no goroutine was sampled")
	}
	return &captured{data: out.Bytes()}, err
}

// captureDump writes the text of all goroutines, for which the program stands still. That is why nothing but a request takes it, and how long it was stands at
// the end of the text.
func (t *taker) captureDump(limit int64) (*captured, error) {
	n := runtime.NumGoroutine()
	if most := t.a.cfg.MaxGoroutines; n > most {
		return nil, fmt.Errorf("%d goroutines, more than MaxGoroutines %d: the program would stand still for some %v", n, most, time.Duration(n)*50*time.Microsecond)
	}
	const note = 256 // room for the last line
	room, err := offheap.Make[byte](nil, int(min(max(limit-note, 1), dumpBytes)))
	if err != nil {
		return nil, err
	}
	buf := room.All()
	began := time.Now()
	size := runtime.Stack(buf, true)
	took := time.Since(began)
	text := t.a.privacy.lines(buf[:size])
	last := "\n\nsonde agent: the program stood still for " + took.Round(10*time.Microsecond).String() + " while " + strconv.Itoa(n) + " goroutines were written"
	if size == len(buf) {
		last += "; cut at " + strconv.Itoa(size) + " bytes"
	}
	last += "\n"
	return &captured{text: true, data: text, tail: last, memory: &room}, nil
}

func (t *taker) captureFlight(limit int64) (*captured, error) {
	room, n, err := t.a.captureFlight(limit)
	if err != nil {
		return nil, err
	}
	return &captured{data: room.All()[:n], memory: room, from: time.Now().Add(-flightAge)}, nil
}

// off reports whether Pause or Close stopped everything.
func (r *recorder) off() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.paused
}

// snapshot takes a capture of a moment: what the program did since its start, or where it is now.
func (r *recorder) snapshot(kind string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("the agent is closed")
	}
	return r.snapshotLocked(kind)
}

func (r *recorder) snapshotLocked(kind string) ([]byte, error) {
	var buf bytes.Buffer
	var err error
	now := time.Now()
	defer r.enc.Rest()
	switch kind {
	case "heap", "allocs":
		if runtime.MemProfileRate == 0 {
			return nil, errors.New("runtime.MemProfileRate is 0")
		}
		def := "inuse_space"
		if kind == "allocs" {
			def = "alloc_space"
		}
		_, err = r.heap.Snapshot(r.enc, &buf, def, now, now)
	case "mutex", "block":
		var samples int
		if samples, err = r.locks[Type(kind)].Snapshot(r.enc, &buf, now, now); err == nil && samples == 0 {
			err = errNothing
		}
	case "goroutine":
		if n := runtime.NumGoroutine(); n > r.a.cfg.MaxGoroutines {
			return nil, fmt.Errorf("%d goroutines, more than MaxGoroutines %d", n, r.a.cfg.MaxGoroutines)
		}
		err = pprof.Lookup("goroutine").WriteTo(&buf, 0)
	case "threadcreate":
		err = pprof.Lookup("threadcreate").WriteTo(&buf, 0)
	default:
		return nil, fmt.Errorf("kind %q: want one of %v", kind, kinds)
	}
	if err != nil {
		return nil, err
	}
	if kind == "goroutine" {
		return r.scrub.scrub(buf.Bytes())
	}
	return buf.Bytes(), nil
}

// momentary reports whether a capture of the kind is taken in a moment.
func momentary(kind string) bool { return !slices.Contains(spans, kind) }
