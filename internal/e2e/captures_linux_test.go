package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// TestCapturesAndOOMKill asks for captures of two services, one with the agent and one that knows nothing of Sonde, and then drives both into the OOM killer of a
// cgroup with a limit: the heap from just before the end is in the store, attached to an event.
func TestCapturesAndOOMKill(t *testing.T) {
	bins := t.TempDir()
	names := []string{"leaker", "leakeragent"}
	exes := map[string]string{}
	for _, name := range names {
		exes[name] = fixture(t, bins, name)
	}
	srv := startServe(t, t.TempDir(), "--allow", "path:"+bins+"/*", "--scrape-period", "2s")
	stdin := map[string]io.Writer{}
	for _, name := range names {
		stdin[name] = startLimited(t, name, exes[name], 128<<20, "SONDE_URL="+srv.url)
	}
	for _, name := range names {
		eventually(t, 60*time.Second, name+" to be reached", func() error {
			_, err := tryCLI(srv, "capture", "trace", "--service", name, "--shadow") // by its agent, or its endpoint
			return err
		})
	}

	// On demand, of both.
	dir := t.TempDir()
	for _, name := range names {
		trace, heap := filepath.Join(dir, name+".trace"), filepath.Join(dir, name+".pb.gz")
		if out := cli(t, srv, "capture", "trace", "--service", name, "--duration", "1s", "-o", trace); !strings.Contains(out, "go tool trace "+trace) {
			t.Errorf("sonde capture trace: %s", out)
		}
		if out, err := exec.Command("go", "tool", "trace", "-d=parsed", trace).CombinedOutput(); err != nil || len(out) < 1000 {
			t.Errorf("go tool trace of %s: %v\n%.500s", name, err, out)
		}
		cli(t, srv, "capture", "heap", "--service", name, "-o", heap)
		if out, err := exec.Command("go", "tool", "pprof", "-top", heap).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("inuse_space")) {
			t.Errorf("go tool pprof of %s: %v\n%.500s", name, err, out)
		}
		if out := cli(t, srv, "capture", "goroutines", "--service", name, "-o", "-"); !strings.Contains(out, "main.main()") {
			t.Errorf("the goroutines of %s: %.500s", name, out)
		}
	}

	// Out of memory.
	for _, name := range names {
		fmt.Fprintln(stdin[name], "go")
	}
	for _, name := range names {
		var e killEvent
		eventually(t, 90*time.Second, "the OOM kill of "+name, func() (err error) {
			e, err = killed(srv, name)
			return err
		})
		if leaked, err := leakedIn(srv, e.Attrs["capture_heap"]); err != nil || leaked < 10<<20 {
			t.Errorf("the heap of %s from before its end: %d bytes of the leak, %v: %+v", name, leaked, err, e)
		}
		t.Logf("%s: %s; captures %s", name, e.Text, e.Attrs["captures"])
	}
	srv.stop(t)
	srv.check(t)
}

// startLimited runs exe in a memory cgroup with a limit, and returns what it reads. It skips the test where that may not be done.
func startLimited(t *testing.T, name, exe string, limit int64, env ...string) io.Writer {
	t.Helper()
	group := ""
	for _, at := range []struct{ root, file string }{{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		if _, err := os.Stat(filepath.Join(at.root, "cgroup.procs")); err != nil {
			continue
		}
		group = filepath.Join(at.root, fmt.Sprintf("sonde-e2e-%d-%s", os.Getpid(), name))
		err := os.Mkdir(group, 0o755)
		if err == nil {
			t.Cleanup(func() { removeGroup(t, group) })
			err = os.WriteFile(filepath.Join(group, at.file), fmt.Append(nil, limit), 0o644)
		}
		if err != nil {
			t.Skipf("TestCapturesAndOOMKill needs root and a memory cgroup of its own: %v", err)
		}
		_ = os.WriteFile(filepath.Join(group, "memory.swap.max"), []byte("0"), 0o644) // swapped out it would live on
		break
	}
	if group == "" {
		t.Skip("TestCapturesAndOOMKill needs the memory controller of cgroups in /sys/fs/cgroup")
	}
	// The shell enters the cgroup before it becomes the program: none of its memory is counted elsewhere.
	cmd := exec.Command("/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$1"`, group, exe)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	ready := make(chan error, 1)
	go func() {
		defer close(reaped)
		_, err := bufio.NewReader(out).ReadString('\n')
		ready <- err
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-reaped
	})
	if err := <-ready; err != nil {
		t.Skipf("TestCapturesAndOOMKill needs to put a process into a cgroup: %v", err)
	}
	return in
}

// removeGroup removes a cgroup, which the kernel may hold for a moment after its last process.
func removeGroup(t *testing.T, group string) {
	for range 200 {
		if os.Remove(group) == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("cannot remove %s", group)
}

type killEvent struct {
	Kind  string            `json:"kind"`
	Text  string            `json:"text"`
	Attrs map[string]string `json:"attrs"`
}

// killed returns the event of a service's OOM kill.
func killed(srv *server, service string) (e killEvent, err error) {
	resp, err := http.Get(srv.url + "/api/v1/events?service=" + service)
	if err != nil {
		return e, err
	}
	defer resp.Body.Close()
	var answer struct {
		Events []killEvent `json:"events"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return e, err
	}
	kills := slices.DeleteFunc(slices.Clone(answer.Events), func(e killEvent) bool { return e.Kind != "oom_kill" })
	if len(kills) != 1 {
		return e, fmt.Errorf("%d of %d events: %+v", len(kills), len(answer.Events), answer.Events)
	}
	return kills[0], nil
}

// leakedIn returns the bytes of main.leakHere in a captured heap.
func leakedIn(srv *server, capture string) (n int64, err error) {
	resp, err := http.Get(srv.url + "/api/v1/captures/" + capture + "/flamegraph")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var f profiles.Flame
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
		return 0, err
	}
	for i, name := range f.Name {
		if f.Names[name] == "main.leakHere" {
			n += f.Value[i]
		}
	}
	return n, nil
}
