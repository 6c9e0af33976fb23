package trigger

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// limited makes a memory cgroup with a limit, or skips the test where that may not be done.
func limited(t *testing.T, limit int64) (dir string) {
	t.Helper()
	name := fmt.Sprintf("sonde-test-%d", os.Getpid())
	skip := func(err error) { t.Skipf("%s needs root and a memory cgroup of its own: %v", t.Name(), err) }
	for _, at := range []struct{ root, file string }{{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		if _, err := os.Stat(filepath.Join(at.root, "cgroup.procs")); err != nil {
			continue
		}
		dir = filepath.Join(at.root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			skip(err)
		}
		t.Cleanup(func() {
			for range 100 { // the kernel may hold it for a moment after its last process
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("cannot remove %s", dir)
		})
		if err := os.WriteFile(filepath.Join(dir, at.file), []byte(strconv.FormatInt(limit, 10)), 0o644); err != nil {
			skip(err)
		}
		// Swapped out it would live on.
		_ = os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0o644)
		return dir
	}
	skip(os.ErrNotExist)
	return ""
}

// leaker is a running fixture.
type leaker struct {
	pid  int
	addr string
	in   io.Writer
	cmd  *exec.Cmd
}

// build compiles the fixture once.
var build = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(built, "leaker")
	cmd := exec.Command("go", "build", "-o", bin, "./testdata/leaker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build leaker: %w\n%s", err, out)
	}
	return bin, nil
})

// built holds it while the tests run.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sonde-trigger-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// startLeaker compiles the fixture and runs it in the cgroup dir.
func startLeaker(t *testing.T, dir string, rate int) *leaker {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	// The shell enters the cgroup before it becomes the program: none of its memory is counted elsewhere.
	cmd := exec.Command("/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$1" "$2"`, dir, bin, strconv.Itoa(rate))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Skipf("%s needs to put a process into a cgroup: %v", t.Name(), err)
	}
	return &leaker{pid: cmd.Process.Pid, addr: strings.TrimSpace(line), in: in, cmd: cmd}
}

// node is a collector's parts with one scraped process: the real ones, without its listener.
type node struct {
	cat    *catalog.DB
	broker *capture.Broker
	engine *Engine
}

func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("background: %v", err)
		}
	})
}

func newNode(t *testing.T, p catalog.Process, addr string) *node {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cat, err := catalog.OpenSQLite(ctx, filepath.Join(dir, "catalog.db"))
	must(err)
	t.Cleanup(func() { cat.Close() })
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, "blobs"))
	must(err)
	st, err := store.Open(ctx, store.Config{Blobs: blobs, Catalog: cat})
	must(err)
	t.Cleanup(func() { st.Close() })
	broker, err := capture.New(ctx, capture.Config{Catalog: cat, Blobs: blobs})
	must(err)
	n := &node{cat: cat, broker: broker}
	m, err := scrape.New(scrape.Config{Sink: st, CPUDuration: -1, Period: time.Second})
	must(err)
	must(m.SetTargets([]scrape.Target{{Instance: p.Instance, Service: p.Service, URL: "http://" + addr + "/debug/pprof", Types: []string{"heap", "goroutine"}, Process: &p}}))
	must(cat.PutProcesses(ctx, []catalog.Process{p}))
	n.engine, err = New(Config{Executor: m, Source: broker, Events: cat.AddEvents, Captured: func(ctx context.Context, instance string, since int64) ([]catalog.Capture, error) {
		return broker.List(ctx, catalog.CaptureFilter{Instance: instance, From: since, States: []string{catalog.CaptureDone}})
	}})
	must(err)
	must(n.engine.SetRules(capture.DefaultRules()))
	background(t, m.Run)
	background(t, broker.Run)
	background(t, n.engine.Run)
	return n
}

// event waits for the event of a process's end.
func (n *node) event(t *testing.T, instance string) catalog.Event {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		es, err := n.cat.Events(t.Context(), catalog.EventFilter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if e.Attrs["instance"] == instance && (e.Kind == capture.EventOOMKill || e.Kind == EventExit) {
				return e
			}
		}
	}
	t.Fatal("the process's end was not told")
	return catalog.Event{}
}

func row(t *testing.T, pid int) (catalog.Process, uint64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	st, err := parseStat(b)
	if err != nil {
		t.Fatal(err)
	}
	return catalog.Process{Instance: fmt.Sprintf("%032x", pid), Service: "leaker", BuildID: "b1", Labels: labels.FromStrings("service_name", "leaker", "service_instance_id", fmt.Sprintf("%032x", pid)),
		Gatherer: "scrape", State: "running", PID: pid, Started: time.Now().UnixMilli(), LastSeen: time.Now().UnixMilli()}, st.start
}

// TestOOMKill drives a program that knows nothing of Sonde into the OOM killer: its heap and its goroutines from just before are stored, and the event names them.
func TestOOMKill(t *testing.T) {
	dir := limited(t, 128<<20)
	l := startLeaker(t, dir, 30<<20)
	p, start := row(t, l.pid)
	n := newNode(t, p, l.addr)
	n.engine.SetTargets([]Target{{PID: l.pid, Process: p, Start: start}})
	fmt.Fprintln(l.in, "go")
	if err := l.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the program ended: %v, want it killed", err)
	}
	e := n.event(t, p.Instance)
	if e.Kind != capture.EventOOMKill || e.Service != "leaker" || e.Attrs["build"] != "b1" || e.Attrs["memory_limit_bytes"] != strconv.Itoa(128<<20) || e.Attrs["profiles"] == "" {
		t.Fatalf("event %+v", e)
	}
	c, data, err := n.broker.Data(t.Context(), e.Attrs["capture_heap"])
	if err != nil {
		t.Fatalf("the heap before the end: %v; event %+v", err, e)
	}
	h, err := profiles.Parse(data, profiles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var leaked int64
	column := h.Column("inuse_space")
	for i, s := range h.Samples {
		for _, id := range h.LocationIDs[s.Locations.Lo:s.Locations.Hi] {
			for _, line := range h.Lines[h.Locations[id].Lines.Lo:h.Locations[id].Lines.Hi] {
				if h.Functions[line.Function].Name == "main.leakHere" {
					leaked += h.Row(i)[column]
				}
			}
		}
	}
	// What the heap profile says is that of the last garbage collection but one.
	if leaked < 8<<20 || c.Service != "leaker" || c.Finished < c.From || e.Time-c.From > 10_000 {
		t.Errorf("the heap of %d ms before the end has %d bytes of the leak: %+v", e.Time-c.From, leaked, c)
	}
	if _, _, err := n.broker.Data(t.Context(), e.Attrs["capture_goroutine"]); err != nil {
		t.Errorf("the goroutines: %v", err)
	}
	t.Logf("%s; heap taken %d ms before it was seen, %d captures", e.Text, e.Time-c.From, len(strings.Split(e.Attrs["captures"], ",")))
}

// TestExit: a process that ends by itself within its limit is not said to be killed.
func TestExit(t *testing.T) {
	dir := limited(t, 96<<20)
	l := startLeaker(t, dir, 1)
	p, start := row(t, l.pid)
	n := newNode(t, p, l.addr)
	n.engine.SetTargets([]Target{{PID: l.pid, Process: p, Start: start}})
	l.in.(io.Closer).Close()
	if err := l.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	n.engine.SetTargets(nil) // as the next scan does
	e := n.event(t, p.Instance)
	if e.Kind != EventExit || e.Attrs["ran_ms"] == "" || e.Attrs["captures"] != "" {
		t.Errorf("event %+v", e)
	}
}
