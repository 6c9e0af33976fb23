package discover_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
)

// childVar makes the test binary a scanner that writes its report to standard output.
const childVar = "SONDE_TEST_SCAN"

func TestScanChild(t *testing.T) {
	out := os.Getenv(childVar)
	if out == "" {
		t.Skip("this is the child of TestScanWithoutRoot")
	}
	s, err := discover.New(discover.Config{Rules: discover.Rules{AllowExes: []string{"/tmp/sonde-target*/target"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := scan(t, s)
	b, err := json.Marshal(childReport{r, r.Summary()})
	if err != nil {
		t.Fatal(err)
	}
	os.NewFile(3, "report").Write(b)
}

func TestScanWithoutRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to start a scanner of another user")
	}
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0")
	cmd := exec.Command(copyOfTest(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	got := scanAs(t, cmd)
	p := find(t, got.Report, proc.PID)
	if want := "needs root: cannot read /proc/" + itoa(proc.PID) + "/exe"; p.State != discover.NeedsRoot || p.Reason != want {
		t.Errorf("state %q: %s; want %s", p.State, p.Reason, want)
	}
	if p.Service != "target" || p.BuildID != "" || p.URL != "" {
		t.Errorf("service %q, build %q, URL %q: a guess by the command line names the service only", p.Service, p.BuildID, p.URL)
	}
	if !strings.Contains(got.Line, "need root") && !strings.Contains(got.Line, "needs root") {
		t.Errorf("summary %q", got.Line)
	}
}

// childReport is what the child tells.
type childReport struct {
	discover.Report
	Line string
}

// scanAs runs cmd, which is this test binary with other rights, as a scanner.
func scanAs(t *testing.T, cmd *exec.Cmd) (got childReport) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Args = append(cmd.Args, "-test.run=^TestScanChild$")
	cmd.Env = append(os.Environ(), childVar+"=1")
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{w}
	done := make(chan []byte)
	go func() { b, _ := io.ReadAll(r); done <- b }()
	b, err := cmd.CombinedOutput()
	w.Close()
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if err := json.Unmarshal(<-done, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// copyOfTest copies the test binary to where another user may run it.
func copyOfTest(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sonde-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	name := filepath.Join(dir, "discover.test")
	out, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// inNamespace starts a target in new namespaces, where the machine lets the test make them.
func inNamespace(t *testing.T, flags uintptr, args ...string) *discovertest.Process {
	t.Helper()
	o := discovertest.Options{Attr: &syscall.SysProcAttr{Cloneflags: flags}}
	p, err := discovertest.TryStart(t, discovertest.Build(t), o, args...)
	if errors.Is(err, os.ErrPermission) {
		t.Skip("this machine does not let the test make namespaces")
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// inNetwork runs f on a thread that is in the network of process pid meanwhile. It goes back: the first thread of a process cannot die.
func inNetwork(t *testing.T, pid int, f func() error) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var files []*os.File
	for _, id := range []string{"thread-self", itoa(pid)} {
		ns, err := os.Open("/proc/" + id + "/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		files = append(files, ns)
	}
	if err := unix.Setns(int(files[1].Fd()), unix.CLONE_NEWNET); err != nil {
		t.Skipf("this machine does not let the test enter another network: %v", err)
	}
	err := f()
	if back := unix.Setns(int(files[0].Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // everything that follows would be in the wrong network
	}
	if err != nil {
		t.Fatal(err)
	}
}

// loopbackUp turns on loopback in the network of process pid: in a new one it is down.
func loopbackUp(t *testing.T, pid int) {
	t.Helper()
	inNetwork(t, pid, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		ifr, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	})
}

// TestOtherNetworkNamespace has processes that listen on one address, each in a network of its own.
func TestOtherNetworkNamespace(t *testing.T) {
	var procs []*discovertest.Process
	for _, service := range []string{"one", "two"} {
		o := discovertest.Options{Env: []string{"OTEL_SERVICE_NAME=" + service}, Attr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}}
		proc, err := discovertest.TryStart(t, discovertest.Build(t), o, "-pprof=0.0.0.0:4711")
		if err != nil {
			t.Skipf("this machine does not let the test make namespaces: %v", err)
		}
		loopbackUp(t, proc.PID)
		procs = append(procs, proc)
	}
	s := scanner(t, nil)
	own, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := scan(t, s)
		for _, proc := range procs {
			p := find(t, r, proc.PID)
			if p.State != discover.Profiling || p.Gatherer != "scrape" || p.URL != "http://127.0.0.1:4711/debug/pprof" {
				t.Errorf("state %q by %q at %q: %s", p.State, p.Gatherer, p.URL, p.Reason)
			}
			if p.NetNS == own.Sys().(*syscall.Stat_t).Ino || !slices.Contains(r.Networks[p.NetNS], netip.MustParseAddr("127.0.0.1")) {
				t.Errorf("network %d with addresses %v", p.NetNS, r.Networks[p.NetNS])
			}
			if got := fetchIn(t, s, &p); !strings.Contains(got, "OTEL_SERVICE_NAME="+p.Service) {
				t.Errorf("what answers for %s is another process: %q", p.Service, got)
			}
		}
	}
	if after, err := os.Stat("/proc/self/ns/net"); err != nil || !os.SameFile(own, after) {
		t.Errorf("the process is in another network now: %v", err)
	}
}

// fetchIn asks the endpoint of p which process it is.
func fetchIn(t *testing.T, s *discover.Scanner, p *discover.Process) string {
	t.Helper()
	dial := s.Dial(p)
	if dial == nil {
		t.Fatalf("no way into the network of process %d", p.PID)
	}
	c := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	resp, err := c.Get(strings.TrimSuffix(p.URL, "/debug/pprof") + "/env")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestOtherNetworkWithoutRights scans without the capability to enter networks.
func TestOtherNetworkWithoutRights(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("this machine has no setpriv to drop a capability with")
	}
	proc := inNamespace(t, syscall.CLONE_NEWNET, "-pprof=0.0.0.0:4711")
	p := find(t, scanAs(t, exec.Command(setpriv, "--bounding-set=-sys_admin", copyOfTest(t))).Report, proc.PID)
	if want := "other network namespace: listens on 4711; entering it needs CAP_SYS_ADMIN"; p.State != discover.OtherNetNS || p.Reason != want {
		t.Errorf("state %q: %s; want %s", p.State, p.Reason, want)
	}
}

func TestProcessInOtherPIDNamespace(t *testing.T) {
	proc := inNamespace(t, syscall.CLONE_NEWPID, "-pprof=127.0.0.1:0")
	p := find(t, scan(t, scanner(t, nil)), proc.PID)
	if p.State != discover.Profiling {
		t.Fatalf("state %q: %s", p.State, p.Reason)
	}
	if len(p.PIDs) != 2 || p.PIDs[0] != proc.PID || p.PIDs[1] != 1 {
		t.Fatalf("pids %v, want %d and 1", p.PIDs, proc.PID)
	}
	// What the agent inside would say of itself.
	inside := discover.Identity{BootID: p.BootID, PIDNS: p.PIDNS, StartTicks: p.StartTicks, PIDs: []int{1}}
	if !p.Identity.Same(inside) || p.Instance != inside.Instance() {
		t.Errorf("%+v and %+v are one process", p.Identity, inside)
	}
	own := find(t, scan(t, scanner(t, self(t))), os.Getpid())
	if own.PIDNS == p.PIDNS || own.Identity.Same(inside) {
		t.Errorf("%+v and %+v are two processes", own.Identity, inside)
	}
}

// TestMetricsInOtherNetwork finds the metrics of a process in a network of its own, without pprof.
func TestMetricsInOtherNetwork(t *testing.T) {
	proc := inNamespace(t, syscall.CLONE_NEWNET, "-metrics=0.0.0.0:4712")
	loopbackUp(t, proc.PID)
	s := scanner(t, nil)
	p := find(t, scan(t, s), proc.PID)
	if p.MetricsURL != "http://127.0.0.1:4712/metrics" || p.State != discover.NoEndpoint {
		t.Fatalf("state %q: %s, metrics at %q", p.State, p.Reason, p.MetricsURL)
	}
	c := http.Client{Transport: &http.Transport{DialContext: s.Dial(&p), DisableKeepAlives: true}}
	resp, err := c.Get(p.MetricsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), "\ngo_goroutines ") {
		t.Errorf("%v, %.100q", err, b)
	}
}
