package discover_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
)

// TestScanFindsMetrics looks for the metrics of real processes, wherever they serve them.
func TestScanFindsMetrics(t *testing.T) {
	away := listenHere(t)
	for _, tt := range []struct {
		name    string
		args    []string
		env     []string
		edit    func(*discover.Config)
		state   discover.State
		metrics bool
		reason  string // regular expression
	}{
		{name: "on another port than pprof", args: []string{"-pprof=127.0.0.1:0", "-metrics=127.0.0.1:0"}, state: discover.Profiling, metrics: true, reason: `^$`},
		{name: "on another port of every address", args: []string{"-pprof=127.0.0.1:0", "-metrics=:0"}, state: discover.Profiling, metrics: true, reason: `^$`},
		{name: "without pprof", args: []string{"-metrics=127.0.0.1:0", "-http=127.0.0.1:0"}, state: discover.NoEndpoint, metrics: true,
			reason: `^no endpoint: none of its ports .*; its metrics are read from http://127\.0\.0\.1:\d+/metrics$`},
		{name: "without pprof, watched from outside", args: []string{"-metrics=127.0.0.1:0"}, state: discover.Profiling, metrics: true, reason: `^$`,
			edit: func(c *discover.Config) {
				c.Sampled = func(*discover.Process) (string, string) { return "perf", "" }
			}},
		{name: "beside gops", args: []string{"-gops", "-metrics=127.0.0.1:0"}, env: []string{"HOME=" + t.TempDir()}, state: discover.Profiling, metrics: true, reason: `^$`},
		{name: "beside a port that never answers", args: []string{"-mute=127.0.0.1:0", "-metrics=127.0.0.1:0"}, state: discover.NoEndpoint, metrics: true, reason: `no answer in time`,
			edit: func(c *discover.Config) { c.ProbeTimeout = 2 * time.Second }},
		{name: "none", args: []string{"-pprof=127.0.0.1:0", "-http=127.0.0.1:0"}, state: discover.Profiling, reason: `^$`},
		{name: "none of the runtime", args: []string{"-metrics=127.0.0.1:0", "-kind=app"}, state: discover.NoEndpoint, reason: `404 Not Found\)$`},
		{name: "as a page", args: []string{"-metrics=127.0.0.1:0", "-kind=html"}, state: discover.NoEndpoint, reason: `404 Not Found\)$`},
		{name: "as something else", args: []string{"-metrics=127.0.0.1:0", "-kind=json"}, state: discover.NoEndpoint, reason: `404 Not Found\)$`},
		{name: "for those who may", args: []string{"-metrics=127.0.0.1:0", "-kind=refused"}, state: discover.NoEndpoint, reason: `404 Not Found\)$`},
		{name: "of another process", args: []string{"-metrics=127.0.0.1:0", "-kind=other"}, state: discover.NoEndpoint, reason: `404 Not Found\)$`},
		{name: "without an end", args: []string{"-metrics=127.0.0.1:0", "-kind=long"}, state: discover.NoEndpoint, reason: `404 Not Found\)$`},
		{name: "elsewhere", args: []string{"-metrics=127.0.0.1:0", "-kind=http://" + away.Addr().String() + "/followed"}, state: discover.NoEndpoint, reason: `404 Not Found\)$`},
		{name: "that nobody is to look for", args: []string{"-pprof=127.0.0.1:0", "-metrics=127.0.0.1:0"}, state: discover.Profiling, reason: `^$`,
			edit: func(c *discover.Config) { c.Rules.NoMetrics = true }},
		{name: "where no port is to be asked", args: []string{"-metrics=127.0.0.1:0"}, state: discover.NoEndpoint, reason: `it is not to be scraped$`,
			edit: func(c *discover.Config) { c.Rules.NoProbes = true }},
		{name: "turned off by its owner", args: []string{"-metrics=127.0.0.1:0"}, env: []string{"SONDE_DISABLED=1"}, state: discover.Denied, reason: `SONDE_DISABLED`},
		{name: "no port allowed", args: []string{"-metrics=127.0.0.1:0"}, state: discover.Denied, reason: `^denied by port rule`,
			edit: func(c *discover.Config) { c.Rules.AllowPorts = []int{1} }},
		{name: "reached by its agent", args: []string{"-metrics=127.0.0.1:0"}, state: discover.ByAgent, reason: `^$`,
			edit: func(c *discover.Config) { c.AgentSeen = func(string, uint64, uint64, []int) bool { return true } }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{Env: tt.env}, tt.args...)
			s := scanner(t, tt.edit)
			for range 2 { // the second scan remembers
				p := find(t, scan(t, s), proc.PID)
				want := ""
				if tt.metrics {
					want = fmt.Sprintf("http://127.0.0.1:%d/metrics", port(proc.Addrs["metrics"]))
				}
				if p.State != tt.state || !regexp.MustCompile(tt.reason).MatchString(p.Reason) || p.MetricsURL != want {
					t.Errorf("state %q, reason %q, metrics at %q; want %q, %s, %q", p.State, p.Reason, p.MetricsURL, tt.state, tt.reason, want)
				}
			}
		})
	}
	away.mu.Lock()
	defer away.mu.Unlock()
	for _, r := range away.requests { // whoever else scans this machine asks the port for other things
		if strings.HasSuffix(r, "/followed") {
			t.Errorf("a redirect was followed: %s", r)
		}
	}
}

