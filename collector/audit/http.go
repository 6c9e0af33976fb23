package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/vulns"
)

// Register adds the endpoint to mux.
func (a *Auditor) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/vulns", a.answer)
	mux.HandleFunc("POST /api/v1/vulns", a.answer)
}

// answer answers by the configured database, or, to a POST, by the zip file that is its body.
func (a *Auditor) answer(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	report, err := a.serve(w, r)
	status := http.StatusOK
	if err != nil {
		e := a.refusal(r, err)
		status = e.Status
		reply.Fail(w, e)
	} else {
		reply.JSON(w, report)
	}
	a.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	a.duration.Observe(time.Since(start).Seconds())
}

// maxDatabase bounds a database that comes with a request, in bytes. The real one has some 10 MiB.
const maxDatabase = 64 << 20

// posted reads the database that comes with a request.
func posted(w http.ResponseWriter, r *http.Request) (*vulns.Database, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDatabase))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the vulnerability database is too large", Limit: "max_database_bytes", Max: maxDatabase, Cause: err}
	}
	if err != nil {
		return nil, &reply.Error{Status: http.StatusBadRequest, Message: "the vulnerability database did not come whole", Cause: err}
	}
	db, err := vulns.OpenZip(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: err.Error(), Hint: "it is a zip file as https://vuln.go.dev/vulndb.zip", Cause: err}
	}
	return db, nil
}

func (a *Auditor) serve(w http.ResponseWriter, r *http.Request) (*Report, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "read parameters: %v", err)
	}
	for name, values := range v {
		if !slices.Contains([]string{"service", "since"}, name) {
			return nil, reply.Errorf(http.StatusBadRequest, "unknown parameter %.64q: want service, since", name)
		}
		if len(values) > 1 {
			return nil, reply.Errorf(http.StatusBadRequest, "parameter %s is given %d times", name, len(values))
		}
	}
	since := v.Get("since")
	if since == "" {
		since = "now-7d"
	}
	now := a.cfg.Now()
	from, err := profiles.ParseTime(since, now)
	if err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "parameter since: %v", err)
	}
	if from >= now.UnixMilli() {
		return nil, reply.Errorf(http.StatusBadRequest, "parameter since: %.64q is not in the past", since)
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.Timeout)
	defer cancel()
	if r.Method == http.MethodPost {
		select {
		case a.posting <- struct{}{}: // one database in memory at a time
			defer func() { <-a.posting }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		db, err := posted(w, r)
		if err != nil {
			return nil, err
		}
		return a.ReportBy(ctx, db, v.Get("service"), time.UnixMilli(from), now)
	}
	return a.Report(ctx, v.Get("service"), time.UnixMilli(from), now)
}

// statusClientGone is what proxies log for a client that did not wait; nobody reads the answer.
const statusClientGone = 499

func (a *Auditor) refusal(r *http.Request, err error) *reply.Error {
	e, ok := errors.AsType[*reply.Error](err)
	le, limit := errors.AsType[*store.LimitError](err)
	switch {
	case ok:
	case limit:
		e = &reply.Error{Status: http.StatusUnprocessableEntity, Message: le.Error(), Limit: le.Limit, Max: le.Max, Got: le.Got, Hint: "one service, or a shorter time", Cause: err}
	case r.Context().Err() != nil:
		e = &reply.Error{Status: statusClientGone, Message: "the request was given up", Cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		e = &reply.Error{Status: http.StatusServiceUnavailable, Message: "looking for vulnerabilities took too long", Limit: "audit_timeout", Max: a.cfg.Timeout.Milliseconds(), RetryAfter: 1,
			Hint: "one service, or a shorter time (max is in milliseconds)", Cause: err}
	default:
		e = &reply.Error{Status: http.StatusInternalServerError, Message: "internal error", Hint: "the collector's log has the details", Cause: err}
	}
	if e.Status >= 500 {
		a.cfg.Logger.Error("looking for vulnerabilities failed", "query", r.URL.RawQuery, "status", e.Status, "error", e.Message, "cause", e.Cause)
	}
	return e
}
