package perf

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/internal/testgo"
)

// lowEnv makes the test binary the sampler of a user with few rights: its value is the program to watch.
const lowEnv = "SONDE_TEST_LOW_RIGHTS"

func TestMain(m *testing.M) {
	if program := os.Getenv(lowEnv); program != "" {
		if err := lowRights(program); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// lowReport is what the sampler with few rights found.
type lowReport struct {
	Mode                 Mode
	Refused              string
	Own, Root            bool
	OwnReason, RootWords string
	Samples              int64
	Hot                  int64
	Status               []Status
}

func lowRights(program string) error {
	sink := &memory{came: make(chan struct{}, 1)}
	s, err := New(Config{Sink: sink, Hz: 499, Window: 300 * time.Millisecond, CPULimit: -1, Mode: Mode(os.Getenv("SONDE_TEST_MODE"))})
	if err != nil {
		return err
	}
	r := lowReport{Mode: s.Stats().Mode, Refused: s.Stats().Refused}
	r.Own, r.OwnReason = s.Can(discover.Process{PID: os.Getpid(), UID: os.Geteuid(), GoVersion: testgo.Local()})
	r.Root, r.RootWords = s.Can(discover.Process{PID: 1, UID: 0, GoVersion: testgo.Local()})
	if r.Mode != "" {
		cmd := exec.Command(program, "run", "60s")
		if err := cmd.Start(); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(200 * time.Millisecond) // its exec
		s.SetTargets([]Target{target(cmd.Process.Pid, "own"), target(os.Getppid(), "root's")})
		for end := time.Now().Add(60 * time.Second); time.Now().Before(end) && sumOf(sink.all(), "own", "cpu").total < 40; {
			time.Sleep(50 * time.Millisecond)
		}
		r.Status = s.Status()
		cancel()
		if err := <-done; err != nil {
			return err
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		got := sumOf(sink.all(), "own", "cpu")
		r.Samples, r.Hot = got.total, got.cum["main.(*worker).run"]
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// asNobody runs the sampler as another user with the given capabilities.
func asNobody(t *testing.T, mode Mode, caps ...uintptr) lowReport {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: changing the user needs root")
	}
	// Where that user can read it.
	dir, err := os.MkdirTemp("", "sonde-perf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, program := filepath.Join(dir, "self"), filepath.Join(dir, "busy")
	copyFile(t, self, "/proc/self/exe")
	copyFile(t, program, busy(t, testgo.Local()))
	cmd := exec.Command(self)
	cmd.Env = []string{lowEnv + "=" + program, "SONDE_TEST_MODE=" + string(mode)}
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: caps}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r lowReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRightsTakenAway wants the words for what is missing, and all the rest done.
func TestRightsTakenAway(t *testing.T) {
	needSystem(t)
	paranoid := readRights().paranoid
	t.Run("none", func(t *testing.T) {
		r := asNobody(t, ModeAuto)
		if paranoid > 2 {
			if r.Mode != "" || !strings.Contains(r.Refused, "CAP_PERFMON is missing") {
				t.Errorf("%+v", r)
			}
			return
		}
		if paranoid < 2 {
			t.Skipf("SKIPPED: kernel.perf_event_paranoid is %d here", paranoid)
		}
		if r.Mode != ModeProcess || !r.Own || r.Samples < 40 || r.Hot < r.Samples/2 {
			t.Errorf("its own process: %+v", r)
		}
		for _, words := range []string{"sampling the whole machine is refused: CAP_PERFMON is missing (kernel.perf_event_paranoid is 2; 0 would do without it)",
			"time in the kernel is not counted: CAP_PERFMON is missing", "processes of other users are not sampled: CAP_SYS_PTRACE is missing"} {
			if strings.Count(r.Refused, words) != 1 {
				t.Errorf("%q is not said once in %q", words, r.Refused)
			}
		}
		if r.Root || r.RootWords != "process of uid 0: CAP_SYS_PTRACE is missing" {
			t.Errorf("root's process: %v, %q", r.Root, r.RootWords)
		}
		wantRefused(t, r, "CAP_SYS_PTRACE is missing")
	})
	t.Run("system-wide", func(t *testing.T) {
		if r := asNobody(t, ModeSystem); paranoid > 0 && (r.Mode != "" || r.Own || !strings.Contains(r.OwnReason, "mode system is refused: CAP_PERFMON is missing")) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("CAP_PERFMON", func(t *testing.T) {
		r := asNobody(t, ModeAuto, capPerfmon)
		if r.Mode != ModeSystem || !r.Own || r.Samples < 40 || r.Hot < r.Samples/2 {
			t.Errorf("its own process: %+v", r)
		}
		if r.Refused != "processes of other users are not sampled: CAP_SYS_PTRACE is missing" || r.Root {
			t.Errorf("refused %q, root's process %v", r.Refused, r.Root)
		}
		wantRefused(t, r, "CAP_SYS_PTRACE is missing")
	})
	t.Run("both", func(t *testing.T) {
		r := asNobody(t, ModeAuto, capPerfmon, capSysPtrace)
		if r.Mode != ModeSystem || r.Refused != "" || !r.Root || r.Samples < 40 {
			t.Errorf("%+v", r)
		}
	})
}

// wantRefused wants root's process in the status, with the reason.
func wantRefused(t *testing.T, r lowReport, words string) {
	t.Helper()
	for _, st := range r.Status {
		if st.Service == "root's" {
			if st.State != "refused" || !strings.Contains(st.Reason, words) {
				t.Errorf("root's process: %+v", st)
			}
			return
		}
	}
	t.Errorf("root's process is not in the status %+v", r.Status)
}

func TestWords(t *testing.T) {
	for _, tc := range []struct {
		r    rights
		what string
		err  error
		want string
	}{
		{rights{paranoid: 2}, "sampling the whole machine", unix.EACCES, "CAP_PERFMON is missing (kernel.perf_event_paranoid is 2; 0 would do without it)"},
		{rights{paranoid: 4}, "sampling", unix.EACCES, "CAP_PERFMON is missing (kernel.perf_event_paranoid is 4; 2 would do without it)"},
		{rights{paranoid: 2}, "sampling", unix.EPERM, "a seccomp filter or the kernel's lockdown forbids perf_event_open"},
		{rights{paranoid: 4, caps: 1 << capPerfmon}, "sampling", unix.EPERM, "a seccomp filter"},
		{rights{paranoid: -2}, "sampling", unix.EACCES, "kernel.perf_event_paranoid cannot be read"},
		{rights{paranoid: 2}, "sampling", unix.ENOSYS, "built without perf events"},
		{rights{paranoid: 2}, "sampling", unix.EMFILE, "ulimit -n"},
	} {
		if got := tc.r.words(tc.what, tc.err); !strings.Contains(got, tc.want) || !strings.HasPrefix(got, tc.what+" is refused") {
			t.Errorf("%+v, %v: %q lacks %q", tc.r, tc.err, got, tc.want)
		}
	}
}
