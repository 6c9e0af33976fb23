package peers

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// Bounds of what sidecars say of the functions of binaries.
const (
	listTime      = time.Minute // for a list to come: 4 MiB at 70 KB/s
	listUploads   = 8           // lists at once: each takes 64 KiB of memory, and the time to read it
	maxAsked      = 1000        // builds in one question
	maxAskedBytes = 256 << 10   // of a question: each build with an id as long as one may be
)

// RegisterFunctions adds the endpoints by which sidecars say which functions are in binaries that are only there. Config.Binaries is required.
func (h *Handler) RegisterFunctions(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/v1/binaries/functions/missing", h.missingFunctions)
	mux.HandleFunc("PUT /api/v1/binaries/functions", h.putFunctions)
}

// missingFunctions answers which of some builds nothing is known of.
func (h *Handler) missingFunctions(w http.ResponseWriter, r *http.Request) {
	ids, err := askedBuilds(w, r)
	if err != nil {
		reply.Fail(w, err)
		return
	}
	reply.JSON(w, h.cfg.Binaries.MissingFunctions(ids))
}

func askedBuilds(w http.ResponseWriter, r *http.Request) (ids []string, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAskedBytes))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the list of builds is too large", Limit: "max_builds_bytes", Max: maxAskedBytes, Cause: err}
	}
	if err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "read list of builds: %v", err)
	}
	if err := json.Unmarshal(body, &ids); err != nil {
		return nil, &reply.Error{Status: http.StatusBadRequest, Message: "read list of builds: " + err.Error(), Hint: `the body is a JSON list of the ids of builds, ["…"]`, Cause: err}
	}
	if len(ids) > maxAsked {
		return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "too many builds in one question", Limit: "max_builds", Max: maxAsked, Got: int64(len(ids))}
	}
	for _, id := range ids {
		if err := binaries.CheckBuildID(id); err != nil {
			return nil, reply.Errorf(http.StatusUnprocessableEntity, "%v", err)
		}
	}
	return ids, nil
}

// putFunctions takes the list of the functions of a build.
func (h *Handler) putFunctions(w http.ResponseWriter, r *http.Request) {
	if err := h.takeFunctions(w, r); err != nil {
		reply.Fail(w, err)
		return
	}
	reply.JSON(w, struct {
		Status string `json:"status"`
	}{"ok"})
}

func (h *Handler) takeFunctions(w http.ResponseWriter, r *http.Request) error {
	id, err := buildOf(r)
	if err != nil {
		return err
	}
	switch r.Header.Get("Content-Encoding") {
	case "", "identity", "gzip": // a list is gzipped as it is: both say the same
	default:
		return reply.Errorf(http.StatusUnsupportedMediaType, "content encoding %.32q, want gzip or none", r.Header.Get("Content-Encoding"))
	}
	select {
	case h.listing <- struct{}{}:
		defer func() { <-h.listing }()
	default:
		return &reply.Error{Status: http.StatusTooManyRequests, Message: "too many lists of functions at once", Limit: "max_function_uploads", Max: listUploads, RetryAfter: 10}
	}
	rc := http.NewResponseController(w)
	end := time.Now().Add(listTime)
	_, _ = rc.SetReadDeadline(end), rc.SetWriteDeadline(end.Add(time.Minute)) // where they cannot be set, the server's own hold
	from := &readFailure{r: r.Body}
	err = h.cfg.Binaries.PutFunctions(r.Context(), id, from)
	limit, large := errors.AsType[*binaries.LimitError](err)
	switch {
	case err == nil:
		return nil
	case from.err != nil:
		return reply.Errorf(http.StatusBadRequest, "read list of functions: %v", from.err)
	case large:
		return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: err.Error(), Limit: limit.Limit, Max: limit.Max}
	case errors.Is(err, binaries.ErrBadList):
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: err.Error(), Hint: "the body is a list as a sidecar makes it of a Go binary; the binary itself goes to PUT /api/v1/binaries"}
	}
	return &reply.Error{Status: http.StatusServiceUnavailable, Message: "cannot keep the list of functions now", RetryAfter: 30, Hint: "the collector's data directory has to be writable", Cause: err}
}

// buildOf reads the parameter build, which is the only one.
func buildOf(r *http.Request) (string, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", reply.Errorf(http.StatusBadRequest, "read parameters: %v", err)
	}
	for name, values := range v {
		if name != "build" {
			return "", reply.Errorf(http.StatusBadRequest, "unknown parameter %.64q: want build", name)
		}
		if len(values) > 1 {
			return "", reply.Errorf(http.StatusBadRequest, "parameter build is given %d times", len(values))
		}
	}
	if err := binaries.CheckBuildID(v.Get("build")); err != nil {
		return "", reply.Errorf(http.StatusBadRequest, "parameter build: %v", err)
	}
	return v.Get("build"), nil
}