// TestScanFollowsMetrics has the port of the metrics open after that of the profiles, and close.
func TestScanFollowsMetrics(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String() // of which nobody else makes use meanwhile, as good as certainly
	l.Close()
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0", "-later="+addr)
	s := scanner(t, nil)
	if p := find(t, scan(t, s), proc.PID); p.State != discover.Profiling || p.MetricsURL != "" {
		t.Fatalf("state %q: %s, metrics at %q", p.State, p.Reason, p.MetricsURL)
	}
	tell := func(what string) {
		t.Helper()
		resp, err := http.Get("http://" + proc.Addrs["pprof"] + what)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", what, b)
		}
	}
	tell("/later")
	if p := find(t, scan(t, s), proc.PID); p.MetricsURL != "http://"+addr+"/metrics" {
		t.Errorf("metrics at %q", p.MetricsURL)
	}
	tell("/close")
	if p := find(t, scan(t, s), proc.PID); p.State != discover.Profiling || p.MetricsURL != "" {
		t.Errorf("state %q, metrics at %q of a port that is closed", p.State, p.MetricsURL)
	}
}

// TestScanAsksForMetricsOnce counts what a port without any is asked, and that a dry run announces it.
func TestScanAsksForMetricsOnce(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0", "-log")
	s := scanner(t, nil)
	r, err := s.DryRun(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	announced := find(t, r, proc.PID).Touch
	for range 3 {
		scan(t, s)
	}
	resp, err := http.Get("http://" + proc.Addrs["pprof"] + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(b)) {
		if path, agent, _ := strings.Cut(line, " "); ours(agent) {
			got = append(got, "GET http://"+proc.Addrs["pprof"]+path)
		}
	}
	if !slices.Equal(got, announced) || !slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, "/metrics") }) {
		t.Errorf("requested %q, announced %q", got, announced)
	}
}

// ours reports whether it is the scanner of these tests that asked: others may scan this machine.
func ours(userAgent string) bool { return strings.HasPrefix(userAgent, "Sonde/1.2.3 ") }

// TestOwnMetricsAreNotAskedFor scans the test's own process, whose metrics a scanner knows without a request.
func TestOwnMetricsAreNotAskedFor(t *testing.T) {
	c := listenHere(t)
	p := find(t, scan(t, scanner(t, self(t))), os.Getpid())
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := 0
	for i, r := range c.requests {
		if ours(c.agents[i]) {
			if asked++; strings.HasSuffix(r, "/metrics") {
				t.Errorf("requested %s", r)
			}
		}
	}
	if p.MetricsURL != "" || asked == 0 {
		t.Errorf("%d requests, metrics at %q", asked, p.MetricsURL)
	}
}
