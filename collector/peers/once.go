package peers

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// How long, and how many, requests are remembered to recognise their repeats. A fleet of 400 pods with four profiles each every 15 s sends as many in that time.
const (
	onceFor  = 10 * time.Minute
	onceMost = 65_536
)

// content is the hash of what a request says and who says it.
type content [16]byte

// contentOf hashes a request with the parts of its body. The sender's address is part of it: two replicas may say the same of the same time.
func contentOf(r *http.Request, parts ...[]byte) content {
	h := sha256.New()
	for _, s := range []string{r.URL.Path, r.URL.RawQuery, mediaType(r), remoteHost(r)} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	for _, b := range parts {
		h.Write(strconv.AppendInt(nil, int64(len(b)), 10))
		h.Write([]byte{0})
		h.Write(b)
	}
	var c content
	copy(c[:], h.Sum(nil))
	return c
}

// remoteHost returns the sender's address without its port.
func remoteHost(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// once remembers requests by their content. Safe for concurrent use.
type once struct {
	mu    sync.Mutex
	m     map[content]*attempt
	queue []*attempt // by time of their beginning
}

// attempt is a request that came at least once.
type attempt struct {
	content content
	begun   time.Time
	done    bool            // it was stored
	running chan struct{}   // closed when the one who works on it ends; nil: nobody does
	stored  map[string]bool // the pushes of it that were stored, where not all could be
}

// begin returns the attempt at c, which the caller ends, or true where it has been stored. While another works on it, it waits for that one.
func (o *once) begin(ctx context.Context, c content, now time.Time) (a *attempt, duplicate bool, err error) {
	for {
		o.mu.Lock()
		o.forget(now)
		a := o.m[c]
		switch {
		case a == nil:
			if o.m == nil {
				o.m = map[content]*attempt{}
			}
			a = &attempt{content: c, begun: now}
			o.m[c] = a
			o.queue = append(o.queue, a)
		case a.done:
			o.mu.Unlock()
			return nil, true, nil
		case a.running != nil:
			wait := a.running
			o.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, false, ctx.Err()
			}
		}
		a.running = make(chan struct{})
		o.mu.Unlock()
		return a, false, nil
	}
}

// end says how the attempt went: all of it is stored, or what is in stored.
func (o *once) end(a *attempt, done bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a.done = done
	close(a.running)
	a.running = nil
	if done {
		a.stored = nil
	}
}

// forget drops what is too old, or too much. o.mu is held.
func (o *once) forget(now time.Time) {
	n := 0
	for n < len(o.queue) && (now.Sub(o.queue[n].begun) >= onceFor || len(o.queue)-n >= onceMost) {
		a := o.queue[n]
		if o.m[a.content] == a {
			delete(o.m, a.content)
		}
		o.queue[n] = nil
		n++
	}
	o.queue = o.queue[n:]
}
