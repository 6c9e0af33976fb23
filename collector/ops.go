package collector

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"github.com/sonde-io/sonde/collector/reply"
)

// check is one condition of being ready.
type check struct {
	name string
	ok   func(context.Context) error
}

// readiness answers /readyz: ready once everything runs, not any more once draining has begun.
type readiness struct {
	draining atomic.Bool
	checks   []check
}

// checkTimeout bounds all checks of one request together.
const checkTimeout = 5 * time.Second

// ServeHTTP answers 200 or 503; with ?verbose (or a failure) a line for each check.
func (s *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	var b strings.Builder
	ready := true
	line := func(name string, err error) {
		if err != nil {
			ready = false
			fmt.Fprintf(&b, "[-] %s: %v\n", name, err)
			return
		}
		fmt.Fprintf(&b, "[+] %s\n", name)
	}
	var draining error
	if s.draining.Load() {
		draining = errDraining
	}
	line("accepting", draining)
	for _, c := range s.checks {
		line(c.name, c.ok(ctx))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// A prober that is gone is nobody to tell.
	if _, verbose := r.URL.Query()["verbose"]; verbose || !ready {
		_, _ = w.Write([]byte(b.String()))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// recording notes what was answered, for the log, and whether anything was, for recovering from a panic.
type recording struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recording) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recording) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *recording) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observe logs requests at debug and answers 500 where a handler panics, so that one bad request does not end the others.
func observe(log *slog.Logger, panics interface{ Inc() }, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recording{ResponseWriter: w}
		start := time.Now()
		defer func() {
			if x := recover(); x != nil {
				if x == http.ErrAbortHandler {
					panic(x) // the way to break a connection off; net/http does not log it
				}
				panics.Inc()
				log.Error("handler panicked", "method", r.Method, "path", r.URL.Path, "panic", x, "stack", string(debug.Stack()))
				if rec.status == 0 {
					reply.Fail(rec, fmt.Errorf("panic: %v", x))
				}
			}
			log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "bytes", rec.bytes, "took", time.Since(start), "remote", r.RemoteAddr)
		}()
		next.ServeHTTP(rec, r)
	})
}

// compressed gzips JSON and text of the API for clients that take it; profiles are gzipped already.
func compressed() (func(http.Handler) http.HandlerFunc, error) {
	return gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.ContentTypes([]string{"application/json", "text/plain"}), gzhttp.EnableZstd(false))
}
