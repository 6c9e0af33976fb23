package receive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// The bounds of a batch, besides those of each of its records, which are a push's.
const (
	batchFactor     = 2    // the largest batch, in largest bodies of a push
	maxBatchRecords = 1024 // those beyond it are left for the next batch
)

// batch answers POST /api/v1/batch. The records are read and decoded one after the other, so that windows of an instance stay in order and
// memory is that of one push; they wait for their segments together.
func (h *Handler) batch(q *request) (any, error) {
	ct := q.r.Header.Get("Content-Type")
	if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != wire.ContentType {
		return nil, reply.Errorf(http.StatusUnsupportedMediaType, "content type %.100q, want %s", ct, wire.ContentType)
	}
	b := &batch{h: h, q: q, records: wire.NewReader(q.body), processes: map[string]process{}}
	err := b.read()
	b.storing.Wait()
	if err != nil && len(b.results) == 0 {
		return nil, err
	}
	answer := wire.BatchAnswer{Results: make([]wire.Result, len(b.results)), Settings: b.settings}
	for i, r := range b.results {
		answer.Results[i] = *r
		h.metrics.records.WithLabelValues(r.Status).Inc()
	}
	if err != nil {
		answer.Error = errorJSON(h.refusal(q.r, err))
	}
	return answer, nil
}

// batch is one batch being read and stored.
type batch struct {
	h         *Handler
	q         *request
	records   *wire.Reader
	processes map[string]process // whose objects came in this batch, by instance
	storing   sync.WaitGroup
	results   []*wire.Result

	mu       sync.Mutex
	settings map[string]json.RawMessage
}

// process is one whose object came in the batch. Until that is stored, all that belongs to it says the whole of it.
type process struct {
	known known
	row   catalog.Process
	build *catalog.Build
}

// read reads all records. Its error is one that ends the batch.
func (b *batch) read() error {
	for {
		b.q.paced.extend() // between records the store may have taken its time
		size, err := b.records.Next()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, wire.ErrMagic):
			return reply.Errorf(http.StatusBadRequest, "%v", err)
		case err != nil:
			return readError("batch", err)
		case len(b.results) == maxBatchRecords:
			return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "too many records in a batch, send the rest in another one", Limit: "max_batch_records",
				Max: maxBatchRecords}
		}
		sub := &request{h: b.h, r: b.q.r, body: b.records}
		result := new(wire.Result)
		ended, err := b.one(sub, size, result)
		if ended {
			sub.release()
			return err
		}
		b.results = append(b.results, result)
		if err != nil {
			sub.release()
			b.refuse(result, err)
		}
	}
}

// refuse says in a record's result what a push of its own would have been answered.
func (b *batch) refuse(r *wire.Result, err error) {
	e := b.h.refusal(b.q.r, err)
	r.Status, r.Code, r.RetryAfter, r.Error = wire.StatusRefused, e.Status, e.RetryAfter, errorJSON(e)
	switch e.Status {
	case http.StatusPreconditionRequired:
		r.Status = wire.StatusUnknown
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInternalServerError:
		r.Retry = true
	}
}

func errorJSON(e *reply.Error) json.RawMessage {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil // a struct of strings and numbers marshals
	}
	return raw
}

// one reads a record and hands it to the store, or says why not. ended says that the batch cannot be read on.
func (b *batch) one(q *request, size int64, result *wire.Result) (ended bool, err error) {
	if limit := b.h.cfg.Limits.BodyBytes + maxMetaBytes; size > limit {
		return false, bodyTooLarge(limit, size)
	}
	raw, err := b.section(q, "meta", maxMetaBytes)
	if err != nil {
		return b.ends(err), err
	}
	own, err := b.section(q, "process", maxMetaBytes)
	if err != nil {
		return b.ends(err), err
	}
	m, err := b.h.parseMeta(raw)
	if err != nil {
		return false, err
	}
	if len(own) > 0 {
		if hasProcess(m) {
			return false, wrongMeta("the process object came twice")
		}
		m.Process = own
	}
	if err := b.h.checkMeta(m, true); err != nil {
		return false, err
	}
	return b.take(q, raw, m, result)
}

// section reads the next section, which must be there.
func (b *batch) section(q *request, what string, most int64) ([]byte, error) {
	n, err := b.records.Section()
	switch {
	case err == io.EOF || errors.Is(err, wire.ErrFrame):
		return nil, &frameError{reply.Errorf(http.StatusBadRequest, "read record: %s: %v", what, cmp.Or(err, wire.ErrFrame))}
	case err != nil:
		return nil, readError("batch", err)
	case n > most:
		return nil, &frameError{&reply.Error{Status: http.StatusRequestEntityTooLarge, Message: what + " is too large", Limit: "max_meta_bytes", Max: most, Got: n}}
	case n == 0:
		return nil, nil
	}
	return q.readSized(what, b.records, n)
}

// frameError is of one record only: the batch can be read on.
type frameError struct{ answer *reply.Error }

