package capture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Remote is the Source that a collector offers over HTTP.
type Remote struct {
	URL       string                 // of the collector, such as https://sonde:7070
	Client    *http.Client           // without a timeout of its own: polls last; nil: http.DefaultClient
	Token     func() (string, error) // nil: none
	UserAgent string
}

var _ Source = (*Remote)(nil)

// nextRequest is the body of POST /api/v1/captures/next.
type nextRequest struct {
	Instances []string `json:"instances"`
	WaitMs    int64    `json:"wait_ms"`
}

type nextAnswer struct {
	Tasks []Task `json:"tasks"`
}

// maxAnswer bounds an answer of the collector's, in bytes.
const maxAnswer = 1 << 20

// Next implements Source.
func (r *Remote) Next(ctx context.Context, instances []string, wait time.Duration) ([]Task, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+20*time.Second) // a collector that is gone without a word
	defer cancel()
	var out nextAnswer
	if err := r.post(ctx, "/api/v1/captures/next", nextRequest{Instances: instances, WaitMs: wait.Milliseconds()}, &out); err != nil {
		return nil, fmt.Errorf("ask for captures: %w", err)
	}
	return out.Tasks, nil
}

// Claim implements Source.
func (r *Remote) Claim(ctx context.Context, c Claim) (g Grant, err error) {
	if err := r.post(ctx, "/api/v1/captures/claim", c, &g); err != nil {
		return g, fmt.Errorf("claim captures: %w", err)
	}
	return g, nil
}

// Deliver implements Source.
func (r *Remote) Deliver(ctx context.Context, res Result) error {
	q := url.Values{"instance": {res.Instance}}
	set := func(name, value string) {
		if value != "" && value != "0" {
			q.Set(name, value)
		}
	}
	set("kind", res.Kind)
	set("error", truncate(res.Error, maxError))
	set("from", strconv.FormatInt(res.From, 10))
	set("to", strconv.FormatInt(res.To, 10))
	contentType := res.ContentType
	if contentType == "" {
		contentType = Binary
	}
	body := res.Body
	if res.Error != "" {
		body = nil
	}
	if err := r.do(ctx, "/api/v1/captures/"+url.PathEscape(res.ID)+"/result?"+q.Encode(), contentType, body, nil); err != nil {
		return fmt.Errorf("deliver capture %s: %w", res.ID, err)
	}
	return nil
}

func (r *Remote) post(ctx context.Context, path string, in, out any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return r.do(ctx, path, "application/json", bytes.NewReader(data), out)
}

func (r *Remote) do(ctx context.Context, path, contentType string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.URL, "/")+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	if r.UserAgent != "" {
		req.Header.Set("User-Agent", r.UserAgent)
	}
	if r.Token != nil {
		token, err := r.Token()
		if err != nil {
			return fmt.Errorf("read token: %w", err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	client := r.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return nil
	case resp.StatusCode != http.StatusOK:
		var e struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(data, &e) == nil && e.Error != "" {
			return fmt.Errorf("%s: %w", resp.Status, errors.New(e.Error))
		}
		return errors.New(resp.Status)
	case err != nil:
		return err
	case out == nil:
		return nil
	}
	return json.Unmarshal(data, out)
}

// maxError bounds the words of an error, in bytes.
const maxError = 1024

func truncate(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "?")
}
