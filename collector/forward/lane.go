package forward

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/wire"
)

// Run sends what the spool holds until ctx ends, then what is left for as long as the upstream takes it, Config.Drain at most.
func (f *Forwarder) Run(ctx context.Context) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if sleep(hard, f.cfg.Drain) {
			cancel()
		}
	})
	defer stop()
	lanes := make([]*lane, f.cfg.Lanes)
	var running sync.WaitGroup
	for i := range lanes {
		l := &lane{f: f, queue: make(chan *outbound, f.cfg.BatchRecords), parked: map[string]*parking{}}
		lanes[i] = l
		running.Go(func() { l.run(ctx, hard) })
	}
	err := f.dispatch(ctx, hard, lanes)
	for _, l := range lanes {
		close(l.queue)
	}
	running.Wait()
	return err
}

// readPause is the pause after the spool could not be read.
const readPause = time.Second

// dispatch reads the spool and hands each push to its lane, until ctx has ended and there is nothing more, or hard ends.
func (f *Forwarder) dispatch(ctx, hard context.Context, lanes []*lane) error {
	for {
		it, err := f.spool.Read(ctx)
		if ctx.Err() != nil && it == nil {
			if it, err = f.spool.TryRead(); it == nil && err == nil {
				return nil
			}
		}
		switch {
		case errors.Is(err, spool.ErrClosed):
			return nil
		case err != nil:
			f.log.Error("cannot read the spool", "error", err)
			if !sleep(hard, readPause) {
				return nil
			}
			continue
		}
		o := &outbound{Item: it, weight: min(it.Bytes, int64(budgetBatches*f.cfg.Lanes*f.cfg.BatchBytes))}
		if f.budget.Acquire(hard, o.weight) != nil {
			return nil
		}
		select {
		case lanes[int(it.Lane)%len(lanes)].queue <- o:
		case <-hard.Done():
			f.budget.Release(o.weight)
			return nil
		}
	}
}

// done forgets a push: it has arrived, or never will.
func (f *Forwarder) done(o *outbound) {
	f.spool.Done(o.Item)
	f.budget.Release(o.weight)
}

// lane sends the pushes of some instances, one batch after the other.
type lane struct {
	f      *Forwarder
	queue  chan *outbound
	batch  []*outbound // gathered, to be sent next
	bytes  int
	closed bool // the queue is

	parked      map[string]*parking // by instance
	parkedBytes int
}

// parking is what waits of an instance whose pushes the upstream refuses for now. The others go on meanwhile.
type parking struct {
	pushes []*outbound
	until  time.Time
}

func (l *lane) run(ctx, hard context.Context) {
	// What is not done when the lane ends stays in the spool, and is read again by the next Run of another forwarder.
	for l.gather(ctx) {
		if err := l.send(ctx, hard); err != nil {
			break
		}
	}
	for range l.queue { // so that the dispatcher is not held up
	}
}

// gather fills the batch: at once with what there is, else with what comes within the wait after the first. It reports false where the lane is to end.
func (l *lane) gather(ctx context.Context) bool {
	var timeout <-chan time.Time
	wait := func(d time.Duration) {
		t := time.NewTimer(d)
		timeout = t.C
	}
	for {
		l.unpark()
		if l.full() {
			return true
		}
		if timeout == nil {
			switch {
			case len(l.batch) > 0:
				wait(l.f.cfg.BatchWait)
			case len(l.parked) > 0:
				wait(l.nextPark())
			}
		}
		if l.closed || ctx.Err() != nil { // hurry
			select {
			case o, ok := <-l.queue:
				if l.closed = !ok; ok {
					l.add(o)
					continue
				}
			default:
				if len(l.batch) > 0 {
					return true
				}
			}
			if l.closed {
				return len(l.batch) > 0
			}
		}
		select {
		case o, ok := <-l.queue:
			if !ok {
				l.closed = true
				continue
			}
			if l.add(o); len(l.batch) == 1 {
				wait(l.f.cfg.BatchWait)
			}
		case <-timeout:
			if timeout = nil; len(l.batch) > 0 {
				return true
			}
		}
	}
}

func (l *lane) full() bool {
	return l.bytes >= l.f.cfg.BatchBytes || len(l.batch) >= l.f.cfg.BatchRecords
}

// add takes a push into the batch, or behind those of its instance that are parked.
func (l *lane) add(o *outbound) {
	if p := l.parked[o.Instance]; p != nil && o.Instance != "" {
		l.park(o, p)
		return
	}
	l.batch = append(l.batch, o)
	l.bytes += int(o.Bytes)
}

// send sends the batch until the upstream has answered of each push. It returns an error where the lane is to end.
func (l *lane) send(ctx, hard context.Context) error {
	f := l.f
	for failures := 0; ; {
		l.dropDropped()
		n := l.head()
		if n == 0 {
			return nil
		}
		f.tell(l.batch[:n])
		results, err := f.post(hard, l.batch[:n])
		switch r, refused := errors.AsType[*refusal](err); {
		case refused && r.final(failures):
			// One of them is the reason.
			if l.split(hard, n, failures) {
				continue
			}
		case err == nil && len(results) == 0:
			err = errors.New("the upstream answered of no push")
		case err == nil:
			f.arrived()
			if failures, err = l.settle(results, failures); err == nil {
				continue
			}
		}
		if hard.Err() != nil {
			return errGone
		}
		failures++
		if d := f.failed(err, failures); ctx.Err() != nil || !sleep(ctx, d) {
			return errGone // what is not sent stays in the spool
		}
	}
}