func (e *frameError) Error() string { return e.answer.Error() }
func (e *frameError) Unwrap() error { return e.answer }

// ends reports whether an error of reading a record is one of the whole batch.
func (b *batch) ends(err error) bool {
	if _, ok := errors.AsType[*frameError](err); ok {
		return false
	}
	e, ok := errors.AsType[*reply.Error](err)
	return !ok || e.Limit != "max_inflight_bytes"
}

// take reads the parts of a record and hands all of it on.
func (b *batch) take(q *request, raw []byte, m *wire.Meta, result *wire.Result) (ended bool, err error) {
	if b.h.cfg.Relay != nil {
		r, err := b.h.relayed(raw, m)
		if err != nil {
			return false, err
		}
		if r.Parts, err = b.parts(q, m); err != nil {
			return b.ends(err), err
		}
		b.keep(q, r, result)
		return false, nil
	}
	ctx := q.r.Context()
	at := min(m.End, b.h.cfg.Now().UnixMilli()) // a record may have been on its way for a day
	k, p, err := b.h.subject(ctx, m, at, b.lookUp)
	if err != nil {
		return false, err
	}
	raws, err := b.parts(q, m)
	if err != nil {
		return b.ends(err), err
	}
	d, err := q.decodeParts(m, raws, k.labels)
	if err != nil {
		return false, err
	}
	if len(m.Seen) > 0 {
		b.storing.Wait() // what is told later of a process is to be stored later
		if err := b.h.putSeen(ctx, m); err != nil {
			return false, err
		}
	}
	if err := b.h.putExtras(ctx, d); err != nil {
		return false, err
	}
	if m.Unregistered() {
		q.release()
		result.Status = wire.StatusOK
		return false, nil
	}
	p.Profiles = d.profiles
	if hasProcess(m) && p.Process != nil {
		b.processes[m.Instance] = process{known: k, row: *p.Process, build: p.Build}
	}
	b.store(q, m, k, p, result)
	return false, nil
}

// lookUp finds a process as a push does, and in what came before in the batch and may not be stored yet.
func (b *batch) lookUp(ctx context.Context, instance, hash string) (known, *catalog.Process, *catalog.Build, error) {
	if p, ok := b.processes[instance]; ok && p.known.hash == hash {
		return p.known, &p.row, p.build, nil
	}
	return b.h.lookUp(ctx, instance, hash)
}

// parts reads the sections of a record that follow its process object.
func (b *batch) parts(q *request, m *wire.Meta) ([][]byte, error) {
	parts := m.Parts()
	raws := make([][]byte, len(parts))
	for i, p := range parts {
		var err error
		if raws[i], err = b.section(q, called(p), b.h.cfg.Limits.BodyBytes); err != nil {
			return nil, err
		}
	}
	switch _, err := b.records.Section(); {
	case err == io.EOF:
		return raws, nil
	case err == nil || errors.Is(err, wire.ErrFrame):
		return nil, &frameError{reply.Errorf(http.StatusUnprocessableEntity, "the record goes on after the %d parts that meta lists", len(raws))}
	default:
		return nil, readError("batch", err)
	}
}

// store hands p to the store and returns once that has taken it over or refused it.
func (b *batch) store(q *request, m *wire.Meta, k known, p store.Push, result *wire.Result) {
	taken := make(chan struct{})
	p.Taken = sync.OnceFunc(func() {
		q.release()
		close(taken)
	})
	ctx := q.r.Context()
	b.storing.Go(func() {
		duplicate, err := b.h.append(ctx, p)
		p.Taken()
		if err != nil {
			b.refuse(result, err)
			return
		}
		result.Status = wire.StatusOK
		if duplicate {
			result.Status = wire.StatusDuplicate
		} else {
			b.h.remember(m, k)
		}
		if m.Instance == "" || b.h.cfg.Settings == nil {
			return
		}
		// Sidecars profile other processes as they are told here too, where replicas take turns.
		if s := b.h.settings(k); k.gatherer == agentGatherer || s != nil && s.Rotate != nil {
			b.tell(m.Instance, s)
		}
	})
	<-taken
}

// keep hands a record to the relay, without waiting until it is durable.
func (b *batch) keep(q *request, r *Relayed, result *wire.Result) {
	// The relay keeps records in the order in which Keep is called, and copies them when it has returned: records of one batch go one by one.
	err := b.h.keep(q, r)
	q.release()
	if err != nil {
		b.refuse(result, err)
		return
	}
	result.Status = wire.StatusOK
	if s := b.h.cfg.Relay.Settings(r.Meta.Instance); s != nil {
		b.tell(r.Meta.Instance, s)
	}
}

// tell puts the settings of an agent into the answer.
func (b *batch) tell(instance string, settings any) {
	raw, err := json.Marshal(settings)
	if err != nil {
		b.h.cfg.Logger.Error("cannot encode settings", "instance", instance, "error", fmt.Sprint(err))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.settings == nil {
		b.settings = map[string]json.RawMessage{}
	}
	b.settings[instance] = raw
}
