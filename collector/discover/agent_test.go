package discover_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
)

const agentProgram = `package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, nil)
	fmt.Printf("{\"pprof\":%q}\n", l.Addr())
	io.Copy(io.Discard, os.Stdin)
}
`

// TestAgentGetsTimeForItsFirstPush: a program that has the agent in it, by its build information, is not probed at once.
func TestAgentGetsTimeForItsFirstPush(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module github.com/sonde-io/sonde/agent\n\ngo 1.23\n", "main.go": agentProgram} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "target")
	cmd := exec.Command("go", "build", "-o", file, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	proc := discovertest.Start(t, file, discovertest.Options{})
	grace := func(d time.Duration) func(*discover.Config) {
		return func(c *discover.Config) { c.AgentGrace, c.Rules.AllowExes = d, []string{file} }
	}
	p := find(t, scan(t, scanner(t, grace(time.Hour))), proc.PID)
	if p.State != discover.Waiting || !strings.Contains(p.Reason, "has the agent built in") {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
	s := scanner(t, grace(time.Nanosecond)) // its agent stays silent
	scan(t, s)
	if p := find(t, scan(t, s), proc.PID); p.State != discover.Profiling {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
}

// TestProcMountedElsewhere looks through another path to proc, as a container does that has the host's mounted.
func TestProcMountedElsewhere(t *testing.T) {
	if _, err := os.Stat("/proc/self/root/proc/stat"); err != nil {
		t.Skip("this machine has no second path to /proc")
	}
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0")
	s := scanner(t, func(c *discover.Config) { c.ProcRoot = "/proc/self/root/proc" })
	r := scan(t, s)
	if p := find(t, r, proc.PID); p.State != discover.Profiling {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
	if p := find(t, r, os.Getpid()); p.State != discover.SelfProcess {
		t.Errorf("state %q: %s", p.State, p.Reason)
	}
}
