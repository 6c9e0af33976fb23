package capture

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// Catalog is what a Broker needs of the catalogue; catalog.Catalog is one.
type Catalog interface {
	catalog.CaptureStore
	Process(ctx context.Context, instance string) (catalog.Process, error)
	Processes(ctx context.Context, f catalog.ProcessFilter) ([]catalog.Process, error)
	Build(ctx context.Context, id string) (catalog.Build, error)
	AddEvents(ctx context.Context, es []catalog.Event) error
}

// Config configures a Broker. Catalog and Blobs are required.
type Config struct {
	Catalog Catalog
	Blobs   blob.Store

	MaxRunning   int           // captures at once over the whole fleet; 0: 32
	MaxExpensive int           // of each kind that stops or slows a process (goroutines, trace, flight); 0: 4
	PerMinute    int           // captures of one service that start in a minute; 0: 60
	MaxAge       time.Duration // of a stored capture; 0: 30 days; negative: for ever
	MaxBytes     int64         // of all stored captures; 0: 2 GiB; negative: no limit
	Shadow       bool          // triggers only say what they would do

	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

const (
	maxWaiting = 10_000 // captures that wait for their turn
	maxPolls   = 50_000 // open polls
	maxRows    = 20_000 // captures in the catalogue
	maxHand    = 16     // tasks in one answer

	// untaken is how long a capture may wait for its process's executor once nothing else keeps it from starting.
	untaken = 20 * time.Second
	// maxAttempts is of how many processes a capture of one of a service is asked, one after the other.
	maxAttempts = 3
	// claimSlack is how long after it was granted a claim's captures may be delivered.
	claimSlack = 5 * time.Minute
	// orphanAge is how old a blob is that no row names when it is taken up: no delivery takes as long.
	orphanAge = 20 * time.Minute
)

// Broker is the collector's side of captures. Make one with New, let Run run, and Register it.
type Broker struct {
	cfg  Config
	log  *slog.Logger
	met  *metrics
	stop chan struct{} // closed when Run ends

	limit     int64         // bytes of one capture
	receiving chan struct{} // deliveries that are read at once
	checking  sync.Mutex    // one is checked at a time: it may take half a gigabyte

	mu      sync.Mutex
	closed  bool
	rules   map[string]Rule
	tasks   map[string]*entry // asked and running
	queue   []*entry          // asked, in their order
	running int
	kinds   map[string]int // running
	busy    map[string]int // running, by instance
	polled  map[string]time.Time
	waiters map[string]*waiter // by instance
	polls   int
	rates   map[string]*rate // by service
	claimed map[[3]string]catalog.CaptureClaim
}

// entry is a capture that has not ended.
type entry struct {
	c       catalog.Capture
	request *Request  // nil: after a restart, or of a trigger
	free    time.Time // since when only its executor is missing; zero: something else is
}

// waiter is one open poll.
type waiter struct {
	instances []string
	ready     chan struct{}
	given     []*entry
}

var _ Source = (*Broker)(nil)

// New returns a Broker that knows the captures which an earlier one did not end.
func New(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	def := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	def(&cfg.MaxRunning, 32)
	def(&cfg.MaxExpensive, 4)
	def(&cfg.PerMinute, 60)
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 30 * 24 * time.Hour
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 2 << 30
	}
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("make capture broker: %w", err)
	}
	b := &Broker{cfg: cfg, log: cfg.Logger, met: met, stop: make(chan struct{}), limit: maxBytes, receiving: make(chan struct{}, 4), rules: map[string]Rule{}, tasks: map[string]*entry{},
		kinds: map[string]int{}, busy: map[string]int{}, polled: map[string]time.Time{}, waiters: map[string]*waiter{}, rates: map[string]*rate{},
		claimed: map[[3]string]catalog.CaptureClaim{}}
	open, err := cfg.Catalog.Captures(ctx, catalog.CaptureFilter{States: []string{catalog.CaptureAsked, catalog.CaptureRunning}})
	if err != nil {
		return nil, fmt.Errorf("make capture broker: %w", err)
	}
	for i := len(open) - 1; i >= 0; i-- { // the oldest first
		e := &entry{c: open[i]}
		b.tasks[e.c.ID] = e
		if e.c.State == catalog.CaptureAsked {
			b.queue = append(b.queue, e)
		} else {
			b.count(e, 1)
		}
	}
	return b, nil
}

// SetRules tells the Broker the rules of triggers, for their cool-down and whether they are shadows. A trigger that it does not know rests for an hour.
func (b *Broker) SetRules(rules []Rule) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = map[string]Rule{}
	for _, r := range rules {
		b.rules[r.Name] = r
	}
}

// count notes that e begins (1) or ends (-1) to run. b.mu is held, or nobody else knows b.
func (b *Broker) count(e *entry, n int) {
	b.running += n
	b.kinds[e.c.Kind] += n
	if b.busy[e.c.Instance] += n; b.busy[e.c.Instance] <= 0 {
		delete(b.busy, e.c.Instance)
	}
}

