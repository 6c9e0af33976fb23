package collector

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sonde-io/sonde/collector/reply"
)

func TestReadyz(t *testing.T) {
	var broken error
	s := &readiness{checks: []check{{"catalogue", func(context.Context) error { return broken }}}}
	get := func(url string) (int, string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
		return w.Code, w.Body.String()
	}
	for _, tt := range []struct {
		url      string
		broken   error
		draining bool
		status   int
		body     string
	}{
		{"/readyz", nil, false, 200, "ok\n"},
		{"/readyz?verbose", nil, false, 200, "[+] accepting\n[+] catalogue\n"},
		{"/readyz", errors.New("disk gone"), false, 503, "[+] accepting\n[-] catalogue: disk gone\n"},
		{"/readyz", nil, true, 503, "[-] accepting: draining\n[+] catalogue\n"},
	} {
		broken = tt.broken
		s.draining.Store(tt.draining)
		if status, body := get(tt.url); status != tt.status || body != tt.body {
			t.Errorf("%s: %d %q, want %d %q", tt.url, status, body, tt.status, tt.body)
		}
	}
}

func TestPanicsAnswer500(t *testing.T) {
	panics := prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"})
	var log bytes.Buffer
	h := observe(slog.New(slog.NewTextHandler(&log, nil)), panics, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret detail") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/x", nil))
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), `"error":"internal error"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if testutil.ToFloat64(panics) != 1 || !strings.Contains(log.String(), "secret detail") {
		t.Errorf("not counted or not logged: %s", log.String())
	}
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("http.ErrAbortHandler was swallowed")
		}
	}()
	observe(slog.New(slog.DiscardHandler), panics, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/x", nil))
}

func TestCompressedAnswers(t *testing.T) {
	wrap, err := compressed()
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		name, accept string
		answer       func(http.ResponseWriter)
		want         string // content encoding
	}{
		{"JSON", "gzip", func(w http.ResponseWriter) { reply.JSON(w, big) }, "gzip"},
		{"not accepted", "", func(w http.ResponseWriter) { reply.JSON(w, big) }, ""},
		{"small", "gzip", func(w http.ResponseWriter) { reply.JSON(w, "x") }, ""},
		{"profile", "gzip", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/octet-stream")
			io.WriteString(w, big)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			if tt.accept != "" {
				r.Header.Set("Accept-Encoding", tt.accept)
			}
			w := httptest.NewRecorder()
			wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tt.answer(w) }))(w, r)
			if got := w.Header().Get("Content-Encoding"); got != tt.want {
				t.Fatalf("content encoding %q, want %q", got, tt.want)
			}
			if tt.want == "gzip" {
				zr, err := gzip.NewReader(w.Body)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(zr); err != nil || !strings.Contains(string(b), big) {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			}
		})
	}
}
