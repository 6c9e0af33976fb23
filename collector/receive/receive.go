package receive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/semaphore"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// Sink stores pushes durably; *store.Store is one.
type Sink interface {
	Append(ctx context.Context, p store.Push) error
}

// Processes looks processes up; catalog.Catalog is one.
type Processes interface {
	Process(ctx context.Context, instance string) (catalog.Process, error)
}

// Limits bound one request. All but MaxAge must be positive.
type Limits struct {
	BodyBytes         int64 // of a body as sent
	DecompressedBytes int64 // of all profiles of one request together
	Samples           int   // of one profile
	Labels            int   // of one process, service_instance_id included
	LabelNameBytes    int
	LabelValueBytes   int
	Concurrent        int           // requests handled at once
	MaxAge            time.Duration // of a profile's end: what retention would delete at once; 0: any
}

// Settings is what an agent is told in the answer to its push; the fields are documented in ARCHITECTURE.md.
type Settings struct {
	Rev      string   `json:"rev"`
	Enabled  *bool    `json:"enabled,omitempty"`
	Metrics  *bool    `json:"metrics,omitempty"` // the runtime's and the process's
	Types    []string `json:"types,omitempty"`
	CPURate  int      `json:"cpu_rate,omitempty"`
	PeriodMs int64    `json:"period_ms,omitempty"`
	Until    int64    `json:"until,omitempty"`

	Rotate   *Rotate         `json:"rotate,omitempty"`
	Captures *CaptureOffer   `json:"captures,omitempty"`
	Triggers json.RawMessage `json:"triggers,omitempty"` // a list of rules
}

// Rotate lets the instances of a service take turns: one is profiled for Types only while (now / SlotMs) mod Groups is the FNV-1a hash (64 bits) of its
// instance mod Groups, and each of these profiles then stands for Groups of them (its weight).
type Rotate struct {
	Types  []string `json:"types"`
	Groups int      `json:"groups"`
	SlotMs int64    `json:"slot_ms"`
}

// CaptureOffer says whether the collector wants to be asked for captures.
type CaptureOffer struct {
	Poll bool `json:"poll"`
}

// Config configures a Handler. Sink, Processes and Limits are required.
type Config struct {
	Sink      Sink
	Processes Processes
	Limits    Limits
	Settings  func(process labels.Labels) *Settings // nil: agents keep their own settings
	// Seen keeps processes that pushes tell of without profiles; catalog.Catalog's PutProcesses is one. nil: nobody does.
	Seen   func(ctx context.Context, ps []catalog.Process) error
	Series series.Appender // keeps the metrics of pushes; nil: nobody does
	Lines  wire.LinesSink  // keeps their lines; nil: nobody does
	// Relay, if not nil, takes all pushes as they came instead of Sink, Processes, Settings, Seen, Series and Lines: this is a station on the way.
	Relay      Relay
	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Handler answers pushes.
type Handler struct {
	cfg    Config
	slots  chan struct{} // requests that are read, decoded or wait for the store to take them
	budget budget        // of what is read

	working  chan struct{}       // requests that decode, until the store has taken them
	decoding *semaphore.Weighted // bytes of what is decoded
	known    processCache
	metrics  *metrics
	quiet    quiet
}

// inflightFactor is how many pushes of the largest allowed decompressed size fit into memory at once. Decoded profiles have as much again.
const inflightFactor = 4

func (h *Handler) inflight() int64 { return inflightFactor * h.cfg.Limits.DecompressedBytes }

// New returns a Handler.
func New(cfg Config) *Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := &Handler{cfg: cfg, slots: make(chan struct{}, cfg.Limits.Concurrent), metrics: newMetrics(cfg.Registerer)}
	h.budget.left.Store(h.inflight())
	h.working = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	h.decoding = semaphore.NewWeighted(h.inflight())
	return h
}

// Register adds the endpoints to mux.
func (h *Handler) Register(mux *http.ServeMux) {
	limit := h.cfg.Limits.BodyBytes
	mux.Handle("POST /api/v1/push", h.endpoint("push", limit, h.push))
	mux.Handle("POST /api/v1/profiles", h.endpoint("profiles", limit, h.profile))
	mux.Handle("POST /api/v1/batch", h.endpoint("batch", batchFactor*limit, h.batch))
}

// endpoint wraps what all endpoints share: the bound on requests at once, the bound of the body, metrics and errors.
func (h *Handler) endpoint(name string, limit int64, serve func(*request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		answer, err := h.boundedBy(w, r, limit, serve)
		status := http.StatusOK
		if err != nil {
			e := h.refusal(r, err)
			status = e.Status
			reply.Fail(w, e)
		} else {
			reply.JSON(w, answer)
		}
		h.metrics.observe(name, status, time.Since(start))
	})
}

