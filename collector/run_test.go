package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles"
)

// syncBuffer takes what a collector writes while the test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// running is a collector in this process.
type running struct {
	url    string
	out    *syncBuffer
	log    *syncBuffer
	reload chan os.Signal
	stop   func() error // ends it and returns what Run returned
}

func testConfig(dir string) Config {
	c := DefaultConfig()
	c.Listen, c.Data, c.Discover = "127.0.0.1:0", dir, false
	return c
}

func start(t testing.TB, cfg Config, load func() (Config, error)) *running {
	t.Helper()
	r := &running{out: new(syncBuffer), log: new(syncBuffer), reload: make(chan os.Signal)}
	ctx, cancel := context.WithCancel(context.Background())
	addr := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, cfg, Options{Version: "v9", Ready: func(a string) { addr <- a }, Stdout: r.out, Stderr: r.log, Reload: r.reload, Load: load})
	}()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { r.stop() })
	select {
	case a := <-addr:
		r.url = "http://" + a
	case err := <-done:
		done <- err
		t.Fatalf("collector ended: %v\n%s", err, r.log)
	}
	return r
}

// client keeps no connection, so that none of its goroutines is left.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (r *running) get(t testing.TB, path string, into any) (status int) {
	t.Helper()
	resp, err := client.Get(r.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	switch into := into.(type) {
	case nil:
	case *string:
		*into = string(b)
	default:
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s: %v: %s", path, err, b)
		}
	}
	return resp.StatusCode
}

func (r *running) push(t testing.TB, key string, value int64) string {
	t.Helper()
	fn := &profile.Function{ID: 1, Name: "main.work", Filename: "main.go"}
	loc := &profile.Location{ID: 1, Address: 1, Line: []profile.Line{{Function: fn, Line: 3}}}
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Sample: []*profile.Sample{{Location: []*profile.Location{loc}, Value: []int64{1, value}}}, Location: []*profile.Location{loc}, Function: []*profile.Function{fn}}
	var body bytes.Buffer
	if err := p.Write(&body); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", r.url+"/api/v1/profiles?service=cart&type=cpu&instance=i1", &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", key)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct{ Status, Error string }
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a.Status + a.Error
}

func (r *running) total(t testing.TB) int64 {
	t.Helper()
	var top profiles.Top
	if status := r.get(t, "/api/v1/top?query=cart&type=cpu", &top); status != 200 {
		t.Fatalf("status %d", status)
	}
	return top.Total
}

// checkGoroutines fails the test if f leaves goroutines behind.
func checkGoroutines(t *testing.T, f func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	f()
	// What was told to end may need a moment to be gone; what leaks stays.
	for range 500 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
}

// A collector that was stopped and started again answers the same, and still knows what it has seen.
func TestRunStopAndRestart(t *testing.T) {
	dir := t.TempDir()
	checkGoroutines(t, func() {
		r := start(t, testConfig(dir), nil)
		for i := range 20 {
			if got := r.push(t, fmt.Sprint("k", i), 100); got != "ok" {
				t.Fatalf("push %d: %s", i, got)
			}
			if got := r.total(t); got != int64(i+1)*100 {
				t.Fatalf("after push %d: total %d", i, got)
			}
		}
		if got := r.push(t, "k3", 100); got != "duplicate" {
			t.Errorf("push again: %s", got)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"listening on http://127.0.0.1:", "kept: the last 7d, sums by the minute of 30d", "0 B stored, about 20.2 MB a day expected for each process (estimated", "discovery is off, and no targets are listed"} {
			if !strings.Contains(r.out.String(), want) {
				t.Errorf("%q does not say %q", r.out, want)
			}
			if strings.Contains(r.log.String(), want) {
				t.Errorf("the log says %q again: on a terminal both are seen", want)
			}
		}
		again := start(t, testConfig(dir), nil)
		if got := again.total(t); got != 2000 {
			t.Errorf("after a restart: total %d, want 2000", got)
		}
		if got := again.push(t, "k7", 100); got != "duplicate" {
			t.Errorf("push again after a restart: %s", got)
		}
		var ps struct {
			Processes []struct{ Instance, Gatherer string }
			Summary   string
		}
		if again.get(t, "/api/v1/processes", &ps); len(ps.Processes) != 1 || ps.Processes[0].Instance != "i1" || ps.Processes[0].Gatherer != "push" {
			t.Errorf("processes %+v", ps)
		}
		if err := again.stop(); err != nil {
			t.Fatal(err)
		}
		client.CloseIdleConnections()
	})
}

