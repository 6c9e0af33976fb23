package receive

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// Peer is a request in the format of another system's sender, read within the same bounds, budget and errors as an agent's push. What it returns is valid until
// the first Append has taken the push over.
type Peer struct {
	q *request
}

// Protocol writes the answers of a sender's protocol.
type Protocol struct {
	OK   func(w http.ResponseWriter, r *http.Request, answer any)
	Fail func(w http.ResponseWriter, r *http.Request, e *reply.Error)
}

// Peer wraps what the endpoints of all senders share: the bound on requests at once, the bound and the pace of the body, metrics (under the given name) and errors.
func (h *Handler) Peer(name string, p Protocol, serve func(*Peer) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		answer, err := h.bounded(w, r, func(q *request) (any, error) { return serve(&Peer{q: q}) })
		status := http.StatusOK
		if err != nil {
			e := h.refusal(r, err)
			status = e.Status
			p.Fail(w, r, e)
		} else {
			p.OK(w, r, answer)
		}
		h.metrics.observe(name, status, time.Since(start))
	})
}

// Request returns the request. Its body is read through Body.
func (p *Peer) Request() *http.Request { return p.q.r }

// Body returns the bounded body.
func (p *Peer) Body() io.Reader { return p.q.body }

// Now returns the collector's time.
func (p *Peer) Now() time.Time { return p.q.h.cfg.Now() }

// Limits returns the limits of requests.
func (p *Peer) Limits() Limits { return p.q.h.cfg.Limits }

// ReadAll reads r, one of as many parts of the body, to its end. what is what errors call it.
func (p *Peer) ReadAll(what string, r io.Reader, parts int) ([]byte, error) {
	return p.q.readAll(what, r, parts)
}

// ReadError turns an error of reading the body into an answer.
func (p *Peer) ReadError(what string, err error) error { return readError(what, err) }

// Gunzip decompresses b, within what all of one request may be decompressed to.
func (p *Peer) Gunzip(what string, b []byte) ([]byte, error) {
	if !profiles.IsGzip(b) {
		return nil, reply.Errorf(http.StatusBadRequest, "%s: it is said to be gzip, and is not", what)
	}
	out, err := p.q.gunzip(b, p.q.h.cfg.Limits.DecompressedBytes-p.q.decompressed)
	if err != nil {
		return nil, p.q.decodeError(what, err)
	}
	p.q.decompressed += int64(len(out))
	return out, nil
}

// StartWork waits for the turn to decode. It is called once, when all of the body has come.
func (p *Peer) StartWork() error { return p.q.startWork() }

// Decode decodes a pprof profile, gzipped or not.
func (p *Peer) Decode(what string, raw []byte) (*profiles.Profile, error) {
	return p.q.decode(what, raw)
}

// HoldDecoded waits for n bytes of the memory that decoded requests may take together, and holds them until the request's memory is given back. What needs more
// than there is gets 413.
func (p *Peer) HoldDecoded(n int64) error {
	if most := p.q.h.inflight() - p.q.decoded; n > most {
		return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the request takes too much memory once it is decoded", Limit: "max_inflight_bytes", Max: most, Got: n,
			Hint: "send fewer samples at a time, or raise max_decompressed_bytes"}
	}
	ctx, cancel := context.WithTimeout(p.q.r.Context(), decodeWait)
	defer cancel()
	if err := p.q.h.decoding.Acquire(ctx, n); err != nil {
		return p.q.h.tooMuchInFlight()
	}
	p.q.decoded += n
	return nil
}

// Labels checks the labels of a process and returns them sorted, with service_instance_id set to instance.
func (p *Peer) Labels(in map[string]string, instance string) (labels.Labels, error) {
	return p.q.h.labels(in, instance)
}

// CheckInterval checks [start, end), Unix ms, against itself, the clock and retention. what is what errors call it.
func (p *Peer) CheckInterval(what string, start, end int64) error {
	return p.q.h.checkInterval(what, start, end)
}

// Append stores pushes, each as a whole or not at all, at the same time, so that they share segments. It returns of each whether it is stored, and
// the error of one that is not: one that a retry may cure, if there is one. It is called once, and what was decoded is not valid afterwards.
func (p *Peer) Append(ctx context.Context, pushes []store.Push) (stored []bool, err error) {
	stored = make([]bool, len(pushes))
	type result struct {
		i   int
		err error
	}
	results, taken := make(chan result), make(chan struct{}, len(pushes))
	left := len(pushes)
	for i := range pushes {
		pushes[i].Taken = func() { taken <- struct{}{} }
		go func() {
			_, err := p.q.h.append(ctx, pushes[i])
			results <- result{i, err}
		}()
	}
	for range pushes {
		for waiting := true; waiting; {
			select {
			case <-taken:
				if left--; left == 0 {
					p.q.release()
				}
			case r := <-results:
				waiting = false
				if stored[r.i] = r.err == nil; err == nil || r.err != nil && !curable(err) {
					err = r.err
				}
			}
		}
	}
	return stored, err
}

// curable reports whether a retry may cure err.
func curable(err error) bool {
	e, ok := errors.AsType[*reply.Error](err)
	return ok && e.RetryAfter > 0
}
