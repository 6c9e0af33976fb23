package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// The taker's times.
const (
	pollWait     = 50 * time.Second // that the collector may hold a poll open
	pollPause    = time.Second      // between two polls where the collector holds none open
	claimWait    = 2 * time.Second
	urgentWait   = time.Second // for the claim of what may be the last that the process sends
	sendWait     = time.Minute // for a result, beside the time that it takes
	resultTries  = 3
	maxFirings   = 8
	maxErrorText = 500 // bytes
)

// taker takes captures: those that the collector asks for, over a poll that stays open, and those of triggers. It has a goroutine and a connection
// of its own, from the moment that there is something to do.
type taker struct {
	a        *Agent
	client   *http.Client
	scrub    scrubber // of the taker's goroutine
	wake     chan struct{}
	stopping chan struct{}
	done     chan struct{}

	mu      sync.Mutex
	poll    bool // the collector wants to be asked
	fresh   bool // it said so again since the last poll
	fired   []firing
	started bool
	ended   bool
	cancel  context.CancelFunc // of the poll that is open
	sending context.CancelFunc // of the result that is sent
	halt    func()             // ends the capture that runs at once
	halted  bool               // Pause ended it
}

func newTaker(a *Agent) *taker {
	t := &taker{a: a, client: a.cfg.HTTPClient, scrub: newScrubber(a.privacy), wake: make(chan struct{}, 1), stopping: make(chan struct{}), done: make(chan struct{})}
	if a.cfg.ownClient() {
		t.client = a.cfg.newClient(0)
	} else if tr, ok := t.client.Transport.(*http.Transport); ok && tr.MaxConnsPerHost == 1 {
		c := *t.client // a poll would keep the only connection from the windows
		c.Transport, t.client = tr.Clone(), &c
	}
	return t
}

// offer takes over whether the collector wants to be asked for captures.
func (t *taker) offer(poll bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.poll, t.fresh = poll, poll
	if !poll && t.cancel != nil {
		t.cancel()
	}
	if poll {
		t.startLocked()
	}
}

// fire hands over what a trigger wants, ahead of a poll that is open. It reports false where too many wait already.
func (t *taker) fire(f firing) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || len(t.fired) >= maxFirings {
		return false
	}
	if f.window != nil {
		t.fired = slices.Insert(t.fired, 0, f)
		if t.sending != nil {
			t.sending()
		}
	} else {
		t.fired = append(t.fired, f)
	}
	if t.cancel != nil {
		t.cancel()
	}
	t.startLocked()
	return true
}

