package discover_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/symbols/build"
)

func TestMain(m *testing.M) { os.Exit(discovertest.Main(m)) }

// scanner returns one that touches nothing but targets compiled by these tests: the machine has other users.
func scanner(t *testing.T, edit func(*discover.Config)) *discover.Scanner {
	t.Helper()
	cfg := discover.Config{Version: "1.2.3", Host: "testhost", ProbeTimeout: 5 * time.Second,
		Rules: discover.Rules{AllowExes: []string{"/tmp/sonde-target*/target", os.TempDir() + "/sonde-target*/target"}}}
	if edit != nil {
		edit(&cfg)
	}
	s, err := discover.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if stacks := discovertest.Leaked("collector/discover"); stacks != "" {
			t.Errorf("goroutines left behind:\n%s", stacks)
		}
	})
	return s
}

func scan(t *testing.T, s *discover.Scanner) discover.Report {
	t.Helper()
	r, err := s.Scan(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func find(t *testing.T, r discover.Report, pid int) discover.Process {
	t.Helper()
	for _, p := range r.Processes {
		if p.PID == pid {
			return p
		}
	}
	t.Fatalf("process %d is not among the %d found", pid, len(r.Processes))
	return discover.Process{}
}

func port(addr string) int {
	_, p, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(p)
	return n
}

func TestScanDecidesPerProcess(t *testing.T) {
	for _, tt := range []struct {
		name     string
		build    []string
		args     []string
		env      func(dir string) []string
		edit     func(*discover.Config)
		state    discover.State
		gatherer string
		url      string // regular expression
		reason   string // regular expression, the whole
	}{
		{name: "pprof", args: []string{"-pprof=127.0.0.1:0"},
			state: discover.Profiling, gatherer: "scrape", url: `^http://127\.0\.0\.1:\d+/debug/pprof$`, reason: `^$`},
		{name: "pprof, stripped", build: []string{"-ldflags=-s -w"}, args: []string{"-pprof=127.0.0.1:0"},
			state: discover.Profiling, gatherer: "scrape", url: `/debug/pprof$`, reason: `^$`},
		{name: "pprof, position independent", build: []string{"-buildmode=pie"}, args: []string{"-pprof=127.0.0.1:0"},
			state: discover.Profiling, gatherer: "scrape", url: `/debug/pprof$`, reason: `^$`},
		{name: "pprof on IPv6", args: []string{"-pprof=[::1]:0"},
			state: discover.Profiling, gatherer: "scrape", url: `^http://\[::1\]:\d+/debug/pprof$`, reason: `^$`},
		{name: "pprof beside a server without", args: []string{"-pprof=127.0.0.1:0", "-http=127.0.0.1:0"},
			state: discover.Profiling, gatherer: "scrape", url: `/debug/pprof$`, reason: `^$`},
		{name: "pprof without an index", args: []string{"-pprof=127.0.0.1:0", "-only=heap"},
			state: discover.Profiling, gatherer: "scrape", url: `/debug/pprof$`, reason: `^$`},
		{name: "pprof under another path", args: []string{"-pprof=127.0.0.1:0", "-prefix=/internal"},
			edit:  func(c *discover.Config) { c.Paths = []string{"/debug/pprof", "/internal/debug/pprof/"} },
			state: discover.Profiling, gatherer: "scrape", url: `/internal/debug/pprof$`, reason: `^$`},
		{name: "pprof under a path that is not looked for", args: []string{"-pprof=127.0.0.1:0", "-prefix=/internal"},
			state: discover.NoEndpoint, reason: `^no endpoint: none of its ports \d+ answered /debug/pprof \(\d+: 404 Not Found\)$`},
		{name: "gops", args: []string{"-gops"}, env: func(dir string) []string { return []string{"HOME=" + dir} },
			state: discover.Profiling, gatherer: "gops", reason: `^$`},
		{name: "gops with its own folder", args: []string{"-gops"}, env: func(dir string) []string { return []string{"GOPS_CONFIG_DIR=" + dir} },
			state: discover.Profiling, gatherer: "gops", reason: `^$`},
		{name: "pprof wins over gops", args: []string{"-gops", "-pprof=127.0.0.1:0"}, env: func(dir string) []string { return []string{"HOME=" + dir} },
			state: discover.Profiling, gatherer: "scrape", url: `/debug/pprof$`, reason: `^$`},
		{name: "pprof that is not to be looked for", args: []string{"-pprof=127.0.0.1:0"}, edit: func(c *discover.Config) { c.Rules.NoProbes = true },
			state: discover.NoEndpoint, reason: `^no endpoint is looked for: it is not to be scraped$`},
		{name: "gops that is not to be used", args: []string{"-gops"}, env: func(dir string) []string { return []string{"HOME=" + dir} }, edit: func(c *discover.Config) { c.Rules.NoGops = true },
			state: discover.NoEndpoint, reason: `^no endpoint but a gops agent, which is not to be used$`},
		{name: "nothing", state: discover.NoEndpoint, reason: `^no endpoint: it listens on no TCP port$`},
		{name: "TLS", args: []string{"-tls"},
			state: discover.NoEndpoint, reason: `^no endpoint: none of its ports \d+ answered /debug/pprof \(\d+: speaks TLS, only plain HTTP is probed\)$`},
		{name: "never answers", args: []string{"-mute=127.0.0.1:0"}, edit: func(c *discover.Config) { c.ProbeTimeout = 100 * time.Millisecond },
			state: discover.NoEndpoint, reason: `\(\d+: no answer in time\)$`},
		{name: "answers as another process", args: []string{"-pprof=127.0.0.1:0", "-args"},
			state: discover.NoEndpoint, reason: `answers, but not with the command line of this process`},
		{name: "uid denied", args: []string{"-pprof=127.0.0.1:0"}, edit: func(c *discover.Config) { c.Rules.DenyUIDs = []int{os.Getuid()} },
			state: discover.Denied, reason: `^denied by uid rule: uid \d+$`},
		{name: "uid not allowed", args: []string{"-pprof=127.0.0.1:0"}, edit: func(c *discover.Config) { c.Rules.AllowUIDs = []int{os.Getuid() + 1} },
			state: discover.Denied, reason: `^denied by uid rule: uid \d+$`},
		{name: "executable denied", args: []string{"-pprof=127.0.0.1:0"},
			edit:  func(c *discover.Config) { c.Rules.DenyExes = []string{"/*/*/tar*"} },
			state: discover.Denied, reason: `^denied by path rule: /.*/target$`},
		{name: "no port allowed", args: []string{"-pprof=127.0.0.1:0"}, edit: func(c *discover.Config) { c.Rules.AllowPorts = []int{1} },
			state: discover.Denied, reason: `^denied by port rule: \d+$`},
		{name: "turned off by its owner", args: []string{"-pprof=127.0.0.1:0"}, env: func(string) []string { return []string{"SONDE_DISABLED=1"} },
			state: discover.Denied, reason: `^denied by its environment: SONDE_DISABLED is set$`},
		{name: "reached by its agent", args: []string{"-pprof=127.0.0.1:0"},
			edit:  func(c *discover.Config) { c.AgentSeen = func(string, uint64, uint64, []int) bool { return true } },
			state: discover.ByAgent, gatherer: "agent", reason: `^$`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := discovertest.Build(t, tt.build...)
			var o discovertest.Options
			if tt.env != nil {
				o.Env = tt.env(t.TempDir())
			}
			proc := discovertest.Start(t, file, o, tt.args...)
			p := find(t, scan(t, scanner(t, tt.edit)), proc.PID)
			if p.State != tt.state || p.Gatherer != tt.gatherer || !regexp.MustCompile(tt.reason).MatchString(p.Reason) {
				t.Errorf("state %q by %q, reason %q; want %q by %q, %s", p.State, p.Gatherer, p.Reason, tt.state, tt.gatherer, tt.reason)
			}
			if !regexp.MustCompile(tt.url).MatchString(p.URL) || (tt.url == "") != (p.URL == "") {
				t.Errorf("URL %q, want %s", p.URL, tt.url)
			}
			if (tt.gatherer == "gops") != (p.GopsAddr != "" && p.URL == "") {
				t.Errorf("gops address %q with gatherer %q", p.GopsAddr, tt.gatherer)
			}
			info, err := build.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if p.BuildID != info.Key() || p.BuildID == "" || p.GoVersion != info.GoVersion || p.Exe != file {
				t.Errorf("build %q of %s by %s, the file says %q, %s", p.BuildID, p.Exe, p.GoVersion, info.Key(), info.GoVersion)
			}
		})
	}
}

func TestScanDescribesProcess(t *testing.T) {
	file := discovertest.Build(t)
	before := time.Now()
	named := discovertest.Start(t, file, discovertest.Options{Env: []string{
		"OTEL_SERVICE_NAME=cart", "SECRET=hunter2",
		"OTEL_RESOURCE_ATTRIBUTES=service.version=v1.2.0,deployment.environment.name=prod,team=a%20b,service.instance.id=x",
	}})
	plain := discovertest.Start(t, file, discovertest.Options{})
	s := scanner(t, nil)
	r := scan(t, s)
	p := find(t, r, named.PID)
	if p.Service != "cart" || p.Version != "v1.2.0" {
		t.Errorf("service %q version %q", p.Service, p.Version)
	}
	want := map[string]string{
		"service_name": "cart", "service_version": "v1.2.0", "deployment_environment_name": "prod", "team": "a b",
		"host_name": "testhost", "process_pid": strconv.Itoa(named.PID),
	}
	for k, v := range want {
		if p.Labels[k] != v {
			t.Errorf("label %s=%q, want %q", k, p.Labels[k], v)
		}
	}
	if p.Labels["service_instance_id"] != "" {
		t.Error("the instance id came from the environment")
	}
	if q := find(t, r, plain.PID); q.Service != "target" || q.Instance == p.Instance {
		t.Errorf("service %q, instances %s and %s", q.Service, p.Instance, q.Instance)
	}
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(p.Instance) {
		t.Errorf("instance %q", p.Instance)
	}
	if d := p.Started.Sub(before); d < -time.Second || d > time.Minute {
		t.Errorf("started %v after the test, as /proc tells it", d)
	}
	if len(p.PIDs) == 0 || p.PIDs[0] != named.PID || p.StartTicks == 0 || p.BootID == "" || p.PIDNS == 0 || p.UID != os.Getuid() {
		t.Errorf("identity %+v of uid %d", p.Identity, p.UID)
	}
	// The second scan, from the cache, says the same.
	if again := find(t, scan(t, s), named.PID); again.Instance != p.Instance || again.Service != p.Service || again.BuildID != p.BuildID {
		t.Errorf("second scan: %+v, first %+v", again, p)
	}
}

func TestScanFollowsProcesses(t *testing.T) {
	file := discovertest.Build(t)
	s := scanner(t, nil)
	first := discovertest.Start(t, file, discovertest.Options{}, "-pprof=127.0.0.1:0")
	if p := find(t, scan(t, s), first.PID); p.State != discover.Profiling {
		t.Fatalf("state %q: %s", p.State, p.Reason)
	}
	second := discovertest.Start(t, file, discovertest.Options{}, "-pprof=127.0.0.1:0")
	first.Stop()
	r := scan(t, s)
	if p := find(t, r, second.PID); p.State != discover.Profiling {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
	if slices.ContainsFunc(r.Processes, func(p discover.Process) bool { return p.PID == first.PID }) {
		t.Error("a process that ended is still reported")
	}
}

func TestScanIgnoresStalePortFile(t *testing.T) {
	home := t.TempDir()
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{Env: []string{"GOPS_CONFIG_DIR=" + home}}, "-mute=127.0.0.1:0")
	// The port of another process, as an agent that died would have left it for a pid that is used again.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(filepath.Join(home, strconv.Itoa(proc.PID)), []byte(strconv.Itoa(port(l.Addr().String()))), 0o644); err != nil {
		t.Fatal(err)
	}
	p := find(t, scan(t, scanner(t, func(c *discover.Config) { c.ProbeTimeout = 100 * time.Millisecond })), proc.PID)
	if p.GopsAddr != "" || p.State != discover.NoEndpoint {
		t.Errorf("gops %q, state %q: %s", p.GopsAddr, p.State, p.Reason)
	}
}

