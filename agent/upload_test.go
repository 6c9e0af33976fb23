package agent

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRetryAfterIsHonouredAndBytesStay(t *testing.T) {
	c := newCollector(t)
	var mu sync.Mutex
	var at []time.Time
	c.set(func(w http.ResponseWriter, p push) bool {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		if len(at) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}})
	wait(t, "a window to be stored", func() bool { return len(c.stored()) > 0 })
	tries := c.tried()
	if !bytes.Equal(tries[0].body, tries[1].body) {
		t.Error("the retry has other bytes than the first attempt")
	}
	mu.Lock()
	defer mu.Unlock()
	if pause := at[1].Sub(at[0]); pause < time.Second {
		t.Errorf("retried after %v, the collector asked for 1 s", pause)
	}
}

func TestLostAnswerIsSentAgain(t *testing.T) {
	c := newCollector(t)
	n := 0
	c.set(func(w http.ResponseWriter, p push) bool {
		if n++; n == 1 { // the agent has one connection, so this is called by one goroutine at a time
			c.mu.Lock()
			c.pushes = append(c.pushes, p) // committed, then the answer is lost
			c.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"status":"duplicate","settings":null}`)
		return p.meta.Window == 1
	})
	a := quick(t, c, time.Hour, Config{Types: []Type{Heap}})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	tries := c.tried()
	if len(tries) != 2 || !bytes.Equal(tries[0].body, tries[1].body) {
		t.Errorf("%d attempts, want 2 with the same bytes", len(tries))
	}
}

func TestUnknownProcessIsSentAgainWithIt(t *testing.T) {
	c := newCollector(t)
	known := true
	c.set(func(w http.ResponseWriter, p push) bool {
		if p.meta.Process != nil {
			known = true
		}
		if p.meta.Window == 2 && p.meta.Process == nil {
			known = false // the collector was replaced by one with an empty catalogue
		}
		if !known {
			w.WriteHeader(http.StatusPreconditionRequired)
			return true
		}
		return false
	})
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}})
	wait(t, "window 2", func() bool { return len(c.stored()) >= 2 })
	p := c.stored()[1]
	if p.meta.Window != 2 || p.process.Labels["service_name"] != "test" {
		t.Errorf("window %d with process %+v, want window 2 with it", p.meta.Window, p.process)
	}
	if a.up.failed.Load() != 0 {
		t.Errorf("%d windows failed", a.up.failed.Load())
	}
}

func TestRefusedWindowIsCountedAndLoggedOnce(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		if p.meta.Window > 3 {
			return false
		}
		http.Error(w, `{"error":"too large"}`, http.StatusRequestEntityTooLarge)
		return true
	})
	var log logBuffer
	quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}, Logger: log.logger()})
	wait(t, "a window after the refused ones", func() bool { return len(c.stored()) > 0 })
	tries := c.tried()
	for i := range 3 {
		if tries[i].meta.Window != uint64(i+1) {
			t.Errorf("attempt %d is of window %d: a refused window is not retried", i, tries[i].meta.Window)
		}
	}
	wait(t, "the count of failed windows", func() bool {
		p := c.stored()
		return p[len(p)-1].meta.Stats.WindowsFailed == 3
	})
	if n := strings.Count(log.String(), "refused"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
}

func TestQueueDropsTheOldest(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{QueueBytes: 4000})
	block := make(chan struct{})
	started := make(chan struct{}, 16)
	c.set(func(w http.ResponseWriter, p push) bool {
		started <- struct{}{}
		<-block
		return false
	})
	for i := range 10 {
		w, err := newWindow(meta{V: 1, Window: uint64(i + 100), Profiles: []entry{{Part: "heap", Type: Heap, Start: 1, End: 2}}}, nil, [][]byte{gzipped(t, make([]byte, 500))}, a.boundary)
		if err != nil {
			t.Fatal(err)
		}
		a.up.push(w)
		if i == 0 {
			<-started
		}
	}
	a.up.mu.Lock()
	held := a.up.bytes
	a.up.mu.Unlock()
	if held > 4000 {
		t.Errorf("the queue holds %d bytes, at most 4000", held)
	}
	close(block)
	wait(t, "the queue to empty", func() bool { return a.up.left() == 0 })
	pushes, dropped := c.stored(), int(a.up.dropped.Load())
	if dropped == 0 || len(pushes)+dropped != 10 {
		t.Errorf("%d stored and %d dropped, want 10 together", len(pushes), dropped)
	}
	if pushes[0].meta.Window != 100 || pushes[len(pushes)-1].meta.Window != 109 || pushes[1].meta.Window == 101 {
		t.Errorf("the window on the wire and the newest stay, the oldest go: kept %d, %d, …, %d", pushes[0].meta.Window, pushes[1].meta.Window, pushes[len(pushes)-1].meta.Window)
	}
}

func TestCloseKeepsItsDeadline(t *testing.T) {
	c := newCollector(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	c.set(func(w http.ResponseWriter, p push) bool { <-release; return true })
	a := quick(t, c, time.Hour, Config{Types: []Type{Heap}, CloseTimeout: 100 * time.Millisecond})
	err := a.Close()
	if err == nil || !strings.Contains(err.Error(), "1 windows not sent within 100ms") {
		t.Errorf("Close says %v", err)
	}
}

func TestCloseDoesNotWaitForALongRetryAfter(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		w.Header().Set("Retry-After", "300")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}, CloseTimeout: time.Minute})
	wait(t, "an attempt", func() bool { return len(c.tried()) > 0 })
	if err := a.Close(); err == nil {
		t.Error("Close says nothing of the windows it left behind")
	}
	if n := len(c.tried()); n != 1 {
		t.Errorf("%d attempts, want 1: the collector asked for 300 s", n)
	}
}

// TestCloseWithoutACollector checks that a missing collector does not hold up the program's exit.
func TestCloseWithoutACollector(t *testing.T) {
	c := newCollector(t)
	c.Server.Close() // its port is free now
	var log logBuffer
	a := quick(t, c, time.Hour, Config{Types: []Type{Heap}, CloseTimeout: time.Hour, Logger: log.logger()})
	err := a.Close()
	if !errors.Is(err, refused) || !strings.Contains(err.Error(), "1 windows not sent") {
		t.Errorf("Close says %v, want the refused connection", err)
	}
	if n := strings.Count(log.String(), "windows lost"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
}
