package agent

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cgroup"
)

// memoryCgroup makes a cgroup with a limit on memory and no swap, of whichever version the machine has.
func memoryCgroup(t *testing.T, limit int) string {
	t.Helper()
	name := "sonde-agent-test-" + strconv.Itoa(os.Getpid())
	var tried []string
	for _, v := range []struct{ root, limit, swap, none string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", strconv.Itoa(limit)},
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max", "0"},
	} {
		dir := filepath.Join(v.root, name)
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			t.Cleanup(func() { _ = os.Remove(dir) })
			if err = os.WriteFile(filepath.Join(dir, v.limit), []byte(strconv.Itoa(limit)), 0o644); err == nil {
				_ = os.WriteFile(filepath.Join(dir, v.swap), []byte(v.none), 0o644) // not there where swap is not counted
				return dir
			}
			_ = os.Remove(dir)
		}
		tried = append(tried, err.Error())
	}
	t.Skipf("SKIPPED: no memory cgroup can be made here, so the capture before an OOM kill is NOT tested: %s", strings.Join(tried, "; "))
	return ""
}

// TestCaptureBeforeOOMKill drives a program into the OOM killer: what it held and what it did are there, marked, before it is gone.
func TestCaptureBeforeOOMKill(t *testing.T) {
	const limit = 192 << 20
	if url := os.Getenv("SONDE_TEST_OOM"); url != "" {
		url, pause, _ := strings.Cut(url, " ")
		d, err := time.ParseDuration(pause)
		if err != nil {
			t.Fatal(err)
		}
		driveIntoOOM(t, url, d)
		return
	}
	dir := memoryCgroup(t, limit)
	// A machine that is busy enough has the kernel faster than any sender: then it is tried again with a program that grows more slowly.
	var c *collector
	for _, pause := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 200 * time.Millisecond} {
		c = newCollector(t)
		killedByOOM(t, c, dir, pause)
		got, claims := c.broker.got("c1")
		if len(claims) == 1 && claims[0].Value >= 0.6 && len(got) == 2 && !got[0].broken && !got[1].broken {
			break
		}
		t.Logf("growing by 1 MiB in %v: claims %+v, %d results", pause, claims, len(got))
		if pause == 200*time.Millisecond {
			t.Fatal("the captures were not there before the kill")
		}
	}
	p, ids := marked(c)
	if ids[Heap] != "c1" || ids[Goroutine] != "c1" {
		t.Errorf("marked: %v", ids)
	}
	held := int64(0)
	for _, s := range readSamples(t, p.data[Heap]) {
		if s.has("agent.hoard") {
			held += s.values[3]
		}
	}
	t.Logf("killed at %d MiB; the profile from before shows %d MiB held", limit>>20, held>>20)
	if held < 4<<20 { // it is of the last garbage collection but one
		t.Errorf("the heap profile shows %d bytes held", held)
	}
	if !hasString(p.data[Goroutine], "agent.hoard") {
		t.Error("the goroutine profile does not show who hoarded")
	}
}

// killedByOOM runs the program in the cgroup until it is killed.
func killedByOOM(t *testing.T, c *collector, dir string, pause time.Duration) {
	t.Helper()
	c.offer(`{"triggers":[{"name":"oom","metric":"memory","above":0.6}]}`)
	cmd := exec.Command(os.Args[0], "-test.run=^TestCaptureBeforeOOMKill$", "-test.count=1")
	cmd.Env = append(os.Environ(), "SONDE_TEST_OOM="+c.URL+" "+pause.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Skipf("SKIPPED: no process can be put into the cgroup, so the capture before an OOM kill is NOT tested: %v", err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	ws, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the program was not killed: %v\n%s", err, out.String())
	}
}

//go:noinline
func hoard(pause *time.Ticker) {
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
		<-pause.C
	}
}

// driveIntoOOM grows by 1 MiB in every d, once it was told to and knows its rules.
func driveIntoOOM(t *testing.T, url string, d time.Duration) {
	a := start(Config{URL: url, Service: "test", Types: []Type{Heap, Goroutine}}, effects{first: 50 * time.Millisecond, getenv: env(), tune: func(c *Config) { c.Period = 100 * time.Millisecond }})
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	wait(t, "the rules", func() bool { a.rec.mu.Lock(); defer a.rec.mu.Unlock(); return len(a.rec.watch.rules) > 0 })
	a.rec.mu.Lock()
	a.cfg.Period = time.Hour // nothing else is sent from here on
	a.rec.end = time.Now().Add(time.Hour)
	a.rec.watch.vitals.limits = time.Time{} // the cgroup may be another one since the start
	a.rec.mu.Unlock()
	g := cgroup.Self()
	fmt.Println("memory in use:", g.Memory())
	g.Close()
	pause := time.NewTicker(d)
	defer pause.Stop()
	hoard(pause)
}
