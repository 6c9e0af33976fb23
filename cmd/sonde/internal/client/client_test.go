package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newClient(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := New(Config{URL: srv.URL, Token: "secret", UserAgent: "sonde/test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestNew(t *testing.T) {
	tests := []struct {
		url, want string // "": an error
	}{
		{"http://127.0.0.1:7070", "http://127.0.0.1:7070/api/v1/x?a=b"},
		{"http://127.0.0.1:7070/", "http://127.0.0.1:7070/api/v1/x?a=b"},
		{"https://sonde.example/base", "https://sonde.example/base/api/v1/x?a=b"},
		{"127.0.0.1:7070", "http://127.0.0.1:7070/api/v1/x?a=b"},
		{"ftp://host", ""},
		{"http://", ""},
		{"", ""},
	}
	for _, tt := range tests {
		c, err := New(Config{URL: tt.url})
		if tt.want == "" {
			if err == nil {
				t.Errorf("New(%q) = nil error", tt.url)
			}
			continue
		}
		if err != nil {
			t.Errorf("New(%q): %v", tt.url, err)
			continue
		}
		if got := c.URL("/api/v1/x", url.Values{"a": {"b"}}); got != tt.want {
			t.Errorf("New(%q): URL = %q, want %q", tt.url, got, tt.want)
		}
	}
}

func TestGetJSON(t *testing.T) {
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("User-Agent") != "sonde/test" {
			t.Errorf("headers = %v", r.Header)
		}
		io.WriteString(w, `{"processes":[{"pid":7,"service":"cart"}],"summary":"1 Go process"}`)
	})
	var ps Processes
	if err := c.GetJSON(t.Context(), "/api/v1/processes", nil, &ps); err != nil {
		t.Fatal(err)
	}
	if len(ps.Processes) != 1 || ps.Processes[0].PID != 7 || ps.Summary != "1 Go process" {
		t.Errorf("got %+v", ps)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name   string
		status int
		header string // Retry-After
		body   string
		want   string
		hint   string
	}{
		{"limit", 413, "", `{"error":"the body is too large","limit":"max_body_bytes","max":16,"got":20,"hint":"send less"}`,
			"the body is too large (limit max_body_bytes is 16, got 20) (413)", "send less"},
		{"wait", 429, "3", `{"error":"too many"}`, "too many (429)", "try again in 3s"},
		{"token", 401, "", `{"error":"a token is needed"}`, "a token is needed (401)", "--token-file"},
		{"another server", 502, "", "<html>bad gateway</html>", "<html>bad gateway</html> (502)", ""},
		{"nothing", 500, "", "", "Internal Server Error (500)", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.header != "" {
					w.Header().Set("Retry-After", tt.header)
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			})
			_, err := c.Get(t.Context(), "/x", nil)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error is %T %v, want *Error", err, err)
			}
			if e.Error() != tt.want || !strings.Contains(e.Hint(), tt.hint) || tt.hint == "" && e.Hint() != "" {
				t.Errorf("error %q, hint %q, want %q and %q", e, e.Hint(), tt.want, tt.hint)
			}
		})
	}
}

func TestNotJSON(t *testing.T) {
	c := newClient(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })
	var v any
	if err := c.GetJSON(t.Context(), "/x", nil, &v); err == nil || !strings.Contains(err.Error(), "read answer of /x") {
		t.Errorf("error = %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	c, err := New(Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(t.Context(), "/x", nil)
	e, ok := errors.AsType[*UnreachableError](err)
	if !ok || !strings.Contains(e.Hint(), "sonde serve") || strings.Contains(err.Error(), "/x") {
		t.Errorf("error = %v, want *UnreachableError with a hint", err)
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	c := newClient(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, "/x", nil)
	if e, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(e.Hint(), "--timeout") {
		t.Errorf("error = %v, want a hint at --timeout", err)
	}
}

// transport answers without a network, so that time is synctest's.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

func TestPushIsRepeated(t *testing.T) {
	tests := []struct {
		name    string
		key     string
		answers []func() (*http.Response, error)
		want    string // status, "" for an error
		tries   int32
		atLeast time.Duration
	}{
		{"ok at once", "k", []func() (*http.Response, error){
			func() (*http.Response, error) { return answer(200, nil, `{"status":"ok","samples":3}`), nil }}, "ok", 1, 0},
		{"told to wait", "k", []func() (*http.Response, error){
			func() (*http.Response, error) {
				return answer(429, http.Header{"Retry-After": {"7"}}, `{"error":"busy"}`), nil
			},
			func() (*http.Response, error) { return answer(200, nil, `{"status":"ok"}`), nil }}, "ok", 2, 7 * time.Second},
		{"the answer is lost", "k", []func() (*http.Response, error){
			func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
			func() (*http.Response, error) { return answer(200, nil, `{"status":"duplicate"}`), nil }}, "duplicate", 2, 0},
		{"without a key it could be stored twice", "", []func() (*http.Response, error){
			func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }}, "", 1, 0},
		{"refused", "k", []func() (*http.Response, error){
			func() (*http.Response, error) { return answer(422, nil, `{"error":"no profile"}`), nil }}, "", 1, 0},
		{"never", "k", []func() (*http.Response, error){
			func() (*http.Response, error) { return answer(503, nil, `{"error":"full"}`), nil }}, "", pushAttempts, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries atomic.Int32
				c, err := New(Config{URL: "http://collector", Transport: transport(func(r *http.Request) (*http.Response, error) {
					body, err := io.ReadAll(r.Body)
					if err != nil || string(body) != "bytes" || r.Header.Get("Idempotency-Key") != tt.key {
						t.Errorf("body %q, %v, key %q", body, err, r.Header.Get("Idempotency-Key"))
					}
					n := int(tries.Add(1)) - 1
					return tt.answers[min(n, len(tt.answers)-1)]()
				})})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				a, err := c.Push(t.Context(), url.Values{"service": {"s"}}, tt.key, []byte("bytes"))
				if (err == nil) != (tt.want != "") || a.Status != tt.want {
					t.Errorf("Push = %+v, %v, want %q", a, err, tt.want)
				}
				if tries.Load() != tt.tries {
					t.Errorf("%d tries, want %d", tries.Load(), tt.tries)
				}
				if took := time.Since(start); took < tt.atLeast {
					t.Errorf("waited %v, want at least %v", took, tt.atLeast)
				}
			})
		})
	}
}