// tell has the process objects go along that the upstream is not known to have, each once in a batch.
func (f *Forwarder) tell(batch []*outbound) {
	here := map[string]string{}
	for _, o := range batch {
		o.told = o.Hash != "" && (o.asked || here[o.Instance] != o.Hash && !f.told.has(o.Instance, o.Hash))
		if o.told && o.Instance != "" {
			here[o.Instance] = o.Hash
		}
	}
}

// head returns how many pushes go into the next request.
func (l *lane) head() int {
	n, bytes := 0, 0
	for n < len(l.batch) && n < l.f.cfg.BatchRecords && (n == 0 || bytes+int(l.batch[n].Bytes) <= 2*l.f.cfg.BatchBytes) {
		bytes += int(l.batch[n].Bytes)
		n++
	}
	return n
}

// split sends the first n pushes one by one, gives up those that are refused, leaves those that did not arrive, and reports whether there are fewer now.
func (l *lane) split(ctx context.Context, n, failures int) bool {
	rest := l.batch[n:]
	one := &lane{f: l.f, parked: l.parked, parkedBytes: l.parkedBytes}
	var left []*outbound
	for _, o := range l.batch[:n] {
		one.batch = []*outbound{o}
		l.f.tell(one.batch)
		results, err := l.f.post(ctx, one.batch)
		r, refused := errors.AsType[*refusal](err)
		switch {
		case refused && r.final(failures):
			l.f.refuse(o, r.status, err.Error())
		case err == nil && len(results) == 1:
			// What it is refused with for now is heard again when it is sent again.
			_, _ = one.settle(results, 0)
			left = append(left, one.batch...)
		default:
			left = append(left, o)
		}
	}
	l.parkedBytes = one.parkedBytes
	l.batch = append(left, rest...)
	l.count()
	return len(left) < n
}

func (l *lane) count() {
	l.bytes = 0
	for _, o := range l.batch {
		l.bytes += int(o.Bytes)
	}
}

// dropDropped takes out what the spool dropped meanwhile.
func (l *lane) dropDropped() {
	l.batch = slices.DeleteFunc(l.batch, func(o *outbound) bool {
		if !l.f.spool.Dropped(o.Item) {
			return false
		}
		l.f.done(o)
		return true
	})
	l.count()
}

// maxUnknown is how often a push is sent with its process object before it is given up.
const maxUnknown = 3

// maxBroken is how often a push is tried that the upstream fails on by itself, before it is taken for the reason.
const maxBroken = 3

// settle does what the results of the batch's first pushes say. What is to be sent again stays in the batch, before the rest. The error says that the
// upstream takes nothing for now; else the failures in a row are over.
func (l *lane) settle(results []wire.Result, failures int) (int, error) {
	f := l.f
	var again []*outbound
	var busy *refusal
	arrived := false
	for i, r := range results {
		o := l.batch[i]
		switch {
		case r.Status == wire.StatusOK || r.Status == wire.StatusDuplicate:
			f.metrics.sent.WithLabelValues(r.Status).Inc()
			if o.told {
				f.told.put(o.Instance, o.Hash)
			}
			f.done(o)
			arrived = true
		case r.Status == wire.StatusUnknown && o.unknown < maxUnknown:
			f.metrics.sent.WithLabelValues(wire.StatusUnknown).Inc()
			f.told.forget(o.Instance)
			if o.asked {
				o.unknown++
			}
			o.asked = true
			again = append(again, o)
		case ofInstance(r):
			f.metrics.sent.WithLabelValues("later").Inc()
			l.refusedForNow(o, r)
		case r.Status == wire.StatusRefused && r.Retry && (r.Code != http.StatusInternalServerError || o.broken < maxBroken):
			f.metrics.sent.WithLabelValues("later").Inc()
			if r.Code == http.StatusInternalServerError {
				o.broken++
			}
			again = append(again, o)
			if busy == nil {
				busy = &refusal{status: r.Code, text: fmt.Sprintf("%.300s", r.Error)}
			}
			busy.after = max(busy.after, min(time.Duration(r.RetryAfter)*time.Second, maxRetryAfter))
		default:
			f.refuse(o, r.Code, string(r.Error))
		}
	}
	// A push that came after one of its instance that is parked by now goes behind it.
	rest := append(again, l.batch[len(results):]...)
	l.batch = nil
	l.bytes = 0
	for _, o := range rest {
		l.add(o)
	}
	if arrived {
		failures = 0
	}
	if busy == nil {
		return failures, nil
	}
	return failures, busy
}

// refuse gives a push up that the upstream refused for good.
func (f *Forwarder) refuse(o *outbound, code int, text string) {
	f.metrics.refused.WithLabelValues(fmt.Sprint(code)).Inc()
	if first, n := f.quiet.say(fmt.Sprint("refused ", code), f.cfg.Now()); first {
		f.log.Warn("the upstream refused a window for good, it is lost", "service", o.Service, "instance", o.Instance, "status", code, "answer", fmt.Sprintf("%.300s", text), "since_last", n)
	}
	f.done(o)
}
