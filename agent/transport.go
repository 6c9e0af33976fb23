package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"
)

// maxSocketPath is the most bytes that every system takes for the path of a Unix socket.
const maxSocketPath = 103

// socketPath returns the path in unix:PATH or unix://PATH.
func socketPath(url string) (path string, ok bool) {
	path, ok = strings.CutPrefix(url, "unix:")
	return strings.TrimPrefix(path, "//"), ok
}

// newClient returns a client with one connection. An answer's head has to come within head; 0: whenever.
func (c *Config) newClient(head time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: c.Timeout}
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       c.TLS,
		TLSHandshakeTimeout:   c.Timeout,
		MaxConnsPerHost:       1,
		MaxIdleConns:          1,
		IdleConnTimeout:       2 * time.Minute,
		ResponseHeaderTimeout: head,
	}
	if path, ok := socketPath(c.URL); ok {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
	}
	return &http.Client{Transport: t}
}

// base returns what the paths of requests are added to: any host does for a socket.
func (c *Config) base() string {
	if _, ok := socketPath(c.URL); ok {
		return "http://sonde"
	}
	return c.URL
}

// ownClient reports whether the agent uses clients of its own: where none is given, and for a socket, which that one would not dial.
func (c *Config) ownClient() bool {
	_, socket := socketPath(c.URL)
	return socket || c.HTTPClient == nil
}

// request makes a POST. A length below 0 is unknown.
func (a *Agent) request(ctx context.Context, path, contentType string, body io.Reader, length int64) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.cfg.base()+path, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "sonde-agent/"+Version+" ("+runtime.Version()+")")
	if token := a.token(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// nobody reports whether err says that nobody listens at the address.
func nobody(err error) bool { return errors.Is(err, refused) || errors.Is(err, fs.ErrNotExist) }
