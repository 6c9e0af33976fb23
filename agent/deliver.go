package agent

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

// deliver sends a capture or its error. It is the end of c.
func (t *taker) deliver(ctx context.Context, id, kind string, d time.Duration, c *captured, err error) {
	if err == nil {
		err = t.result(ctx, id, kind, d, c)
		c.done()
		t.halting(nil)
		var final *refusedError
		if err == nil || errors.As(err, &final) {
			if err != nil {
				t.a.say("result", "sonde agent: collector refused a capture", "kind", kind, "err", err)
			}
			return
		}
	}
	text := t.a.privacy.text(err.Error())
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "")
	}
	for try := 1; ; try++ {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, t.a.cfg.Timeout)
			defer cancel()
			return t.send(ctx, t.path(id, kind)+"&error="+url.QueryEscape(text), "text/plain", http.NoBody, 0)
		}()
		var final *refusedError
		if err == nil {
			return
		}
		if try == resultTries || errors.As(err, &final) || ctx.Err() != nil {
			t.a.say("result", "sonde agent: cannot send a capture", "kind", kind, "err", err)
			return
		}
		t.wait(rand.N(backoffBase<<try) + time.Millisecond)
	}
}

func (t *taker) path(id, kind string) string {
	return "/api/v1/captures/" + url.PathEscape(id) + "/result?instance=" + t.a.instance + "&kind=" + url.QueryEscape(kind)
}

// result sends the content. What is not a stream is tried again.
func (t *taker) result(ctx context.Context, id, kind string, d time.Duration, c *captured) error {
	contentType, length := "application/octet-stream", int64(len(c.data)+len(c.tail))
	if c.text {
		contentType = "text/plain; charset=utf-8"
	}
	if c.stream != nil {
		length = -1
	}
	path := t.path(id, kind)
	if !c.from.IsZero() {
		path += "&from=" + strconv.FormatInt(c.from.UnixMilli(), 10)
	}
	if !c.to.IsZero() {
		path += "&to=" + strconv.FormatInt(c.to.UnixMilli(), 10)
	}
	for try := 1; ; try++ {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, d+sendWait)
			defer cancel()
			t.urgent(cancel)
			defer t.urgent(nil)
			return t.send(ctx, path, contentType, io.NopCloser(c.reader()), length)
		}()
		var final *refusedError
		if err == nil || c.stream != nil || try == resultTries || errors.As(err, &final) || ctx.Err() != nil {
			if c.stream != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
				return errors.New("given up for a trigger that cannot wait")
			}
			return err
		}
		t.wait(rand.N(backoffBase<<try) + time.Millisecond)
	}
}

// urgent sets what a trigger that cannot wait does to the result that is sent; it does so at once where one waits already.
func (t *taker) urgent(cancel context.CancelFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sending = cancel; cancel != nil && len(t.fired) > 0 && t.fired[0].window != nil {
		cancel()
	}
}

// refusedError is an answer that trying again would not change.
type refusedError struct{ status, body string }

func (e *refusedError) Error() string { return "collector answered " + e.status + ": " + e.body }

// send posts body and reads the answer away.
func (t *taker) send(ctx context.Context, path, contentType string, body io.Reader, length int64) error {
	req, err := t.a.request(ctx, path, contentType, body, length)
	if err != nil {
		return err
	}
	_, err = t.roundTrip(req)
	return err
}

// call posts in as JSON and reads the answer into out.
func (t *taker) call(ctx context.Context, path string, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := t.a.request(ctx, path, "application/json", bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return err
	}
	body, err := t.roundTrip(req)
	if err != nil || len(body) == 0 {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

func (t *taker) roundTrip(req *http.Request) ([]byte, error) {
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // nothing more to learn from its error
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch code := resp.StatusCode; {
	case err != nil:
		return nil, fmt.Errorf("read answer: %w", err)
	case code >= 200 && code < 300:
		return body, nil
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return nil, &askedError{resp.Status, retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	case code == http.StatusNotFound || code == http.StatusMethodNotAllowed:
		return nil, fmt.Errorf("%w: %w", errUnsupported, &refusedError{resp.Status, fmt.Sprintf("%.200s", body)})
	default:
		return nil, &refusedError{resp.Status, fmt.Sprintf("%.200s", body)}
	}
}
