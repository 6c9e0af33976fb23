package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

const (
	killPushes      = 2000
	killConnections = 8
	killAfter       = 700 // acknowledged pushes
)

// TestKill kills the server in the middle of 2,000 pushes from 8 connections. Every push that got a 200 is there exactly once after the
// restart, every other one once or not at all. Then all are sent again: the ones that were stored are duplicates, and in the end all are there once.
func TestKill(t *testing.T) {
	srv := startServe(t, t.TempDir())
	p := &pusher{t: t, start: time.Now().Add(-10 * time.Minute).UnixMilli()}
	var acked [killPushes]atomic.Bool
	var count atomic.Int64
	reached := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() {
		<-reached
		srv.kill(t)
	})
	p.each(srv, func(i int, status string, err error) {
		if err != nil {
			return // the server is gone
		}
		acked[i].Store(true)
		if count.Add(1) == killAfter {
			close(reached)
		}
	})
	killing.Wait()
	t.Logf("%d of %d pushes were acknowledged before the kill", count.Load(), killPushes)
	if n := count.Load(); n == killPushes {
		t.Fatal("all pushes were acknowledged: the kill was not in their middle")
	}

	srv = launch(t, srv.dir, srv.addr, srv.args)
	found := p.read(srv)
	for i := range killPushes {
		got, once := found[p.function(i)], p.value(i)
		if acked[i].Load() && got != once || got != 0 && got != once {
			t.Errorf("push %d, acknowledged %v: %d is stored, want %d once", i, acked[i].Load(), got, once)
		}
	}

	p.each(srv, func(i int, status string, err error) {
		switch {
		case err != nil:
			t.Errorf("push %d again: %v", i, err)
		case found[p.function(i)] != 0 && status != "duplicate":
			t.Errorf("push %d again: %s, want duplicate", i, status)
		case found[p.function(i)] == 0 && status != "ok":
			t.Errorf("push %d again: %s, want ok", i, status)
		}
	})
	found = p.read(srv)
	for i := range killPushes {
		if got := found[p.function(i)]; got != p.value(i) {
			t.Errorf("push %d: %d is stored in the end, want %d", i, got, p.value(i))
		}
	}
	srv.stop(t)
	srv.check(t)
}

// pusher sends profiles that can be told apart: each has a function and a value of its own.
type pusher struct {
	t     *testing.T
	start int64 // Unix ms of the first
}

func (p *pusher) function(i int) string { return fmt.Sprintf("main.f%04d", i) }
func (p *pusher) value(i int) int64     { return int64(i+1) * 10_000_000 }

// each sends all pushes from all connections and tells done of each.
func (p *pusher) each(srv *server, done func(i int, status string, err error)) {
	var wg sync.WaitGroup
	for c := range killConnections {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for i := c; i < killPushes; i += killConnections {
				status, err := p.push(client, srv, i)
				done(i, status, err)
			}
		})
	}
	wg.Wait()
}

func (p *pusher) push(client *http.Client, srv *server, i int) (status string, err error) {
	f := &profile.Function{ID: 1, Name: p.function(i), Filename: "main.go"}
	l := &profile.Location{ID: 1, Address: 0x1000, Line: []profile.Line{{Function: f, Line: 7}}}
	prof := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Sample:     []*profile.Sample{{Location: []*profile.Location{l}, Value: []int64{int64(i + 1), p.value(i)}}},
		Location:   []*profile.Location{l},
		Function:   []*profile.Function{f},
	}
	var body bytes.Buffer
	if err := prof.Write(&body); err != nil {
		return "", err
	}
	start := p.start + int64(i)*100
	q := url.Values{"service": {"killed"}, "type": {"cpu"}, "start": {strconv.FormatInt(start, 10)}, "end": {strconv.FormatInt(start+100, 10)}}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, srv.url+"/api/v1/profiles?"+q.Encode(), &body)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Idempotency-Key", fmt.Sprintf("kill-%d-%d", p.start, i))
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, answer)
	}
	// The 200 alone is the acknowledgement; an answer cut off after it counts.
	var a struct{ Status string }
	if err == nil {
		err = json.Unmarshal(answer, &a)
	}
	if err != nil {
		return "cut off", nil
	}
	return a.Status, nil
}

// read returns what is stored: CPU time by function.
func (p *pusher) read(srv *server) map[string]int64 {
	p.t.Helper()
	q := url.Values{"query": {"killed"}, "type": {"cpu"}, "from": {"now-1h"}, "to": {"now+1h"}}
	resp, err := http.Get(srv.url + "/api/v1/profile?" + q.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	prof, err := profile.Parse(resp.Body)
	if err != nil {
		p.t.Fatalf("%s: %v", resp.Status, err)
	}
	found := map[string]int64{}
	for _, s := range prof.Sample {
		found[s.Location[0].Line[0].Function.Name] += s.Value[len(s.Value)-1]
	}
	return found
}
