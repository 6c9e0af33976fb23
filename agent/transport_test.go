package agent

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// socketCollector is a collector, or a sidecar, that listens at a Unix socket.
func socketCollector(t *testing.T) (c *collector, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sonde") // t.TempDir's path can be longer than a socket's may be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path = filepath.Join(dir, "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skipf("SKIPPED: this system has no Unix sockets, so they are NOT tested: %v", err)
	}
	c = &collector{t: t}
	c.Server = httptest.NewUnstartedServer(c)
	if err := c.Server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	c.Server.Listener = l
	c.Server.Start()
	t.Cleanup(c.Server.Close)
	return c, path
}

func TestSocket(t *testing.T) {
	for _, form := range []string{"unix:%s", "unix://%s"} {
		t.Run(form, func(t *testing.T) {
			c, path := socketCollector(t)
			c.offer(pollOffered)
			a := start(Config{Service: "test", URL: fmt.Sprintf(form, path), Types: []Type{Heap}, Logger: discardLogger, HTTPClient: &http.Client{Transport: refusing{}}},
				effects{first: 50 * time.Millisecond, getenv: env("HTTP_PROXY", "http://127.0.0.1:1")})
			defer a.Close()
			wait(t, "a window and a poll", func() bool { return len(c.stored()) > 0 && c.broker.polled() > 0 })
			if r := taken(t, c, task{Kind: "heap"}); r.problem != "" || len(r.body) == 0 {
				t.Errorf("a capture: %q", r.problem)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// refusing is a transport that a socket's agent must not use.
type refusing struct{}

func (refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("%s was sent by the program's client", r.URL)
}

// TestCloseWithoutASocket checks that a sidecar that is not there does not hold up the program's exit.
func TestCloseWithoutASocket(t *testing.T) {
	a := start(Config{Service: "test", URL: "unix:" + filepath.Join(t.TempDir(), "none"), Types: []Type{Heap}, Logger: discardLogger, CloseTimeout: time.Hour},
		effects{first: time.Hour, getenv: env()})
	if err := a.Close(); err == nil || !strings.Contains(err.Error(), "1 windows not sent: ") {
		t.Errorf("Close says %v", err)
	}
}

func TestSocketURLs(t *testing.T) {
	for in, want := range map[string]string{
		"unix:/run/sonde/agent.sock": "unix:/run/sonde/agent.sock", "unix:///run/sonde/agent.sock": "unix:/run/sonde/agent.sock", "unix:@sonde": "unix:@sonde",
		"unix:": defaultURL, "unix:@": defaultURL, "unix:/" + strings.Repeat("x", 200): defaultURL,
	} {
		r := &resolver{getenv: env()}
		if got := r.url(in, true); got != want || (len(r.problems) > 0) != (want == defaultURL) {
			t.Errorf("%q: %q with problems %q, want %q", in, got, r.problems, want)
		}
	}
}

// promisedGoroutines is what the agent may have in all: its own, the runtime's and the connections'.
const promisedGoroutines = 8

// TestGoroutines counts those of a program with everything on, in a process of its own: the server's are not among them.
func TestGoroutines(t *testing.T) {
	if url := os.Getenv("SONDE_TEST_GOROUTINES"); url != "" {
		countGoroutines(t, url)
		return
	}
	c := newCollector(t)
	c.offer(`{"captures":{"poll":true},"triggers":[{"name":"a","metric":"memory","above":0.9},{"name":"b","metric":"goroutines","above":1,"take":["goroutine"]}]}`)
	cmd := exec.Command(os.Args[0], "-test.run=^TestGoroutines$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "SONDE_TEST_GOROUTINES="+c.URL)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, "windows, a poll and a trigger's capture", func() bool {
		got, _ := c.broker.got("c1")
		return len(c.stored()) > 2 && c.broker.polled() > 0 && len(got) > 0
	})
	if r := taken(t, c, task{Kind: "cpu", DurationMS: 200}); r.problem != "" {
		t.Error(r.problem)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("%s", out.String())
}

// countGoroutines runs an agent until standard input ends.
func countGoroutines(t *testing.T, url string) {
	before := runtime.NumGoroutine() + 1 // and the reader of standard input
	a := start(Config{URL: url, Types: allTypes, Logger: discardLogger}, effects{first: 200 * time.Millisecond, getenv: env(), tune: func(c *Config) { c.Period = 200 * time.Millisecond }})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is what counts
	}()
	most, dump := 0, make([]byte, 64<<10)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	// One that ended can still be counted beside the one that took its place, when the CPU profile is cut or a connection made: what stays for ten looks counts.
	var looks [10]int
	for i := 0; !isClosed(ended); i++ {
		looks[i%len(looks)] = runtime.NumGoroutine() - before
		if n := slices.Min(looks[:]); n > most {
			if most = n; n > promisedGoroutines {
				dump = dump[:runtime.Stack(dump[:cap(dump)], true)]
			}
		}
		<-tick.C
	}
	t.Logf("at most %d goroutines of %d", most, promisedGoroutines)
	if most > promisedGoroutines {
		t.Errorf("more than promised:\n%s", dump)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() >= before && time.Now().Before(deadline); {
		<-tick.C
	}
	if n := runtime.NumGoroutine(); n >= before {
		t.Errorf("%d goroutines are left, %d before", n, before-1)
	}
}
