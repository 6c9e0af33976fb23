package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
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

// deliver sends a capture or its error. It is the end of c.
func (t *taker) deliver(ctx context.Context, id, kind string, d time.Duration, c *captured, err error) {
	if err == nil {
		err = t.result(ctx, id, kind, d, c)
		c.done()
		t.halting(nil)
		var final *refusedError
		if err == nil || errors.As(err, &final) {
			if err != nil {
				t.a.say("result", "sonde agent: collector refused a capture", "kind", kind, "err", err)
			}
			return
		}
	}
	text := t.a.privacy.text(err.Error())
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "")
	}
	ctx, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	if err := t.send(ctx, t.path(id, kind)+"&error="+url.QueryEscape(text), "text/plain", http.NoBody, 0); err != nil {
		t.a.say("result", "sonde agent: cannot send a capture", "kind", kind, "err", err)
	}
}

func (t *taker) path(id, kind string) string {
	return "/api/v1/captures/" + url.PathEscape(id) + "/result?instance=" + t.a.instance + "&kind=" + url.QueryEscape(kind)
}

// result sends the content. What is not a stream is tried again.
func (t *taker) result(ctx context.Context, id, kind string, d time.Duration, c *captured) error {
	contentType, length := "application/octet-stream", int64(len(c.data)+len(c.tail))
	if c.text {
		contentType = "text/plain; charset=utf-8"
	}
	if c.stream != nil {
		length = -1
	}
	path := t.path(id, kind)
	if !c.from.IsZero() {
		path += "&from=" + strconv.FormatInt(c.from.UnixMilli(), 10)
	}
	if !c.to.IsZero() {
		path += "&to=" + strconv.FormatInt(c.to.UnixMilli(), 10)
	}
	for try := 1; ; try++ {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, d+sendWait)
			defer cancel()
			t.urgent(cancel)
			defer t.urgent(nil)
			return t.send(ctx, path, contentType, io.NopCloser(c.reader()), length)
		}()
		var final *refusedError
		if err == nil || c.stream != nil || try == resultTries || errors.As(err, &final) || ctx.Err() != nil {
			if c.stream != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
				return errors.New("given up for a trigger that cannot wait")
			}
			return err
		}
		t.wait(rand.N(backoffBase<<try) + time.Millisecond)
	}
}

// urgent sets what a trigger that cannot wait does to the result that is sent; it does so at once where one waits already.
func (t *taker) urgent(cancel context.CancelFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sending = cancel; cancel != nil && len(t.fired) > 0 && t.fired[0].window != nil {
		cancel()
	}
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

// refusedError is an answer that trying again would not change.
type refusedError struct{ status, body string }

func (e *refusedError) Error() string { return "collector answered " + e.status + ": " + e.body }

// send posts body and reads the answer away.
func (t *taker) send(ctx context.Context, path, contentType string, body io.Reader, length int64) error {
	req, err := t.a.request(ctx, path, contentType, body, length)
	if err != nil {
		return err
	}
	_, err = t.roundTrip(req)
	return err
}

// call posts in as JSON and reads the answer into out.
func (t *taker) call(ctx context.Context, path string, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := t.a.request(ctx, path, "application/json", bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return err
	}
	body, err := t.roundTrip(req)
	if err != nil || len(body) == 0 {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

func (t *taker) roundTrip(req *http.Request) ([]byte, error) {
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // nothing more to learn from its error
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch code := resp.StatusCode; {
	case err != nil:
		return nil, fmt.Errorf("read answer: %w", err)
	case code >= 200 && code < 300:
		return body, nil
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return nil, &askedError{resp.Status, retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	case code == http.StatusNotFound || code == http.StatusMethodNotAllowed:
		return nil, fmt.Errorf("%w: %w", errUnsupported, &refusedError{resp.Status, fmt.Sprintf("%.200s", body)})
	default:
		return nil, &refusedError{resp.Status, fmt.Sprintf("%.200s", body)}
	}
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

// handle asks for a trigger's capture and, where it is granted, takes and sends it. A window that came with it is sent first, granted or not.
func (t *taker) handle(ctx context.Context, f firing) {
	id := t.claim(ctx, f)
	if w := f.window; w != nil {
		if id != "" {
			if err := w.mark(f.marked, id); err != nil {
				t.a.say("window", "sonde agent: window not marked", "err", err)
			}
		}
		if res := t.a.up.attempt(ctx, t.client, w); !res.done {
			t.a.up.push(w) // with its process, should the collector have asked for it
		}
	}
	if id == "" || f.rule.Shadow {
		return
	}
	for _, k := range f.taken {
		t.deliver(ctx, id, k.kind, 0, &captured{data: k.data, from: k.from, to: k.to}, k.err)
	}
	for _, kind := range f.rule.Take {
		if slices.ContainsFunc(f.taken, func(k takenKind) bool { return k.kind == kind }) {
			continue
		}
		if !momentary(kind) && isClosed(t.stopping) {
			t.deliver(ctx, id, kind, 0, nil, errors.New("the program is ending: there is no time for a capture that takes any"))
			continue
		}
		d := time.Duration(0)
		if !momentary(kind) {
			d = f.rule.duration()
		}
		c, err := t.capture(ctx, kind, d, maxCaptureSize)
		t.deliver(ctx, id, kind, d, c, err)
	}
}

// claim returns the id of the capture that f may take; empty where it may not.
func (t *taker) claim(ctx context.Context, f firing) string {
	wait := claimWait
	if f.window != nil {
		wait = urgentWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	service, build := t.a.identity()
	var g granted
	err := t.call(ctx, "/api/v1/captures/claim", claim{Instance: t.a.instance, Service: service, Build: build, Trigger: f.rule.Name, Metric: f.rule.Metric, Value: f.value,
		Kinds: f.rule.Take, Shadow: f.rule.Shadow}, &g)
	switch {
	case err != nil:
		t.a.say("claim", "sonde agent: cannot ask for a trigger's capture; will try again", "trigger", f.rule.Name, "err", err)
		t.a.rec.again(f.rule.Name)
	case g.Granted && g.ID != "":
		return g.ID
	}
	return ""
}

// identity returns the service and the build as the collector knows them.
func (a *Agent) identity() (service, build string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	build = a.info.GNUBuildID
	if build == "" && a.info.GoBuildID != "" {
		sum := sha256.Sum256([]byte(a.info.GoBuildID))
		build = hex.EncodeToString(sum[:20])
	}
	return a.info.Labels["service_name"], build
}
