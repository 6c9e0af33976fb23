package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds an answer that is kept in memory, in bytes: the widest flame graph has 65,536 nodes.
const maxAnswer = 256 << 20

// pushAttempts is how often a push is tried where the collector says that waiting helps, or cannot be reached half-way.
const pushAttempts = 5

// Config says where the collector is. The zero value of everything but URL works.
type Config struct {
	URL       string // such as http://127.0.0.1:7070
	Token     string // "" sends none
	UserAgent string
	Transport http.RoundTripper // nil: http.DefaultTransport
}

// Client asks one collector.
type Client struct {
	base  *url.URL
	token string
	agent string
	http  *http.Client
}

// New returns a client, or an error where cfg.URL is not one.
func New(cfg Config) (*Client, error) {
	raw := cfg.URL
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("parse server %q: want http://HOST:PORT or https://HOST:PORT", cfg.URL)
	}
	return &Client{base: u, token: cfg.Token, agent: cfg.UserAgent, http: &http.Client{Transport: cfg.Transport}}, nil
}

// URL returns the address of path with parameters q.
func (c *Client) URL(path string, q url.Values) string {
	u := c.base.JoinPath(path)
	u.RawQuery = q.Encode()
	return u.String()
}

// Close gives idle connections up.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is an answer that is not 200.
type Error struct {
	Status     int
	Message    string
	Limit      string // the limit's name, "" where none was broken
	Max, Got   int64
	Cure       string
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	msg := e.Message
	if msg == "" {
		msg = http.StatusText(e.Status)
	}
	if e.Limit != "" && e.Max > 0 && !strings.Contains(msg, e.Limit) {
		msg += fmt.Sprintf(" (limit %s is %d, got %d)", e.Limit, e.Max, e.Got)
	}
	return fmt.Sprintf("%s (%d)", msg, e.Status)
}

// Hint says what cures the error, "" where nothing is known to.
func (e *Error) Hint() string {
	switch {
	case e.Cure != "":
		return e.Cure
	case e.Status == http.StatusUnauthorized:
		return "this collector asks for a token: set SONDE_TOKEN, or name the file with --token-file"
	case e.RetryAfter > 0:
		return fmt.Sprintf("try again in %v", e.RetryAfter)
	}
	return ""
}

// UnreachableError says that no collector answered.
type UnreachableError struct {
	URL string
	Err error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("reach collector at %s: %v", e.URL, e.Err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }

// Hint says how to get a collector.
func (e *UnreachableError) Hint() string {
	if errors.Is(e.Err, context.DeadlineExceeded) {
		return "it took too long: ask for less, or give it longer with --timeout"
	}
	return "is it running? `sonde serve` starts one; --server or SONDE_URL names another"
}

// Get asks for path and returns the answer's body, which the caller closes.
func (c *Client) Get(ctx context.Context, path string, q url.Values) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL(path, q), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// GetJSON asks for path and decodes the answer into v.
func (c *Client) GetJSON(ctx context.Context, path string, q url.Values, v any) error {
	body, err := c.Get(ctx, path, q)
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return &UnreachableError{URL: c.base.String(), Err: context.Cause(ctx)}
	case err != nil:
		return fmt.Errorf("read answer of %s: %w", path, err)
	case len(data) > maxAnswer:
		return fmt.Errorf("read answer of %s: more than %d bytes", path, maxAnswer)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// Push sends one pprof profile. With a key it is repeated where the collector says that waiting helps or the connection breaks;
// the collector stores it once.
func (c *Client) Push(ctx context.Context, q url.Values, key string, data []byte) (PushAnswer, error) {
	var last error
	for attempt := range pushAttempts {
		if attempt > 0 {
			if err := sleep(ctx, backoff(attempt, last)); err != nil {
				return PushAnswer{}, last
			}
		}
		answer, err := c.push(ctx, q, key, data)
		if err == nil {
			return answer, nil
		}
		last = err
		if key == "" || !temporary(err) || ctx.Err() != nil {
			break
		}
	}
	return PushAnswer{}, last
}

func (c *Client) push(ctx context.Context, q url.Values, key string, data []byte) (PushAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL("/api/v1/profiles", q), bytes.NewReader(data))
	if err != nil {
		return PushAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := c.do(req)
	if err != nil {
		return PushAnswer{}, err
	}
	defer resp.Body.Close()
	var a PushAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&a); err != nil {
		return PushAnswer{}, fmt.Errorf("read answer of push: %w", err)
	}
	return a, nil
}

// temporary reports whether the same push may succeed later.
func temporary(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable
	}
	_, ok := errors.AsType[*UnreachableError](err)
	return ok
}

// backoff is what the collector asked for, else full jitter up to 0.5, 1, 2, 4 s.
func backoff(attempt int, last error) time.Duration {
	if e, ok := errors.AsType[*Error](last); ok && e.RetryAfter > 0 {
		return e.RetryAfter
	}
	return time.Duration(rand.Int64N(int64(500*time.Millisecond) << (attempt - 1)))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// do sends req and returns an answer of status 200, whose body the caller closes.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // its text repeats the whole URL
		}
		return nil, &UnreachableError{URL: c.base.String(), Err: err}
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp)
}

func readError(resp *http.Response) *Error {
	e := &Error{Status: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return e
	}
	var body struct {
		Error, Limit, Hint string
		Max, Got           int64
	}
	if json.Unmarshal(data, &body) != nil || body.Error == "" {
		e.Message = strings.ToValidUTF8(strings.TrimSpace(string(data[:min(len(data), 300)])), "�")
		return e
	}
	e.Message, e.Limit, e.Max, e.Got, e.Cure = body.Error, body.Limit, body.Max, body.Got, body.Hint
	return e
}
