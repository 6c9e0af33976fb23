package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Upload posts a file and decodes the answer into v.
func (c *Client) Upload(ctx context.Context, path string, q url.Values, contentType string, data []byte, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL(path, q), bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("read answer of POST %s: %w", path, err)
	}
	return nil
}
