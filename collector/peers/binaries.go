package peers

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// uploadTime is how long a binary may take to come: 1 GiB at 4 MB/s.
const uploadTime = 5 * time.Minute

// uploads bounds how many binaries come at once: each takes its size on disk until it is read.
const uploads = 2

// putBinary answers PUT /api/v1/binaries: the body is an ELF file, gzipped or not.
func (h *Handler) putBinary(w http.ResponseWriter, r *http.Request) {
	ids, err := h.takeBinary(w, r)
	if err != nil {
		reply.Fail(w, err)
		return
	}
	reply.JSON(w, struct {
		Status string `json:"status"`
		binaries.IDs
	}{"ok", ids})
}

func (h *Handler) takeBinary(w http.ResponseWriter, r *http.Request) (ids binaries.IDs, err error) {
	select {
	case h.uploading <- struct{}{}:
		defer func() { <-h.uploading }()
	default:
		return ids, &reply.Error{Status: http.StatusTooManyRequests, Message: "too many binaries at once", Limit: "max_uploads", Max: uploads, RetryAfter: 10}
	}
	rc := http.NewResponseController(w)
	end := time.Now().Add(uploadTime)
	_, _ = rc.SetReadDeadline(end), rc.SetWriteDeadline(end.Add(time.Minute)) // where they cannot be set, the server's own hold
	body := io.Reader(r.Body)
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		if body, err = gzip.NewReader(r.Body); err != nil {
			return ids, reply.Errorf(http.StatusBadRequest, "read gzip: %v", err)
		}
	default:
		return ids, reply.Errorf(http.StatusUnsupportedMediaType, "content encoding %.32q, want gzip or none", r.Header.Get("Content-Encoding"))
	}
	from := &readFailure{r: body}
	ids, err = h.cfg.Binaries.Put(r.Context(), from)
	switch {
	case err == nil:
		return ids, nil
	case from.err != nil:
		return ids, reply.Errorf(http.StatusBadRequest, "read binary: %v", from.err)
	case errors.Is(err, binaries.ErrTooLarge):
		return ids, &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: err.Error(), Limit: "max_binary_bytes", Max: h.cfg.Binaries.MaxFile()}
	case errors.Is(err, binaries.ErrNotELF):
		return ids, &reply.Error{Status: http.StatusUnprocessableEntity, Message: err.Error(), Hint: "the body is the executable, or the shared library, as it was built"}
	}
	return ids, &reply.Error{Status: http.StatusServiceUnavailable, Message: "cannot keep the binary now", RetryAfter: 30, Hint: "the collector's data directory has to be writable", Cause: err}
}

// readFailure remembers an error of the sender's side.
type readFailure struct {
	r   io.Reader
	err error
}

func (f *readFailure) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// listBinaries answers GET /api/v1/binaries.
func (h *Handler) listBinaries(w http.ResponseWriter, _ *http.Request) {
	known, wanted := h.cfg.Binaries.List()
	if known == nil {
		known = []binaries.Binary{}
	}
	if wanted == nil {
		wanted = []binaries.Wanted{}
	}
	reply.JSON(w, struct {
		Binaries []binaries.Binary `json:"binaries"`
		Wanted   []binaries.Wanted `json:"wanted"`
	}{known, wanted})
}