// TestRunCannotOpen: an error of opening says what failed once.
func TestRunCannotOpen(t *testing.T) {
	for _, tt := range []struct{ path, once string }{{CatalogFile, "open catalogue"}, {BlobDir, "open blob"}} {
		cfg := testConfig(t.TempDir())
		bad := filepath.Join(cfg.Data, tt.path)
		if tt.path == CatalogFile {
			if err := os.Mkdir(bad, 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(bad, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		err := Run(t.Context(), cfg, Options{Stderr: io.Discard})
		if err == nil || strings.Count(err.Error(), tt.once) != 1 || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v; want %q once, and the path", tt.path, err, tt.once)
		}
	}
}

// Pushes in flight when the stop comes are answered, and what was answered 200 is there afterwards.
func TestRunDrains(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testConfig(dir), nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked, begun := 0, make(chan struct{}, 1000)
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				body := strings.NewReader(gzProfile(t))
				resp, err := client.Post(fmt.Sprintf("%s/api/v1/profiles?service=cart&type=cpu&label.n=%d", r.url, w), "", body)
				if err != nil {
					return // refused: the listener is closed
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("worker %d push %d: status %d", w, i, resp.StatusCode)
					return
				}
				mu.Lock()
				acked++
				mu.Unlock()
				begun <- struct{}{}
			}
		})
	}
	for range 10 {
		<-begun
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	wg.Wait()
	again := start(t, testConfig(dir), nil)
	if got := again.total(t); got != int64(acked)*7 {
		t.Errorf("total %d, want %d: 7 for each of %d pushes that were answered 200", got, acked*7, acked)
	}
}

func gzProfile(t testing.TB) string {
	t.Helper()
	fn := &profile.Function{ID: 1, Name: "main.work"}
	loc := &profile.Location{ID: 1, Address: 1, Line: []profile.Line{{Function: fn}}}
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "cpu", Unit: "nanoseconds"}},
		Sample: []*profile.Sample{{Location: []*profile.Location{loc}, Value: []int64{7}}}, Location: []*profile.Location{loc}, Function: []*profile.Function{fn}}
	var body bytes.Buffer
	if err := p.Write(&body); err != nil {
		t.Error(err)
	}
	return body.String()
}

func TestRunEndpoints(t *testing.T) {
	r := start(t, testConfig(t.TempDir()), nil)
	r.push(t, "k", 1)
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"/livez", 200, "ok"},
		{"/readyz", 200, "ok"},
		{"/readyz?verbose", 200, "[+] accepting\n[+] catalogue\n[+] data directory\n"},
		{"/metrics", 200, "sonde_push_profiles_total{type=\"cpu\"} 1\n"},
		{"/metrics", 200, "go_goroutines "},
		{"/metrics", 200, "process_open_fds "},
		{"/metrics", 200, "sonde_build_info{version=\"v9\"} 1"},
		{"/", 200, "<html"},
		{"/api/v1/status", 200, `"version":"v9"`},
		{"/api/v1/nothing", 404, "no such endpoint"},
		{"/api/v2/services", 404, "no such endpoint: GET"},
	} {
		var body string
		if status := r.get(t, tt.path, &body); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d, want %d with %q:\n%.2000s", tt.path, status, tt.status, tt.want, body)
		}
	}
}

func TestRunToken(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TokenFile = filepath.Join(t.TempDir(), "token")
	const token = "0123456789abcdef0123456789abcdef"
	if err := os.WriteFile(cfg.TokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg, nil)
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/": 200, // probes, and the page that asks for the token
		"/api/v1/status": 401, "//api/v1/status": 401, "/x/../api/v1/status": 401, "/metrics": 401, "/api/v1/nothing": 401,
	} {
		req, err := http.NewRequest("GET", r.url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Path = path
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s without the token: %d, want %d", path, resp.StatusCode, want)
		}
	}
	req, err := http.NewRequest("GET", r.url+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("with the token: %d", resp.StatusCode)
	}
	for _, s := range []fmt.Stringer{r.out, r.log} {
		if strings.Contains(s.String(), token) {
			t.Error("the token was printed")
		}
	}
}

func TestRunRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	lock, err := fsys.Lock(filepath.Join(dir, LockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name       string
		change     func(*Config)
		want, hint string
	}{
		{"data directory in use", func(c *Config) { c.Data = dir }, "another collector uses it", "--data"},
		{"data directory is a file", func(c *Config) { c.Data = file }, "data directory", "--data"},
		{"address in use", func(c *Config) { c.Listen = taken.Addr().String() }, "address already in use", "port"},
		{"open address", func(c *Config) { c.Listen = "0.0.0.0:0" }, "lacks a token", "--insecure"},
		{"invalid", func(c *Config) { c.LogLevel = "loud" }, "log_level", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			tt.change(&cfg)
			checkGoroutines(t, func() {
				err := Run(context.Background(), cfg, Options{Stderr: io.Discard})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("error %v, want one with %q", err, tt.want)
				}
				hint := ""
				if h, ok := errors.AsType[interface {
					error
					Hint() string
				}](err); ok {
					hint = h.Hint()
				}
				if !strings.Contains(hint, tt.hint) {
					t.Errorf("hint %q, want one with %q", hint, tt.hint)
				}
			})
		})
	}
}

func TestRunReload(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.LogLevel = "info"
	var mu sync.Mutex
	next, nextErr := cfg, error(nil)
	r := start(t, cfg, func() (Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return next, nextErr
	})
	reload := func(change func()) {
		t.Helper()
		mu.Lock()
		change()
		mu.Unlock()
		r.reload <- syscall.SIGHUP
		r.reload <- syscall.SIGHUP // taken when the first is done
	}
	summary := func() string {
		var ps struct{ Summary string }
		r.get(t, "/api/v1/processes", &ps)
		return ps.Summary
	}
	if got := summary(); got != "discovery is off, and no targets are listed" {
		t.Errorf("summary %q", got)
	}
	reload(func() {
		next.Targets = []Target{{Service: "a", URL: "http://127.0.0.1:9/debug/pprof"}}
		next.RetentionAge = Duration(time.Hour)
	})
	if got := summary(); got != "1 listed target" {
		t.Errorf("summary after a reload %q", got)
	}
	if !strings.Contains(r.log.String(), "takes a restart") || !strings.Contains(r.log.String(), "retention_age") {
		t.Errorf("nothing about retention_age in the log:\n%s", r.log)
	}
	reload(func() { nextErr = errors.New("line 3: unknown key") })
	if got := summary(); got != "1 listed target" || !strings.Contains(r.log.String(), "unknown key") {
		t.Errorf("summary after a failed reload %q\n%s", got, r.log)
	}
}

// TestRunWarnsOfRuleFilesThatAreNot: a pattern that matches nothing is no error, and is said at the start and when it is read again.
func TestRunWarnsOfRuleFilesThatAreNot(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.LogLevel = "info"
	dir := t.TempDir()
	cfg.Rules.Files = []string{filepath.Join(dir, "start-*.yaml")}
	next := cfg
	next.Rules.Files = []string{filepath.Join(dir, "there-*.yaml"), filepath.Join(dir, "later-*.yaml")}
	if err := os.WriteFile(filepath.Join(dir, "there-1.yaml"), []byte("groups: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg, func() (Config, error) { return next, nil })
	r.reload <- syscall.SIGHUP
	r.reload <- syscall.SIGHUP // taken when the first is done
	for _, want := range []string{"start-*.yaml", "later-*.yaml", "rule_files=1"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("no %s in the log:\n%s", want, r.log)
		}
	}
	if strings.Contains(r.log.String(), "there-*.yaml") {
		t.Errorf("a pattern that matches is complained of:\n%s", r.log)
	}
}

// The brake from afar reaches an agent in the answer to its push, and goes with the rule.
func TestRunAgentRules(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("..", "agent", "testdata", "push", "push-first.multipart"))
	if err != nil {
		t.Fatal(err)
	}
	// The golden window is of the day it was written: move it to now, without changing what the process says.
	now := time.Now().UnixMilli()
	body := strings.NewReplacer("1795241445123", fmt.Sprint(now-15000), "1795241460123", fmt.Sprint(now)).Replace(string(golden))
	cfg := testConfig(t.TempDir())
	cfg.AgentRules = []AgentRule{{Selector: `{service_name="cart"}`, CPURate: 19}}
	r := start(t, cfg, nil)
	resp, err := client.Post(r.url+"/api/v1/push", "multipart/form-data; boundary=sonde-golden-boundary", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		Status, Error string
		Settings      *struct {
			Rev     string
			CPURate int `json:"cpu_rate"`
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || a.Status != "ok" || a.Settings == nil || a.Settings.CPURate != 19 || a.Settings.Rev == "" {
		t.Errorf("%+v %v", a, err)
	}
	var top profiles.Top
	if r.get(t, "/api/v1/top?type=cpu&query="+url.QueryEscape(`{service_instance_id="9f86d081884c7d659a2feaa0c55ad015"}`), &top); top.Total == 0 {
		t.Errorf("the golden window is not there: %+v", top)
	}
}
