// Package e2e tests the built command as its users run it: real processes, real pushes, real restarts.
package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover/discovertest"
)

// buildDir holds the command while the tests run.
var buildDir string

// sonde builds the command once and returns its path.
var sonde = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(buildDir, "sonde")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/sonde-io/sonde/cmd/sonde").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build sonde: %w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sonde-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := discovertest.Main(m)
	os.RemoveAll(dir)
	os.Exit(code)
}

// server is a running `sonde serve`.
type server struct {
	url  string
	addr string
	dir  string
	args []string
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{}
}

// startServe runs `sonde serve` on dir and a free loopback port, without discovery unless args turn it on, and waits until it is ready.
func startServe(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if len(args) == 0 {
		args = []string{"--discover=false"}
	}
	return launch(t, dir, addr, args)
}

func launch(t testing.TB, dir, addr string, args []string) *server {
	t.Helper()
	s := spawn(t, dir, addr, args)
	s.await(t)
	return s
}

// spawn starts the command and does not wait for it.
func spawn(t testing.TB, dir, addr string, args []string) *server {
	t.Helper()
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{url: "http://" + addr, addr: addr, dir: dir, args: args, log: new(syncBuffer), done: make(chan struct{})}
	s.cmd = exec.Command(bin, append([]string{"serve", "--listen", addr, "--data", dir}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.done
		if t.Failed() {
			t.Logf("sonde serve wrote:\n%s", s.log.tail(60))
		}
	})
	return s
}

// await returns when s is ready.
func (s *server) await(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(s.url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-s.done:
			t.Fatalf("sonde serve ended: %v\n%s", s.cmd.ProcessState, s.log.tail(60))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("sonde serve is not ready: %v\n%s", err, s.log.tail(60))
		}
	}
}

// stop ends the server as an operator does and fails the test unless it drains cleanly.
func (s *server) stop(t testing.TB) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(60 * time.Second):
		t.Fatal("sonde serve did not stop within 60 s of SIGTERM")
	}
	if !s.cmd.ProcessState.Success() {
		t.Fatalf("sonde serve: %v\n%s", s.cmd.ProcessState, s.log.tail(60))
	}
}

// kill ends the server as the kernel does.
func (s *server) kill(t testing.TB) {
	t.Helper()
	s.cmd.Process.Kill()
	<-s.done
}

func (s *server) restart(t *testing.T) *server {
	t.Helper()
	s.stop(t)
	return launch(t, s.dir, s.addr, s.args)
}

// check runs `sonde check` on the directory of the stopped server.
func (s *server) check(t testing.TB) {
	t.Helper()
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin, "check", s.dir).CombinedOutput(); err != nil {
		t.Errorf("sonde check: %v\n%s", err, out)
	}
}

// syncBuffer is a bytes.Buffer that a process writes while a test reads.
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

// tail returns the last n lines.
func (b *syncBuffer) tail(n int) string {
	var lines []string
	for sc := bufio.NewScanner(strings.NewReader(b.String())); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
