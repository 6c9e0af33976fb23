package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestAgent follows one program with the agent through what its collector does to it: rules that slow it down, turn it off and go away
// again, a restart, and a catalogue that is lost. No window is lost in any of it.
func TestAgent(t *testing.T) {
	data, config := t.TempDir(), filepath.Join(t.TempDir(), "sonde.yaml")
	rules := func(s string) {
		if err := os.WriteFile(config, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules("")
	srv := startServe(t, data, "--discover=false", "--config", config)
	wire := tapWire(t, srv.url)
	program := startFixture(t, fixture(t, t.TempDir(), "alltypes"), "SONDE_URL="+wire.url, "SONDE_PERIOD=1s")
	reload := func(s string) {
		rules(s)
		if err := srv.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}

	showsEveryType(t, srv)

	reload("agent_rules:\n  - selector: '{service_name=\"alltypes\"}'\n    types: [cpu]\n    period: 2s\n")
	wire.eventually(t, "two windows of 2 s with the CPU only", 2, func(p pushed) bool { return p.types == "cpu" && p.end-p.start > 1700 })
	reload("agent_rules:\n  - selector: '{service_name=\"alltypes\"}'\n    enabled: false\n")
	wire.eventually(t, "two accepted windows without profiles", 2, func(p pushed) bool { return p.types == "" && p.accepted() })
	reload("")
	all := func(p pushed) bool { return p.types == "cpu heap mutex block goroutine" && p.accepted() }
	wire.eventually(t, "every type again", 1, all)

	srv.stop(t)
	wire.eventually(t, "two attempts that fail", 2, func(p pushed) bool { return p.status == http.StatusBadGateway })
	srv = launch(t, srv.dir, srv.addr, srv.args)
	wire.eventually(t, "windows after the restart", 1, all)

	srv.stop(t)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(data, "catalog.db"+suffix)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	srv = launch(t, srv.dir, srv.addr, srv.args)
	wire.eventually(t, "a window that was refused without its process and accepted with it", 1, func(p pushed) bool {
		return p.process && p.accepted() && p.window > 1
	})
	if !wire.any(func(p pushed) bool { return p.status == http.StatusPreconditionRequired && !p.process }) {
		t.Error("a collector that lost its catalogue took a window of a process that it does not know")
	}

	program.stop(t)
	wire.checkNumbers(t)
	// Nobody but its agent knew of it, and that took its leave.
	if out := cli(t, srv, "event", "list", "--service", "alltypes", "--kind", "exit"); strings.Count(out, "alltypes closed its agent after") != 1 {
		t.Errorf("the end is told so:\n%s", out)
	}
	if out := cli(t, srv, "ps", "--state", "all"); !strings.Contains(out, "exited") {
		t.Errorf("sonde ps after the end:\n%s", out)
	}
	srv.stop(t)
	srv.check(t)
}

// showsEveryType checks that each of the five types is there, with the function that the program made for it.
func showsEveryType(t *testing.T, srv *server) {
	t.Helper()
	for typ, function := range map[string]string{"cpu": "main.hotspot", "heap": "main.allocate", "goroutine": "main.waitForever", "mutex": "main.contend", "block": "main.contend"} {
		for _, cmd := range [][]string{{"top"}, {"flame", "--min", "0.01"}} {
			eventually(t, 90*time.Second, typ+" in sonde "+cmd[0], func() error {
				// The range is short, since heap and goroutines are means over it.
				out, err := tryCLI(srv, append(cmd, "--service", "alltypes", "--type", typ, "--since", "20s")...)
				if err == nil && !strings.Contains(string(out), function) {
					err = fmt.Errorf("no %s in it:\n%s", function, out)
				}
				return err
			})
		}
	}
	if out := cli(t, srv, "ps"); !strings.Contains(out, "alltypes") || !strings.Contains(out, "agent") {
		t.Errorf("sonde ps:\n%s", out)
	}
}

// pushed is one push that passed by, and what was answered.
type pushed struct {
	window     uint64
	start, end int64  // Unix ms
	types      string // in the order of the window
	process    bool   // the window says which process it is of
	status     int
}

func (p pushed) accepted() bool { return p.status == http.StatusOK }

// wireTap is a proxy between an agent and its collector that notes what passes.
type wireTap struct {
	url string
	mu  sync.Mutex
	all []pushed
}

func tapWire(t *testing.T, collector string) *wireTap {
	t.Helper()
	to, err := url.Parse(collector)
	if err != nil {
		t.Fatal(err)
	}
	w := new(wireTap)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the agent broke off and will try again
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if r.URL.Path != "/api/v1/push" { // a poll for captures
			proxy.ServeHTTP(rw, r)
			return
		}
		p, err := readPushed(r.Header.Get("Content-Type"), body)
		if err != nil {
			t.Errorf("push cannot be read: %v", err)
		}
		status := &statusWriter{ResponseWriter: rw, status: http.StatusOK}
		proxy.ServeHTTP(status, r)
		p.status = status.status
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, p)
	}))
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func readPushed(contentType string, body []byte) (p pushed, err error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return p, err
	}
	part, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).NextPart()
	if err != nil {
		return p, err
	}
	var meta struct {
		Window     uint64
		Start, End int64
		Process    json.RawMessage
		Profiles   []struct{ Type string }
	}
	if err := json.NewDecoder(part).Decode(&meta); err != nil {
		return p, err
	}
	var types []string
	for _, e := range meta.Profiles {
		types = append(types, e.Type)
	}
	return pushed{window: meta.Window, start: meta.Start, end: meta.End, types: strings.Join(types, " "), process: meta.Process != nil}, nil
}

// seen returns what passed so far.
func (w *wireTap) seen() []pushed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

func (w *wireTap) any(is func(pushed) bool) bool { return slices.ContainsFunc(w.seen(), is) }

// eventually waits until n pushes in a row of those from now on are as is says.
func (w *wireTap) eventually(t *testing.T, what string, n int, is func(pushed) bool) {
	t.Helper()
	from := len(w.seen())
	eventually(t, 90*time.Second, what, func() error {
		row := 0
		seen := w.seen()[from:]
		for _, p := range seen {
			if row++; !is(p) {
				row = 0
			}
			if row == n {
				return nil
			}
		}
		return fmt.Errorf("seen: %+v", seen)
	})
}

// checkNumbers checks that every window from the first to the last was accepted, once.
func (w *wireTap) checkNumbers(t *testing.T) {
	t.Helper()
	times := map[uint64]int{}
	last := uint64(0)
	for _, p := range w.seen() {
		if p.accepted() {
			times[p.window]++
			last = max(last, p.window)
		}
	}
	var wrong []string
	for n := uint64(1); n <= last; n++ {
		if times[n] != 1 {
			wrong = append(wrong, strconv.FormatUint(n, 10)+" accepted "+strconv.Itoa(times[n])+" times")
		}
	}
	if last == 0 || len(wrong) > 0 {
		t.Errorf("of %d windows: %s", last, strings.Join(wrong, ", "))
	}
}
