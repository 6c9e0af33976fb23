package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/gops/signal"

	"github.com/sonde-io/sonde/collector/discover"
)

var (
	errRival      = errors.New("someone else is taking a CPU profile")
	errNotServed  = errors.New("the target does not serve this type")
	errTooLong    = errors.New("the target's server writes for a shorter time than the profile takes")
	errUnanswered = errors.New("no answer") // nothing of the target was reached: the other types need not be tried
)

// gopsCPU is how long a gops agent's CPU profile takes; it cannot be told otherwise.
const gopsCPU = 30 * time.Second

// gopsTrace is how long a gops agent's execution trace takes.
const gopsTrace = 5 * time.Second

// fetcher gets profiles over HTTP and from gops agents.
type fetcher struct {
	client  *http.Client
	agent   string
	timeout time.Duration
	maxBody int64
}

func newFetcher(cfg Config) *fetcher {
	dialer := &net.Dialer{Timeout: cfg.Timeout}
	return &fetcher{
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:            dialer.DialContext,
				TLSHandshakeTimeout:    cfg.Timeout,
				DisableCompression:     true, // profiles are gzipped already
				MaxIdleConnsPerHost:    1,
				IdleConnTimeout:        10 * time.Second, // an idle connection keeps the target's Shutdown waiting
				MaxResponseHeaderBytes: 64 << 10,
			},
			// A target must not send us elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		agent:   discover.UserAgent(cfg.Version),
		timeout: cfg.Timeout,
		maxBody: cfg.MaxBody,
	}
}

func (f *fetcher) close() { f.client.CloseIdleConnections() }

// get fetches one profile of type ty. length is that of a CPU profile.
func (f *fetcher) get(ctx context.Context, t *Target, ty string, length time.Duration) ([]byte, error) {
	if t.GopsAddr != "" {
		return f.gops(ctx, t, ty)
	}
	path := "/" + ty
	timeout := f.timeout
	if ty == "cpu" {
		path = "/profile?seconds=" + strconv.Itoa(int(length/time.Second))
		timeout += length
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no whole answer within %v", timeout))
	defer cancel()
	answer, err := f.open(ctx, t, path)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	body, err := f.readAll(answer)
	if err != nil {
		return nil, cause(ctx, err)
	}
	return body, nil
}

// open asks for a path below the target's URL and returns the body of its answer, which the caller closes.
func (f *fetcher) open(ctx context.Context, t *Target, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", f.agent)
	resp, err := f.do(t, req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnanswered, cause(ctx, err))
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, statusError(resp)
	}
	return resp.Body, nil
}

// readAll reads at most maxBody bytes.
func (f *fetcher) readAll(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, f.maxBody+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > f.maxBody {
		return nil, fmt.Errorf("answer is larger than %d bytes", f.maxBody)
	}
	return body, nil
}

// cause prefers what ended ctx to what the transport made of it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// statusError reads what an answer other than 200 means.
func statusError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // the status says enough without it
	text, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed:
		return errNotServed
	case strings.Contains(text, "already in use"):
		return errRival
	case strings.Contains(text, "exceeds server's WriteTimeout"):
		return errTooLong
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("answered %s to %q: redirects are not followed", resp.Status, resp.Header.Get("Location"))
	}
	if len(text) > 200 {
		text = text[:200]
	}
	return fmt.Errorf("answered %s: %q", resp.Status, text)
}

// gops sends one command to a gops agent and reads its answer. The agent serves one connection at a time and leaves it open where it
// fails, so every wait has a deadline.
func (f *fetcher) gops(ctx context.Context, t *Target, ty string) ([]byte, error) {
	command, wait := signal.HeapProfile, f.timeout
	switch ty {
	case "heap":
	case "cpu":
		command, wait = signal.CPUProfile, gopsCPU+min(f.timeout, 5*time.Second)
	case "trace":
		command, wait = signal.Trace, gopsTrace+f.timeout
	case "goroutines":
		command = signal.StackTrace
	default:
		if command = gopsNumbers[ty]; command == 0 {
			return nil, errNotServed
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("no whole answer within %v", wait))
	defer cancel()
	dial := t.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: min(f.timeout, time.Second)}).DialContext
	}
	conn, err := dial(ctx, "tcp", t.GopsAddr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnanswered, cause(ctx, err))
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := conn.Write([]byte{command}); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnanswered, cause(ctx, err))
	}
	body, err := f.readAll(conn)
	switch {
	case len(body) == 0 && ty == "cpu" && context.Cause(ctx) != nil && err != nil:
		// What an agent does whose program is being profiled already: it says so on its own stderr, and to us nothing.
		return nil, errRival
	case err != nil:
		return nil, cause(ctx, err)
	case len(body) == 0:
		return nil, errors.New("the gops agent sent nothing")
	}
	return body, nil
}
