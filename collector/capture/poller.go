package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// pollWait is how long the Poller waits for tasks before it says again which processes are reached: less than what a task may take from being asked for to its start.
	pollWait = 4 * time.Second
	// pollIdle is how long it waits where nothing is reached, or the source cannot be.
	pollIdle = time.Second
	// pollTasks is how many tasks a Poller has at once.
	pollTasks = 16
	// taskSlack is how much longer than it was asked to a capture may take, delivery included.
	taskSlack = time.Minute
)

// Poller takes tasks from Source and has Executor carry them out.
type Poller struct {
	Source   Source
	Executor Executor
	Logger   *slog.Logger // nil: discard

	wait, idle time.Duration // tests; 0: pollWait, pollIdle
}

// Run polls until ctx ends, then gives up what it has begun, and returns nil when all of it has ended.
func (p *Poller) Run(ctx context.Context) error {
	log := p.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	wait, idle := p.wait, p.idle
	if wait == 0 {
		wait, idle = pollWait, pollIdle
	}
	slots := make(chan struct{}, pollTasks)
	var wg sync.WaitGroup
	defer wg.Wait()
	failures := 0
	for ctx.Err() == nil {
		// Whoever has no hand free asks for nothing.
		select {
		case slots <- struct{}{}:
			<-slots
		case <-ctx.Done():
			return nil
		}
		instances := p.Executor.Instances()
		if len(instances) == 0 {
			sleep(ctx, idle)
			continue
		}
		tasks, err := p.Source.Next(ctx, instances, wait)
		if ctx.Err() != nil && len(tasks) == 0 {
			return nil
		}
		if err != nil {
			log.Debug("cannot ask for captures", "error", err)
			failures++
			sleep(ctx, idle<<min(failures-1, 5))
			continue
		}
		failures = 0
		for _, t := range tasks {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				p.carryOut(ctx, log, t)
			})
		}
	}
	return nil
}

// carryOut takes one capture and delivers it, or why there is none.
func (p *Poller) carryOut(ctx context.Context, log *slog.Logger, t Task) {
	tctx, cancel := context.WithTimeoutCause(ctx, t.Duration()+taskSlack, fmt.Errorf("not done %v after it should be", taskSlack))
	defer cancel()
	r := Result{ID: t.ID, Instance: t.Instance, Kind: t.Kind, From: time.Now().UnixMilli()}
	contentType, body, err := p.capture(tctx, t)
	read := &reader{Reader: body}
	r.ContentType, r.Body = contentType, read
	if err != nil {
		r.Error = err.Error()
		if ctx.Err() != nil {
			r.Error = "the executor was stopped before it was done"
		}
	}
	// What was taken, and that it was not, is worth a moment after the end.
	dctx, stop := context.WithTimeout(context.WithoutCancel(tctx), deliverTime)
	defer stop()
	err = p.Source.Deliver(dctx, r)
	if err != nil && read.err != nil { // it broke off while it was taken: that is worth telling
		r.Error, r.Body = read.err.Error(), nil
		err = p.Source.Deliver(dctx, r)
	}
	if err != nil {
		log.Warn("cannot deliver a capture", "id", t.ID, "kind", t.Kind, "instance", t.Instance, "error", err)
	}
	if body != nil {
		body.Close()
	}
}

// reader notes what went wrong with what it reads.
type reader struct {
	io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// deliverTime bounds the delivery of one capture.
const deliverTime = 30 * time.Second

// capture calls the executor; a fault of its own is an error like others.
func (p *Poller) capture(ctx context.Context, t Task) (contentType string, body io.ReadCloser, err error) {
	defer func() {
		if v := recover(); v != nil {
			body, err = nil, fmt.Errorf("the executor panicked: %v", v)
		}
	}()
	contentType, body, err = p.Executor.Capture(ctx, t)
	if err == nil && body == nil {
		err = errors.New("the executor gave nothing")
	}
	if err != nil && context.Cause(ctx) != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return contentType, body, err
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
