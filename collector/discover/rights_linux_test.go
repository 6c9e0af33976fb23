package discover_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
	s, err := discover.New(discover.Config{Rules: discover.Rules{AllowExes: []string{"/nothing"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := scan(t, s)
	b, err := json.Marshal(struct {
		discover.Report
		Line string
	}{r, r.Summary()})
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
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(copyOfTest(t), "-test.run=^TestScanChild$")
	cmd.Env = append(os.Environ(), childVar+"=1")
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	done := make(chan []byte)
	go func() { b, _ := io.ReadAll(r); done <- b }()
	b, err := cmd.CombinedOutput()
	w.Close()
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	var got struct {
		discover.Report
		Line string
	}
	if err := json.Unmarshal(<-done, &got); err != nil {
		t.Fatal(err)
	}
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

func TestOtherNetworkNamespace(t *testing.T) {
	// Loopback is down in a new network: it can be listened on all addresses only.
	proc := inNamespace(t, syscall.CLONE_NEWNET, "-pprof=0.0.0.0:4711")
	p := find(t, scan(t, scanner(t, nil)), proc.PID)
	if p.State != discover.OtherNetNS || p.Reason != "other network namespace: listens on 4711; not reachable from here" {
		t.Errorf("state %q: %s", p.State, p.Reason)
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
