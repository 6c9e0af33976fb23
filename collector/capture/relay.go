package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Relay passes tasks on to agents that poll it, in a sidecar: it is the Source of those agents and an Executor of the sidecar's Poller. Claims, and results that belong
// to claims, go to Upstream as they are.
type Relay struct {
	Upstream Source

	mu     sync.Mutex
	polled map[string]time.Time
	polls  map[string]*relayPoll // by instance
	open   map[string]*relayTask // by id
	now    func() time.Time      // tests
}

type relayPoll struct{ tasks chan Task }

// relayTask is a task that an agent has.
type relayTask struct {
	task   Task
	result chan relayResult
	done   chan struct{} // closed when nobody waits for the result any more
}

type relayResult struct {
	contentType string
	body        io.ReadCloser
	err         error
}

var (
	_ Source   = (*Relay)(nil)
	_ Executor = (*Relay)(nil)
)

// reachedFor is how long after the end of its last poll a process counts as reached, if it has no capture to take: longer than what lies between two polls, short enough that one is not waited for
// that is reached otherwise by now.
const reachedFor = 20 * time.Second

func (r *Relay) time() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

// Instances implements Executor.
func (r *Relay) Instances() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.time()
	out := make([]string, 0, len(r.polled))
	for i, at := range r.polled {
		if now.Sub(at) > reachedFor && r.polls[i] == nil {
			delete(r.polled, i)
			continue
		}
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// maxRelayed bounds the processes that poll one relay.
const maxRelayed = 10_000

// Next implements Source. A poll for a process that is polled for already takes its place: its agent has lost the earlier one.
func (r *Relay) Next(ctx context.Context, instances []string, wait time.Duration) ([]Task, error) {
	p := &relayPoll{tasks: make(chan Task, 1)}
	r.mu.Lock()
	if r.polled == nil {
		r.polled, r.polls, r.open = map[string]time.Time{}, map[string]*relayPoll{}, map[string]*relayTask{}
	}
	if len(r.polled)+len(instances) > 2*maxRelayed {
		r.mu.Unlock()
		return nil, &LimitError{Limit: "max_relayed_instances", Max: maxRelayed}
	}
	for _, i := range instances {
		r.polled[i], r.polls[i] = r.time(), p
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, i := range instances {
			if r.polls[i] == p {
				delete(r.polls, i)
			}
			r.polled[i] = r.time()
		}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case t := <-p.tasks:
		return []Task{t}, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case t := <-p.tasks:
		return []Task{t}, nil
	default:
		return nil, ctx.Err()
	}
}

// Capture implements Executor: it gives the task to the agent's next poll and waits for the result.
func (r *Relay) Capture(ctx context.Context, t Task) (string, io.ReadCloser, error) {
	rt := &relayTask{task: t, result: make(chan relayResult), done: make(chan struct{})}
	defer close(rt.done)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !r.hand(rt) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return "", nil, fmt.Errorf("the agent of process %.64s did not poll again: %w", t.Instance, context.Cause(ctx))
		}
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, t.ID)
	}()
	select {
	case res := <-rt.result:
		return res.contentType, res.body, res.err
	case <-ctx.Done():
		return "", nil, fmt.Errorf("the agent of process %.64s did not deliver: %w", t.Instance, context.Cause(ctx))
	}
}

// hand gives a task to an agent's open poll, if there is one.
func (r *Relay) hand(rt *relayTask) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.polls[rt.task.Instance]
	if p == nil {
		return false
	}
	select {
	case p.tasks <- rt.task:
		r.open[rt.task.ID] = rt
		return true
	default: // it has one
		return false
	}
}

// Deliver implements Source. It returns when the body was read.
func (r *Relay) Deliver(ctx context.Context, res Result) error {
	r.mu.Lock()
	rt := r.open[res.ID]
	delete(r.open, res.ID)
	r.mu.Unlock()
	switch {
	case rt == nil && r.Upstream != nil:
		return r.Upstream.Deliver(ctx, res)
	case rt == nil || rt.task.Instance != res.Instance:
		return fmt.Errorf("capture %.64s of process %.64s: %w", res.ID, res.Instance, ErrUnknown)
	case res.Error != "":
		return rt.pass(relayResult{err: errors.New(res.Error)})
	}
	pr, pw := io.Pipe()
	if err := rt.pass(relayResult{contentType: res.ContentType, body: pr}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
	defer stop()
	_, err := io.Copy(pw, io.LimitReader(res.Body, rt.task.MaxBytes+1))
	pw.CloseWithError(err)
	if err != nil {
		return fmt.Errorf("relay capture %s: %w", res.ID, err)
	}
	return nil
}

// pass gives a result to whoever waits for it.
func (rt *relayTask) pass(res relayResult) error {
	select {
	case rt.result <- res:
		return nil
	case <-rt.done:
		return fmt.Errorf("capture %.64s: %w", rt.task.ID, ErrUnknown)
	}
}

// Claim implements Source.
func (r *Relay) Claim(ctx context.Context, c Claim) (Grant, error) {
	if r.Upstream == nil {
		return Grant{Reason: "there is no collector to ask"}, nil
	}
	return r.Upstream.Claim(ctx, c)
}
