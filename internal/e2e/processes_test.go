package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// TestProcesses follows two real services, one with the agent and one that only serves net/http/pprof, from their start to a flame graph,
// to go tool pprof and to a build with -pgo, and on to the same answers after a restart.
func TestProcesses(t *testing.T) {
	bins := t.TempDir()
	plainExe, agentExe := fixture(t, bins, "plain"), fixture(t, bins, "withagent")
	srv := startServe(t, t.TempDir(), "--allow", "path:"+bins+"/*", "--scrape-period", "2s", "--cpu-period", "5s", "--cpu-duration", "2s")
	plain := startFixture(t, plainExe, "OTEL_SERVICE_NAME=plain", "OTEL_RESOURCE_ATTRIBUTES=service.version=v7")
	agent := startFixture(t, agentExe, "SONDE_URL="+srv.url)

	for _, service := range []string{"plain", "withagent"} {
		eventually(t, 90*time.Second, "the hot function of "+service, func() error {
			return hot(srv, service)
		})
	}
	eventually(t, 30*time.Second, "both in sonde ps", func() error { return listed(srv, plain.cmd.Process.Pid, agent.cmd.Process.Pid) })

	if out := cli(t, srv, "flame", "--service", "plain", "--min", "0.1"); !strings.Contains(out, "main.hotspot") {
		t.Errorf("sonde flame has no main.hotspot:\n%s", out)
	}
	if out := cli(t, srv, "flame", "--service", "plain", "--query", `{service_version="v7"}`); !strings.Contains(out, "main.hotspot") {
		t.Errorf("the version of OTEL_RESOURCE_ATTRIBUTES is not on the profiles:\n%s", out)
	}
	for _, typ := range []string{"heap", "goroutine", "heap:alloc_space"} {
		for _, service := range []string{"plain", "withagent"} {
			eventually(t, 60*time.Second, typ+" of "+service, func() error {
				// A gauge is a mean over the range: that of three goroutines over an hour of which they lived a minute is none.
				out, err := tryCLI(srv, "top", "--service", service, "--type", typ, "--since", "20s", "-o", "json")
				if err != nil {
					return err
				}
				var top profiles.Top
				if err := json.Unmarshal(out, &top); err != nil {
					return err
				}
				if top.Total <= 0 {
					return fmt.Errorf("its total is %d", top.Total)
				}
				return nil
			})
		}
	}
	pprofReads(t, srv)
	pgoBuilds(t, srv)

	// Nothing may be running while the answers before and after the restart are compared.
	agent.stop(t)
	plain.stop(t)
	before := totals(t, srv)
	srv = srv.restart(t)
	if after := totals(t, srv); after != before {
		t.Errorf("totals after the restart:\n%s\nbefore:\n%s", after, before)
	}
	srv.stop(t)
	srv.check(t)
}

// hot returns an error until main.hotspot leads the functions of service.
func hot(srv *server, service string) error {
	out, err := tryCLI(srv, "top", "--service", service, "--type", "cpu", "-o", "json")
	if err != nil {
		return err
	}
	var top profiles.Top
	if err := json.Unmarshal(out, &top); err != nil {
		return err
	}
	for _, r := range top.Rows {
		if r.Function == "main.hotspot" && r.Total > top.Total/2 {
			return nil
		}
	}
	return fmt.Errorf("main.hotspot is not most of %d ns in %d functions", top.Total, len(top.Rows))
}

// listed returns an error until the service with the agent is profiled by it, and by it only, and the other one is scraped.
func listed(srv *server, plain, agent int) error {
	out, err := tryCLI(srv, "ps", "-o", "json")
	if err != nil {
		return err
	}
	var ps struct {
		Processes []struct {
			PID                                int
			Service, Version, Gatherer, Reason string
		}
	}
	if err := json.Unmarshal(out, &ps); err != nil {
		return err
	}
	gatherers := map[int][]string{}
	for _, p := range ps.Processes {
		gatherers[p.PID] = append(gatherers[p.PID], p.Gatherer)
	}
	if fmt.Sprint(gatherers[plain]) != "[scrape]" || fmt.Sprint(gatherers[agent]) != "[agent]" {
		return fmt.Errorf("gatherers of plain: %v, of withagent: %v, in %s", gatherers[plain], gatherers[agent], out)
	}
	return nil
}

// pprofReads runs go tool pprof on the collector's address, as README says.
func pprofReads(t *testing.T, srv *server) {
	t.Helper()
	cmd := exec.Command("go", "tool", "pprof", "-top", srv.url+"/api/v1/profile?query=plain&type=cpu&from=now-1h")
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("main.hotspot")) {
		t.Errorf("go tool pprof: %v\n%s", err, out)
	}
}

// pgoBuilds gives the profile that the collector made to go build, of a program that imports nothing: with -pgo all its packages are compiled anew.
func pgoBuilds(t *testing.T, srv *server) {
	t.Helper()
	dir := t.TempDir()
	pgo, src := filepath.Join(dir, "default.pgo"), filepath.Join(dir, "main.go")
	cli(t, srv, "get", "--service", "plain", "-o", "pgo", "-f", pgo)
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "build", "-pgo="+pgo, "-o", filepath.Join(dir, "main"), src).CombinedOutput()
	if err != nil {
		t.Errorf("go build -pgo: %v\n%s", err, out)
	}
}

// totals is what is stored of each service and type, in a form to compare.
func totals(t *testing.T, srv *server) string {
	t.Helper()
	var b strings.Builder
	for _, service := range []string{"plain", "withagent"} {
		for _, typ := range []string{"cpu", "heap:alloc_space", "mutex", "block"} {
			out := cli(t, srv, "top", "--service", service, "--type", typ, "--from", "0", "-o", "json")
			var top profiles.Top
			if err := json.Unmarshal([]byte(out), &top); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %s: %d in %d profiles, %d functions\n", service, typ, top.Total, top.Stats.Profiles, len(top.Rows))
		}
	}
	return b.String()
}

// tryCLI runs the command against srv and returns its standard output.
func tryCLI(srv *server, args ...string) ([]byte, error) {
	bin, err := sonde()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "SONDE_URL="+srv.url)
	out, err := cmd.Output()
	if ee, ok := err.(*exec.ExitError); ok {
		return out, fmt.Errorf("sonde %s: %w: %s", strings.Join(args, " "), err, ee.Stderr)
	}
	return out, err
}

func cli(t *testing.T, srv *server, args ...string) string {
	t.Helper()
	out, err := tryCLI(srv, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// eventually calls ok until it returns nil. The deadline is for what never happens, not for what is slow.
func eventually(t *testing.T, deadline time.Duration, what string, ok func() error) {
	t.Helper()
	end := time.Now().Add(deadline)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s: %v", deadline, what, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// fixture compiles one of the programs in testdata into dir.
func fixture(t testing.TB, dir, name string) string {
	t.Helper()
	exe := filepath.Join(dir, name)
	if out, err := exec.Command("go", "build", "-o", exe, "./testdata/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return exe
}

// process is a running fixture.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	once sync.Once
}

// startFixture starts exe and waits until it says that it is ready.
func startFixture(t *testing.T, exe string, env ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(exe), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready") {
		t.Fatalf("%s said %q, %v", exe, line, err)
	}
	return p
}

func (p *process) wait() {
	p.once.Do(func() {
		p.cmd.Wait()
		close(p.done)
	})
	<-p.done
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait()
}
