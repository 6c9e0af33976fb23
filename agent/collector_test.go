package agent

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// push is one push as the tests' collector received it.
type push struct {
	meta    meta
	process processInfo
	data    map[Type][]byte // uncompressed
	body    []byte
	header  http.Header
}

// collector is a real HTTP server that keeps what it gets. respond, where set, answers instead of it.
type collector struct {
	*httptest.Server
	t       *testing.T
	mu      sync.Mutex
	pushes  []push // answered with 200
	tries   []push // all
	respond func(w http.ResponseWriter, p push) bool
	broker  broker
}

func newCollector(t *testing.T) *collector {
	c := &collector{t: t}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Server.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/v1/captures/") {
		c.broker.ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/api/v1/push" {
		http.NotFound(w, r) // a collector that runs on this machine looks who listens here
		return
	}
	p, err := readPush(r)
	if err != nil {
		c.t.Errorf("push cannot be read: %v", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.tries = append(c.tries, p)
	respond := c.respond
	c.mu.Unlock()
	if respond != nil && respond(w, p) {
		return
	}
	c.mu.Lock()
	c.pushes = append(c.pushes, p)
	c.mu.Unlock()
	_, _ = io.WriteString(w, `{"status":"ok","settings":null}`)
}

func readPush(r *http.Request) (p push, err error) {
	p.header, p.data = r.Header, map[Type][]byte{}
	if p.body, err = io.ReadAll(r.Body); err != nil {
		return p, err
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return p, err
	}
	mr := multipart.NewReader(bytes.NewReader(p.body), params["boundary"])
	for {
		part, err := mr.NextPart()
		if err == io.EOF {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		var src io.Reader = part
		if part.FormName() != "meta" {
			if src, err = gzip.NewReader(part); err != nil {
				return p, err
			}
		}
		data, err := io.ReadAll(src)
		if err != nil {
			return p, err
		}
		if part.FormName() != "meta" {
			p.data[Type(part.FormName())] = data
			continue
		}
		if err := json.Unmarshal(data, &p.meta); err != nil {
			return p, err
		}
		if p.meta.Process != nil {
			if err := json.Unmarshal(p.meta.Process, &p.process); err != nil {
				return p, err
			}
		}
	}
}

// set makes respond answer from now on.
func (c *collector) set(respond func(http.ResponseWriter, push) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.respond = respond
}

// offer makes the answer to every push carry the settings.
func (c *collector) offer(settings string) {
	c.set(func(w http.ResponseWriter, p push) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pushes = append(c.pushes, p)
		c.broker.happened("push")
		_, _ = io.WriteString(w, `{"status":"ok","settings":`+settings+`}`)
		return true
	})
}

func (c *collector) stored() []push {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.pushes)
}

func (c *collector) tried() []push {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.tries)
}

// wait waits until cond holds; the time is generous because it only matters when the test fails.
func wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}