// tick is how often what depends on time is looked at.
const tick = 500 * time.Millisecond

// Run gives up what is not delivered in time, and keeps what is stored within its bounds, until ctx ends. Then polls return at once and no new ones are taken; results are.
func (b *Broker) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	var kept time.Time
	for {
		if now := b.cfg.Now(); now.Sub(kept) >= time.Hour {
			kept = now
			b.retain(ctx)
		}
		b.expire(ctx)
		select {
		case <-ctx.Done():
			b.mu.Lock()
			b.closed = true
			b.mu.Unlock()
			close(b.stop)
			return nil
		case <-t.C:
		}
	}
}

// retain deletes captures that are too old or too many, and takes blobs up that no row names.
func (b *Broker) retain(ctx context.Context) {
	before := int64(0)
	if b.cfg.MaxAge > 0 {
		before = b.cfg.Now().Add(-b.cfg.MaxAge).UnixMilli()
	}
	n, problems, err := Adopt(ctx, b.cfg.Blobs, b.cfg.Catalog, orphanAge)
	if n > 0 {
		b.log.Info("took up captures that no row named", "captures", n)
	}
	for _, p := range problems {
		b.log.Warn("a blob among the captures cannot be read", "blob", p.Blob, "problem", p.What)
	}
	removed, rerr := b.cfg.Catalog.ExpireCaptures(ctx, before, max(b.cfg.MaxBytes, 0), maxRows)
	if err = errors.Join(err, rerr); err != nil && ctx.Err() == nil {
		b.log.Error("cannot keep captures within their bounds", "error", err)
	}
	if removed > 0 {
		b.log.Info("deleted old captures", "captures", removed)
	}
	if n, bytes, err := b.cfg.Catalog.CaptureBytes(ctx); err == nil {
		b.met.stored.Set(float64(n))
		b.met.bytes.Set(float64(bytes))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now().UnixMilli()
	for k, c := range b.claimed {
		if c.Until <= now {
			delete(b.claimed, k)
		}
	}
}

// expire ends what took too long, and hands out what may start now.
func (b *Broker) expire(ctx context.Context) {
	now := b.cfg.Now()
	var ended []catalog.Capture
	b.mu.Lock()
	b.dispatch(now)
	for _, e := range b.tasks {
		switch {
		case e.c.State == catalog.CaptureRunning && now.UnixMilli() > e.c.Deadline:
			ended = append(ended, expired(e.c, "its executor did not deliver in time: it is gone, or was too slow"))
		case e.c.State == catalog.CaptureAsked && !e.free.IsZero() && now.Sub(e.free) > untaken:
			ended = append(ended, expired(e.c, fmt.Sprintf("nothing that could take it has asked for it for %v", untaken)))
		}
	}
	for i, at := range b.polled {
		if now.Sub(at) > reachedFor && b.waiters[i] == nil {
			delete(b.polled, i)
		}
	}
	b.met.running.Set(float64(b.running))
	b.met.waiting.Set(float64(len(b.queue)))
	b.met.polls.Set(float64(b.polls))
	b.mu.Unlock()
	for _, c := range ended {
		if err := b.finish(ctx, c); err != nil && ctx.Err() == nil {
			b.log.Error("cannot expire a capture", "id", c.ID, "error", err)
		}
	}
}

func expired(c catalog.Capture, why string) catalog.Capture {
	c.State, c.Error = catalog.CaptureExpired, why
	return c
}

// crockford's alphabet is in ASCII order: ids sort by when they were made.
var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newID returns an id that sorts by time: 48 bits of Unix ms and 72 random ones.
func newID(now time.Time) string {
	var id [15]byte
	binary.BigEndian.PutUint64(id[:], uint64(now.UnixMilli())<<16)
	rand.Read(id[6:]) // never fails
	return crockford.EncodeToString(id[:])
}

// event tells of captures at what happened to them.
func (b *Broker) event(ctx context.Context, c catalog.Capture, text string) {
	e := catalog.Event{Time: b.cfg.Now().UnixMilli(), Kind: "capture", Service: c.Service, Text: text,
		Attrs: map[string]string{"capture": c.ID, "request": c.Request, "kind": c.Kind, "instance": c.Instance, "state": c.State, "build": c.Build}}
	if c.Trigger != "" {
		e.Attrs["trigger"] = c.Trigger
	}
	if err := b.cfg.Catalog.AddEvents(ctx, []catalog.Event{e}); err != nil {
		b.log.Error("cannot store the event of a capture", "id", c.ID, "error", err)
	}
}

// what names a capture in a sentence.
func what(c catalog.Capture) string {
	name := c.Service
	if name == "" {
		name = "process " + c.Instance
	}
	text := c.Kind + " of " + name
	if c.Trigger != "" {
		text += " (trigger " + c.Trigger + ")"
	}
	return strings.ToValidUTF8(text, "?")
}