// counter is a listener that counts connections and keeps what it was asked.
type counter struct {
	net.Listener
	conns    atomic.Int64
	mu       sync.Mutex
	requests []string
	agents   []string
}

func (c *counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.conns.Add(1)
	}
	return conn, err
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r.Method+" http://"+r.Host+r.URL.String())
	c.agents = append(c.agents, r.UserAgent())
	if strings.HasSuffix(r.URL.Path, "/cmdline") {
		w.Write([]byte(strings.Join(os.Args, "\x00")))
	}
}

// listenHere makes the test's own process one that listens: the scanner is told to take it as any other.
func listenHere(t *testing.T) *counter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{Listener: l}
	srv := &http.Server{Handler: c}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(c) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return c
}

func self(t *testing.T) func(*discover.Config) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return func(c *discover.Config) { c.Self, c.Rules.AllowExes = true, []string{exe} }
}

func TestDryRunTouchesNothing(t *testing.T) {
	c := listenHere(t)
	s := scanner(t, self(t))
	r, err := s.DryRun(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	p := find(t, r, os.Getpid())
	if p.State != discover.NotProbed || !strings.Contains(p.Reason, "not probed yet: listens on") {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
	// The scan that follows does what was announced, once, and connects to nothing before.
	if n := c.conns.Load(); n != 0 {
		t.Errorf("the dry run made %d connections", n)
	}
	if q := find(t, scan(t, s), os.Getpid()); q.State != discover.Profiling {
		t.Errorf("state %q: %s", q.State, q.Reason)
	}
	scan(t, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.requests, p.Touch) {
		t.Errorf("announced %q, requested %q", p.Touch, c.requests)
	}
	for _, a := range c.agents {
		if a != "Sonde/1.2.3 (+https://github.com/sonde-io/sonde)" {
			t.Errorf("User-Agent %q", a)
		}
	}
}

func TestScanLeavesDeniedPortsAlone(t *testing.T) {
	c, open := listenHere(t), listenHere(t)
	s := scanner(t, func(cfg *discover.Config) {
		self(t)(cfg)
		cfg.Rules.DenyPorts = []int{port(c.Addr().String())}
	})
	for range 2 {
		if p := find(t, scan(t, s), os.Getpid()); p.URL != "http://"+open.Addr().String()+"/debug/pprof" {
			t.Errorf("URL %q: %s", p.URL, p.Reason)
		}
	}
	if n := c.conns.Load(); n != 0 {
		t.Errorf("%d connections to a denied port", n)
	}
}

func TestScanFollowsPorts(t *testing.T) {
	first := listenHere(t)
	s := scanner(t, self(t))
	if p := find(t, scan(t, s), os.Getpid()); p.URL != "http://"+first.Addr().String()+"/debug/pprof" {
		t.Fatalf("URL %q: %s", p.URL, p.Reason)
	}
	first.Close()
	if p := find(t, scan(t, s), os.Getpid()); p.State != discover.NoEndpoint || p.URL != "" {
		t.Errorf("state %q, URL %q after the port was closed", p.State, p.URL)
	}
	next := listenHere(t)
	if p := find(t, scan(t, s), os.Getpid()); p.URL != "http://"+next.Addr().String()+"/debug/pprof" {
		t.Errorf("URL %q: %s", p.URL, p.Reason)
	}
}

func TestScanDoesNotLookAtItself(t *testing.T) {
	c := listenHere(t)
	s := scanner(t, func(cfg *discover.Config) { self(t)(cfg); cfg.Self = false })
	if p := find(t, scan(t, s), os.Getpid()); p.State != discover.SelfProcess {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
	if n := c.conns.Load(); n != 0 {
		t.Errorf("%d connections to itself", n)
	}
}

func TestScanProbesEachPortOnce(t *testing.T) {
	c := listenHere(t)
	c.requests = nil
	s := scanner(t, func(cfg *discover.Config) { self(t)(cfg); cfg.Paths = []string{"/elsewhere"} })
	os.Args = append(os.Args, "so that the answer is another process's")
	defer func() { os.Args = os.Args[:len(os.Args)-1] }()
	for range 3 {
		scan(t, s)
	}
	if n := c.conns.Load(); n != 1 {
		t.Errorf("%d connections to a port that is no endpoint, want 1", n)
	}
	later := listenHere(t) // a port that opens later has its own turn
	scan(t, s)
	if n, m := c.conns.Load(), later.conns.Load(); n != 1 || m != 1 {
		t.Errorf("%d connections to the first port and %d to the later one, want 1 and 1", n, m)
	}
}

func TestAgentIsNeverScrapedAgain(t *testing.T) {
	c := listenHere(t)
	var seen atomic.Bool
	seen.Store(true)
	var asked atomic.Int64
	s := scanner(t, func(cfg *discover.Config) {
		self(t)(cfg)
		cfg.AgentSeen = func(boot string, pidns, ticks uint64, pids []int) bool {
			asked.Add(1)
			id := discover.Identity{BootID: boot, PIDNS: pidns, StartTicks: ticks, PIDs: pids}
			return seen.Load() && len(pids) > 0 && pids[0] == os.Getpid() && id.Same(id)
		}
	})
	if p := find(t, scan(t, s), os.Getpid()); p.State != discover.ByAgent {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
	seen.Store(false) // its owner turned the agent off: that is not an invitation
	if p := find(t, scan(t, s), os.Getpid()); p.State != discover.ByAgent {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
	if n := c.conns.Load(); n != 0 || asked.Load() == 0 {
		t.Errorf("%d connections, agent asked after %d times", n, asked.Load())
	}
}

func TestScanHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := scanner(t, nil).Scan(ctx); err == nil {
		t.Error("no error of a scan whose context was done")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]discover.Config{
		"a root that is no proc":   {ProcRoot: t.TempDir()},
		"a root that is not there": {ProcRoot: filepath.Join(t.TempDir(), "none")},
		"a bad pattern":            {Rules: discover.Rules{DenyExes: []string{"[a"}}},
		"a path without a slash":   {Paths: []string{"debug/pprof"}},
	} {
		if s, err := discover.New(cfg); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
}
