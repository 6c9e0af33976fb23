// Package discovertest compiles and starts the real Go processes that tests of discovery and scraping look at.
package discovertest

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var builds sync.Map // flags → func() (file, error)

// dir returns this package's folder.
func dir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Build compiles the target program with these go build flags, once per test binary, into a folder that every user may read. Main removes it.
func Build(tb testing.TB, flags ...string) string {
	tb.Helper()
	build, _ := builds.LoadOrStore(strings.Join(flags, " "), sync.OnceValues(func() (string, error) {
		tmp, err := os.MkdirTemp("", "sonde-target")
		if err != nil {
			return "", err
		}
		temps.Store(tmp, nil)
		if err := os.Chmod(tmp, 0o755); err != nil {
			return "", err
		}
		out := filepath.Join(tmp, "target")
		cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), "../testdata/target")...)
		cmd.Dir = dir()
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if b, err := cmd.CombinedOutput(); err != nil {
			return "", &buildError{err, string(b)}
		}
		return out, nil
	}))
	file, err := build.(func() (string, error))()
	if err != nil {
		tb.Fatalf("build target %v: %v", flags, err)
	}
	return file
}

var temps sync.Map

// Main runs the tests and removes what Build has built. Call it from TestMain.
func Main(m *testing.M) int {
	defer temps.Range(func(tmp, _ any) bool { os.RemoveAll(tmp.(string)); return true })
	return m.Run()
}

type buildError struct {
	err error
	out string
}

func (e *buildError) Error() string { return e.err.Error() + "\n" + e.out }

// Process is a running target.
type Process struct {
	PID   int
	Addrs map[string]string // of its listeners, by name: pprof, http, tls, mute

	cmd   *exec.Cmd
	stdin io.Closer
	once  sync.Once
}

// Options change how a target is started.
type Options struct {
	Env  []string
	Attr *syscall.SysProcAttr
}

// Start starts file and waits until it is ready; the end of the test ends it.
func Start(tb testing.TB, file string, o Options, args ...string) *Process {
	tb.Helper()
	p, err := start(file, o, args)
	if err != nil {
		tb.Fatalf("start %s %v: %v", file, args, err)
	}
	tb.Cleanup(p.Stop)
	return p
}

// TryStart is Start that returns what went wrong: not every machine lets a test make namespaces.
func TryStart(tb testing.TB, file string, o Options, args ...string) (*Process, error) {
	p, err := start(file, o, args)
	if err == nil {
		tb.Cleanup(p.Stop)
	}
	return p, err
}

func start(file string, o Options, args []string) (*Process, error) {
	cmd := exec.Command(file, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, o.Env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = o.Attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{PID: cmd.Process.Pid, cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.Addrs)
	}
	if err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// Stop ends the process and waits for it. It may be called twice.
func (p *Process) Stop() {
	p.once.Do(func() {
		p.stdin.Close()
		timer := time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() })
		defer timer.Stop()
		p.cmd.Wait()
	})
}

// Leaked returns the stacks of goroutines that run code of the package whose import path ends in pkg, once they have had time to end.
func Leaked(pkg string) string {
	var leaked string
	for range 100 {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		leaked = ""
		for g := range strings.SplitSeq(string(buf), "\n\n") {
			if strings.Contains(g, pkg+".(") && !strings.Contains(g, "testing.tRunner") {
				leaked += g + "\n\n"
			}
		}
		if leaked == "" {
			return ""
		}
		time.Sleep(20 * time.Millisecond)
	}
	return leaked
}
