package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 256 << 20

// Query is what a peer is asked.
type Query struct {
	Type     string // in the peer's words: process_cpu:cpu:nanoseconds:cpu:nanoseconds
	Selector string // {service_name="cart"}
	From, To time.Time
}

// Answer is what it says, and what that cost.
type Answer struct {
	Total int64
	Self  map[string]int64 // by function
	Cut   bool             // functions are missing: what was small was folded into others
	Took  time.Duration    // until the last byte
	Bytes int64            // of the answer, as it came
}

// Store is a store of profiles.
type Store interface {
	// Ask merges what q selects.
	Ask(ctx context.Context, q Query) (*Answer, error)
	// Type returns the peer's word for a type of Sonde's, "" where none is known.
	Type(id string) string
}

// Open returns the store that kind, pyroscope or parca, and its URL name. header is sent with every request.
func Open(kind, base string, header http.Header) (Store, error) {
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("parse peer %q: want http://HOST:PORT or https://HOST:PORT", base)
	}
	switch kind {
	case "pyroscope":
		return &pyroscope{base: u, header: header}, nil
	case "parca":
		return newParca(u, header), nil
	}
	return nil, fmt.Errorf("parse peer %q: want pyroscope=URL or parca=URL", kind)
}

// post sends body and returns the answer's, with its time.
func post(ctx context.Context, c *http.Client, u *url.URL, contentType string, header http.Header, body io.Reader) (*http.Response, []byte, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return nil, nil, 0, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", contentType)
	began := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // its text repeats the whole URL
		}
		return nil, nil, 0, fmt.Errorf("reach %s: %w", u.Host, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	took := time.Since(began)
	switch {
	case err != nil:
		return nil, nil, 0, fmt.Errorf("read answer of %s: %w", u.Host, err)
	case len(data) > maxAnswer:
		return nil, nil, 0, fmt.Errorf("read answer of %s: more than %d bytes", u.Host, maxAnswer)
	case resp.StatusCode != http.StatusOK:
		text := strings.ToValidUTF8(strings.TrimSpace(string(data[:min(len(data), 300)])), "�")
		return nil, nil, 0, fmt.Errorf("ask %s: %s: %s", u.Host, resp.Status, text)
	}
	return resp, data, took, nil
}