func (t *taker) startLocked() {
	if t.ended {
		return
	}
	if !t.started {
		t.started = true
		go t.a.takes()
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// next takes the first firing; with urgent only one that has a window to send.
func (t *taker) next(urgent bool) (f firing, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.fired) == 0 || urgent && t.fired[0].window == nil {
		return firing{}, false
	}
	f = t.fired[0]
	t.fired = slices.Delete(t.fired, 0, 1)
	return f, true
}

// stop ends the taker: a capture that runs is given up, and its error sent. Then it takes what a stop trigger asks for. All of it uses at most half
// of the time to end.
func (t *taker) stop(end time.Time) {
	half := time.Now().Add(time.Until(end) / 2)
	close(t.stopping)
	t.mu.Lock()
	t.ended = true
	started := t.started
	if t.cancel != nil {
		t.cancel()
	}
	t.mu.Unlock()
	if started {
		timer := time.NewTimer(time.Until(half))
		defer timer.Stop()
		select {
		case <-t.done:
		case <-timer.C:
			return // its requests end with the agent's context
		}
	}
	ctx, cancel := context.WithDeadline(t.a.ctx, half)
	defer cancel()
	for _, f := range t.a.rec.atStop() {
		t.handle(ctx, f)
	}
	for f, ok := t.next(true); ok; f, ok = t.next(true) {
		t.a.up.push(f.window)
	}
}

// takes runs the taker.
func (a *Agent) takes() {
	defer close(a.taker.done)
	defer func() {
		if v := recover(); v != nil {
			a.say("panic", "sonde agent: no captures any more, by its own fault", "panic", fmt.Sprint(v))
			a.taker.offer(false)
		}
	}()
	a.taker.run()
}

func (t *taker) run() {
	attempt := 0
	var again, asked time.Time // no poll before; asked is the collector's own wish
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for !isClosed(t.stopping) {
		if f, ok := t.next(false); ok {
			t.paid(func() { t.handle(t.a.ctx, f) })
			continue
		}
		t.mu.Lock()
		poll := t.poll
		if t.fresh { // a push was just accepted: the collector is there
			again, t.fresh = asked, false
		}
		t.mu.Unlock()
		wait := time.Until(again)
		if poll && wait <= 0 {
			began := time.Now()
			attempt, again, asked = t.after(t.ask(), attempt, began)
			continue
		}
		if !poll {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-t.wake:
		case <-timer.C:
		case <-t.stopping:
		}
	}
}

// after returns the number of failed polls in a row, when the next may begin, and when it may begin at the earliest because the collector says so.
func (t *taker) after(err error, attempt int, began time.Time) (failed int, again, asked time.Time) {
	var busy *askedError
	switch {
	case err == nil:
		return 0, began.Add(pollPause), time.Time{}
	case errors.Is(err, errUnsupported):
		t.mu.Lock()
		t.poll = t.fresh // until the collector offers it once more
		t.mu.Unlock()
		return 0, time.Time{}, time.Time{}
	case errors.As(err, &busy) && busy.after > 0:
		asked = time.Now().Add(busy.after + rand.N(busy.after/10+1))
		return attempt, asked, asked
	}
	t.a.say("poll", "sonde agent: cannot ask for captures; will try again", "url", t.a.cfg.URL, "err", err)
	return attempt + 1, time.Now().Add(rand.N(min(backoffBase<<min(attempt, 16), backoffMax)) + time.Millisecond), time.Time{}
}

// errUnsupported says that the collector does not know the path.
var errUnsupported = errors.New("the collector takes no captures")

// askedError is an answer that is neither a success nor final.
type askedError struct {
	status string
	after  time.Duration
}

func (e *askedError) Error() string { return "collector answered " + e.status }

// task is one capture that the collector asks for. Its deadline is by the collector's clock, so it is the collector's to keep.
type task struct {
	ID         string `json:"id"`
	Kind       string `json:"kind"`
	DurationMS int64  `json:"duration_ms"`
	MaxBytes   int64  `json:"max_bytes"`
}

// ask polls once and does what it is told.
func (t *taker) ask() error {
	wait := pollWait
	if c := t.client.Timeout; c > 0 {
		wait = min(wait, c/2)
	}
	ctx, cancel := context.WithTimeout(t.a.ctx, wait+t.a.cfg.Timeout)
	defer cancel()
	t.mu.Lock()
	if !t.poll || len(t.fired) > 0 || t.ended {
		t.mu.Unlock()
		return nil
	}
	t.cancel = cancel
	t.mu.Unlock()
	var answer struct {
		Tasks []task `json:"tasks"`
	}
	err := t.call(ctx, "/api/v1/captures/next", map[string]any{"instances": []string{t.a.instance}, "wait_ms": wait.Milliseconds()}, &answer)
	t.mu.Lock()
	t.cancel = nil
	interrupted := t.ended || !t.poll || len(t.fired) > 0
	t.mu.Unlock()
	if err != nil && interrupted {
		return nil
	}
	for _, k := range answer.Tasks {
		t.do(k)
	}
	return err
}

// do takes one capture and sends it, or says what went wrong.
func (t *taker) do(k task) {
	t.paid(func() {
		d := time.Duration(min(max(k.DurationMS, 0), maxCapture.Milliseconds())) * time.Millisecond
		c, err := t.capture(t.a.ctx, k.Kind, d, k.MaxBytes)
		t.deliver(t.a.ctx, k.ID, k.Kind, d, c, err)
	})
}

// halting sets what Pause does to the capture that runs; nil: none does.
func (t *taker) halting(halt func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halt = halt
}

// begin forgets a Pause that ended an earlier capture.
func (t *taker) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halted = false
}

// pause ends the capture that runs.
func (t *taker) pause() {
	t.mu.Lock()
	halt := t.halt
	t.halt = nil
	if halt != nil {
		t.halted = true
	}
	t.mu.Unlock()
	if halt != nil {
		halt()
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

func (t *taker) isHalted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.halted
}

// wait waits for d, or until Close or Pause. What a trigger captured near the end of the memory is sent meanwhile.
func (t *taker) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		if f, ok := t.next(true); ok {
			t.handle(t.a.ctx, f)
			continue
		}
		if t.isHalted() {
			return
		}
		select {
		case <-timer.C:
			return
		case <-t.stopping:
			return
		case <-t.wake:
		}
	}
}

// over returns a channel that is closed once the taker's goroutine has ended, if there ever was one. It is for after stop.
func (t *taker) over() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.started {
		return t.stopping // closed
	}
	return t.done
}