// bounded serves a request whose body is at most that of a push.
func (h *Handler) bounded(w http.ResponseWriter, r *http.Request, serve func(*request) (any, error)) (any, error) {
	return h.boundedBy(w, r, h.cfg.Limits.BodyBytes, serve)
}

func (h *Handler) boundedBy(w http.ResponseWriter, r *http.Request, limit int64, serve func(*request) (any, error)) (any, error) {
	select {
	case h.slots <- struct{}{}:
	default:
		return nil, &reply.Error{Status: http.StatusTooManyRequests, Message: "too many pushes at once", Limit: "max_concurrent_pushes",
			Max: int64(cap(h.slots)), RetryAfter: 1}
	}
	req := &request{h: h, r: r, slot: true}
	defer req.release()
	if r.ContentLength > limit {
		return nil, bodyTooLarge(limit, r.ContentLength)
	}
	req.paced = newPacedBody(w, http.MaxBytesReader(w, r.Body, limit))
	req.body = req.paced
	return serve(req)
}

// append stores p and turns the store's errors into answers. duplicate is true where p was stored before.
func (h *Handler) append(ctx context.Context, p store.Push) (duplicate bool, err error) {
	err = h.cfg.Sink.Append(ctx, p)
	if err == nil {
		for i := range p.Profiles {
			h.metrics.stored(p.Profiles[i].Type)
		}
	}
	return h.stored(ctx, err)
}

// stored turns what a store or spool said into an answer.
func (h *Handler) stored(ctx context.Context, err error) (duplicate bool, _ error) {
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, catalog.ErrDuplicate):
		h.metrics.duplicates.Inc()
		return true, nil
	case ctx.Err() != nil:
		return false, &reply.Error{Status: http.StatusServiceUnavailable, Message: "the request was given up", RetryAfter: 1, Cause: err}
	}
	if le, ok := errors.AsType[*store.LimitError](err); ok {
		return false, &reply.Error{Status: http.StatusTooManyRequests, Message: le.Error(), Limit: le.Limit, Max: le.Max, Got: le.Got,
			RetryAfter: 60, Hint: "fewer distinct labels, or a higher " + le.Limit}
	}
	if e, ok := errors.AsType[*reply.Error](err); ok {
		return false, e
	}
	if errors.Is(err, store.ErrInvalid) {
		return false, reply.Errorf(http.StatusUnprocessableEntity, "%v", err)
	}
	if errors.Is(err, blob.ErrNoSpace) || errors.Is(err, catalog.ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		hint := "free space on the collector's data directory, or lower retention_size"
		if h.cfg.Relay != nil {
			hint = "free space on the sidecar's data directory, or lower spool_bytes"
		}
		return false, &reply.Error{Status: http.StatusServiceUnavailable, Message: "no space left to store the push", RetryAfter: 30, Hint: hint, Cause: err}
	}
	return false, &reply.Error{Status: http.StatusServiceUnavailable, Message: "cannot store the push now", RetryAfter: 5,
		Hint: "the collector's log has the details", Cause: err}
}

// refusal makes err an answer, logs it and counts it.
func (h *Handler) refusal(r *http.Request, err error) *reply.Error {
	e, ok := errors.AsType[*reply.Error](err)
	if !ok {
		e = &reply.Error{Status: http.StatusInternalServerError, Message: "internal error", Cause: err}
	}
	h.metrics.refuse(e)
	level, more := slog.LevelDebug, int64(0)
	if e.Status >= 500 && r.Context().Err() == nil {
		// A full disk refuses every push of a fleet: the same words once a minute, with how many there were.
		if first, n := h.quiet.say(e.Message, time.Now()); first {
			level, more = slog.LevelError, n
		}
	}
	h.cfg.Logger.Log(r.Context(), level, "push refused", "path", r.URL.Path, "status", e.Status, "error", e.Message, "limit", e.Limit, "cause", e.Cause, "since_last", more)
	return e
}

func bodyTooLarge(limit, got int64) *reply.Error {
	return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the body is too large", Limit: "max_body_bytes", Max: limit, Got: max(got, 0)}
}

// readError turns an error of reading the body into an answer; what says what was being read.
func readError(what string, err error) error {
	if _, ok := errors.AsType[*reply.Error](err); ok {
		return err
	}
	if mb, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return bodyTooLarge(mb.Limit, 0)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &reply.Error{Status: http.StatusRequestTimeout, Message: "read " + what + ": the body comes too slowly", Limit: "min_body_pace", Max: paceBytes,
			Hint: fmt.Sprintf("at least max bytes each %v, all of it within %v", paceTime, bodyTime), Cause: err}
	}
	msg := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		msg = "ends too early"
	}
	return &reply.Error{Status: http.StatusBadRequest, Message: "read " + what + ": " + msg, Cause: err}
}
