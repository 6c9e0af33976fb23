package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// The pauses between attempts.
const (
	backoffBase   = time.Second
	backoffMax    = time.Minute
	closingBase   = 50 * time.Millisecond // while Close waits
	closingMax    = 500 * time.Millisecond
	maxRetryAfter = 10 * time.Minute
	maxAnswer     = 64 << 10
	closingTries  = 2 // connections refused in a row after which Close waits no more
)

// uploader sends windows one after the other, oldest first, and holds what waits within a number of bytes.
type uploader struct {
	a        *Agent
	client   *http.Client
	mu       sync.Mutex
	waiting  []*window
	bytes    int
	sending  *window // the first of waiting, while a request has it
	accepts  uint64  // windows that the collector took
	lastOK   time.Time
	more     chan struct{}
	recorded <-chan struct{} // closed when no window will come any more
	dropped  atomic.Uint64
	failed   atomic.Uint64
	spent    atomic.Int64          // CPU in ns that the budget does not have yet
	gaveUp   atomic.Pointer[error] // why Close did not use its time
}

func newUploader(a *Agent, recorded <-chan struct{}) *uploader {
	u := &uploader{a: a, client: a.cfg.HTTPClient, more: make(chan struct{}, 1), recorded: recorded}
	if a.cfg.ownClient() {
		u.client = a.cfg.newClient(a.cfg.Timeout)
	}
	return u
}

// push queues a window and drops the oldest ones that are then too many.
func (u *uploader) push(w *window) {
	u.mu.Lock()
	u.waiting = append(u.waiting, w)
	u.bytes += w.size()
	for u.bytes > u.a.cfg.QueueBytes {
		i := 0
		if u.sending != nil && len(u.waiting) > 1 {
			i = 1 // the first is on the wire
		} else if u.sending != nil {
			break
		}
		u.bytes -= u.waiting[i].size()
		u.waiting = slices.Delete(u.waiting, i, i+1)
		u.dropped.Add(1)
		if len(u.waiting) == 0 {
			break
		}
	}
	u.mu.Unlock()
	select {
	case u.more <- struct{}{}:
	default:
	}
}

// head marks the oldest window as on the wire and returns it; nil where none waits.
func (u *uploader) head() *window {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.waiting) == 0 {
		return nil
	}
	u.sending = u.waiting[0]
	return u.sending
}

// sent ends the attempt on w, and takes it off the queue where it is done with. size is what the queue counted for it.
func (u *uploader) sent(w *window, size int, done bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sending = nil
	if done {
		u.waiting = slices.Delete(u.waiting, 0, 1)
		u.bytes -= size
	} else {
		u.bytes += w.size() - size
	}
}

// left returns the number of windows that wait.
func (u *uploader) left() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.waiting)
}

// run sends until ctx ends, or until closing is closed and the queue is empty.
func (u *uploader) run(ctx context.Context, closing <-chan struct{}) {
	attempt, refusals := 0, 0
	for ctx.Err() == nil {
		w := u.head()
		if w == nil {
			if !u.await(ctx) {
				return
			}
			continue
		}
		size := w.size()
		var res result
		u.metered(func() { res = u.attempt(ctx, u.client, w) })
		u.sent(w, size, res.done)
		if res.done || res.now {
			attempt, refusals = 0, 0
			continue
		}
		// Where nobody listens, nobody will within seconds: the program's exit is not held up for that.
		if refusals++; !nobody(res.err) || !isClosed(closing) {
			refusals = 0
		}
		if refusals >= closingTries {
			u.gaveUp.Store(&res.err)
			return
		}
		pause := u.pause(attempt, res.after, closing)
		attempt++
		if !u.sleep(ctx, pause, closing, res.after > 0) {
			return
		}
	}
}

// await waits for a window, and reports whether one can still come.
func (u *uploader) await(ctx context.Context) bool {
	select {
	case <-u.more:
		return true
	case <-u.recorded:
		return u.left() > 0
	case <-ctx.Done():
		return false
	}
}

// pause returns how long to wait before the next attempt: full jitter, or what the collector asked for and a little more.
func (u *uploader) pause(attempt int, after time.Duration, closing <-chan struct{}) time.Duration {
	if after > 0 {
		after = min(after, maxRetryAfter)
		return after + rand.N(after/10+1)
	}
	base, limit := backoffBase, backoffMax
	if isClosed(closing) {
		base, limit = closingBase, closingMax
	}
	return rand.N(min(base<<min(attempt, 16), limit)) + time.Millisecond
}

// sleep waits for d. Close cuts a pause of the agent's own choice short, never one that the collector asked for: there is no use
// in that unless it ends within Close's deadline. It reports whether to go on.
func (u *uploader) sleep(ctx context.Context, d time.Duration, closing <-chan struct{}, asked bool) bool {
	end := time.Now().Add(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	if !isClosed(closing) {
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		case <-closing:
			if !asked {
				return true
			}
		}
	}
	if deadline, ok := ctx.Deadline(); ok && end.After(deadline) {
		return false
	}
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// result is the outcome of an attempt: done with the window (accepted or given up), again at once, or again after a pause.
type result struct {
	done  bool
	now   bool
	after time.Duration // what the collector asked for; 0: it did not
	err   error         // of the connection, where there was no answer
}

// attempt sends w once.
func (u *uploader) attempt(ctx context.Context, client *http.Client, w *window) result {
	ctx, cancel := context.WithTimeout(ctx, u.a.cfg.Timeout)
	defer cancel()
	resp, err := u.post(ctx, client, w)
	if err != nil {
		u.a.sayDown(err)
		return result{err: err}
	}
	defer resp.Body.Close() // nothing more to learn from its error
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		u.a.sayDown(fmt.Errorf("read answer: %w", err))
		return result{}
	}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		u.accepted(body)
		return result{done: true}
	case code == http.StatusPreconditionRequired && w.meta.Process == nil:
		if err := w.addProcess(); err == nil {
			return result{now: true}
		}
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		u.a.sayDown(fmt.Errorf("collector answered %s: %.200s", resp.Status, body))
		return result{after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	u.failed.Add(1)
	u.a.say("status "+resp.Status, "sonde agent: collector refused a window; it is lost", "status", resp.Status, "answer", fmt.Sprintf("%.500s", body))
	return result{done: true}
}

func (u *uploader) post(ctx context.Context, client *http.Client, w *window) (*http.Response, error) {
	req, err := u.a.request(ctx, "/api/v1/push", "multipart/form-data; boundary="+w.boundary, w.body(), int64(w.bytes()))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(w.body()), nil }
	return client.Do(req)
}

// accepted takes over the settings that came with the answer. An answer that cannot be read changes nothing: the window is stored all the same.
func (u *uploader) accepted(body []byte) {
	u.a.sayUp()
	u.mu.Lock()
	u.accepts++
	u.lastOK = time.Now()
	u.mu.Unlock()
	var ans answer
	if err := json.Unmarshal(body, &ans); err != nil {
		u.a.say("answer", "sonde agent: collector's answer is not what the agent knows", "err", err)
		return
	}
	u.a.obey(ans.Settings)
}

// retryAfter reads the header: seconds or a date. 0 where there is none.
func retryAfter(s string, now time.Time) time.Duration {
	if secs, err := strconv.Atoi(s); err == nil && secs > 0 {
		return time.Duration(min(secs, int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetryAfter)
	}
	return 0
}
