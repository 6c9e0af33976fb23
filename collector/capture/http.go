package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

const (
	maxRequest   = 1 << 20 // bytes of a request that is no result: 10,000 instances of a sidecar
	maxInstances = 10_000  // of one poll
	maxWait      = 60 * time.Second
	resultTime   = 4 * time.Minute // for the body of a result: 64 MiB at 2 Mbit/s
)

// Register adds the endpoints of executors to mux: a collector's with its Broker, a sidecar's with its Relay.
//
//	POST /api/v1/captures/next, POST /api/v1/captures/claim, POST /api/v1/captures/{id}/result
func Register(mux *http.ServeMux, s Source, log *slog.Logger) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &handler{s, log}
	mux.HandleFunc("POST /api/v1/captures/next", h.next)
	mux.HandleFunc("POST /api/v1/captures/claim", h.claim)
	mux.HandleFunc("POST /api/v1/captures/{id}/result", h.result)
}

type handler struct {
	source Source
	log    *slog.Logger
}

// next answers 200 with tasks, or 204 after the wait.
func (h *handler) next(w http.ResponseWriter, r *http.Request) {
	var q nextRequest
	if !h.read(w, r, &q) {
		return
	}
	switch {
	case len(q.Instances) == 0 || len(q.Instances) > maxInstances:
		h.fail(w, r, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "instances: want at least one, and not too many", Limit: "max_poll_instances", Max: maxInstances, Got: int64(len(q.Instances))})
		return
	case q.WaitMs < 0 || q.WaitMs > maxWait.Milliseconds():
		h.fail(w, r, reply.Errorf(http.StatusUnprocessableEntity, "wait_ms %d is not within 0 and %d", q.WaitMs, maxWait.Milliseconds()))
		return
	}
	for _, i := range q.Instances {
		if i == "" || len(i) > 128 {
			h.fail(w, r, reply.Errorf(http.StatusUnprocessableEntity, "instances: %.64q cannot name a process", i))
			return
		}
	}
	tasks, err := h.source.Next(r.Context(), q.Instances, time.Duration(q.WaitMs)*time.Millisecond)
	switch {
	case err != nil:
		h.fail(w, r, err)
	case len(tasks) == 0:
		w.WriteHeader(http.StatusNoContent)
	default:
		reply.JSON(w, nextAnswer{tasks})
	}
}

func (h *handler) claim(w http.ResponseWriter, r *http.Request) {
	var c Claim
	if !h.read(w, r, &c) {
		return
	}
	g, err := h.source.Claim(r.Context(), c)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	reply.JSON(w, g)
}

// result takes the bytes of a capture as the request's body, or the reason for having none in the parameter error.
func (h *handler) result(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	res := Result{ID: r.PathValue("id"), Instance: q.Get("instance"), Kind: q.Get("kind"), Error: truncate(q.Get("error"), maxError), ContentType: r.Header.Get("Content-Type")}
	var errs []error
	for _, p := range []struct {
		name string
		to   *int64
	}{{"from", &res.From}, {"to", &res.To}} {
		if text := q.Get(p.name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 0 {
				errs = append(errs, fmt.Errorf("parameter %s: %.32q is not a time in Unix milliseconds", p.name, text))
			}
			*p.to = n
		}
	}
	if len(res.ID) > 64 || len(res.Instance) > 128 || res.Instance == "" {
		errs = append(errs, errors.New("parameter instance is missing, or the capture's id is none"))
	}
	if len(errs) > 0 {
		h.fail(w, r, reply.Errorf(http.StatusBadRequest, "%v", errors.Join(errs...)))
		return
	}
	// The server's own limit is for pushes. Where the connection cannot be told, that one counts.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(resultTime))
	res.Body = http.MaxBytesReader(w, r.Body, maxBytes)
	if err := h.source.Deliver(r.Context(), res); err != nil {
		h.fail(w, r, err)
		return
	}
	reply.JSON(w, map[string]string{"status": "ok"})
}

func (h *handler) read(w http.ResponseWriter, r *http.Request, v any) bool {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		h.fail(w, r, badBody(err))
	}
	return err == nil
}

func badBody(err error) error {
	if mb, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the body is too large", Limit: "max_capture_bytes", Max: mb.Limit, Cause: err}
	}
	return &reply.Error{Status: http.StatusBadRequest, Message: "read request: " + err.Error(), Cause: err}
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := Refusal(err)
	level := slog.LevelDebug
	if e.Status >= 500 && e.Status != http.StatusServiceUnavailable && r.Context().Err() == nil { // nothing is wrong where the client left
		level = slog.LevelError
	}
	h.log.Log(r.Context(), level, "request about captures failed", "path", r.URL.Path, "status", e.Status, "error", e.Message, "cause", e.Cause)
	reply.Fail(w, e)
}

// Refusal makes an answer of an error of a Source's or a Broker's.
func Refusal(err error) *reply.Error {
	if e, ok := errors.AsType[*reply.Error](err); ok {
		return e
	}
	if le, ok := errors.AsType[*LimitError](err); ok {
		e := &reply.Error{Status: http.StatusTooManyRequests, Message: err.Error(), Limit: le.Limit, Max: le.Max, Got: le.Got, RetryAfter: 5, Cause: err}
		if le.Limit == limitBytes {
			e.Status, e.RetryAfter, e.Hint = http.StatusRequestEntityTooLarge, 0, "a shorter --duration makes a smaller trace"
		}
		return e
	}
	if mb, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the capture is too large", Limit: limitBytes, Max: mb.Limit, Hint: "a shorter --duration makes a smaller trace", Cause: err}
	}
	switch {
	case errors.Is(err, ErrUnknown), errors.Is(err, catalog.ErrNotFound):
		return &reply.Error{Status: http.StatusNotFound, Message: ErrUnknown.Error(), Cause: err}
	case errors.Is(err, ErrInvalid):
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: err.Error(), Cause: err}
	case errors.Is(err, ErrNobody):
		return &reply.Error{Status: http.StatusNotFound, Message: err.Error(), Hint: "`sonde ps` lists the processes and how each is gathered; agents can be asked while they hold a poll open", Cause: err}
	case errors.Is(err, ErrClosing):
		return &reply.Error{Status: http.StatusServiceUnavailable, Message: ErrClosing.Error(), RetryAfter: 1, Cause: err}
	case errors.Is(err, blob.ErrNoSpace), errors.Is(err, catalog.ErrNoSpace):
		return &reply.Error{Status: http.StatusServiceUnavailable, Message: "no space left on the collector's disk", RetryAfter: 30, Cause: err}
	}
	return &reply.Error{Status: http.StatusInternalServerError, Message: "internal error", Hint: "the collector's log has the details", Cause: err}
}
