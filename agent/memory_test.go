package agent

import (
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"
)

const promisedBytes = 16 << 20

// TestMemory runs programs with few and with very many allocation stacks and goroutines, a collector that is not there and a queue that is
// full. What the agent keeps in the Go heap and outside it, and all that it allocates for one window, together, is the most that it can hold.
func TestMemory(t *testing.T) {
	if s := os.Getenv("SONDE_TEST_MEMORY"); s != "" {
		var stacks, goroutines int
		var types string
		if _, err := fmt.Sscan(s, &stacks, &goroutines, &types); err != nil {
			t.Fatal(err)
		}
		holdMemory(t, stacks, goroutines, map[string][]Type{"default": defaultTypes, "all": allTypes}[types])
		return
	}
	bin := os.Args[0]
	if raceEnabled { // what the detector allocates would be counted as the agent's
		bin = filepath.Join(t.TempDir(), "agent.test")
		if out, err := command(".", "local", nil, "test", "-c", "-o", bin, "."); err != nil {
			t.Fatalf("build without the race detector: %v\n%s", err, out)
		}
	}
	for _, size := range []string{"0 0 default", "14000 0 default", "14000 14000 default", "60000 30000 default", "0 0 all", "10000 14000 all"} {
		t.Run(size, func(t *testing.T) {
			cmd := exec.Command(bin, "-test.run=^TestMemory$", "-test.v", "-test.count=1")
			cmd.Env = append(os.Environ(), "SONDE_TEST_MEMORY="+size)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v", err)
			}
			t.Logf("%s", out)
		})
	}
}

var memorySink [][]byte

// branch allocates at the end of a stack that is i in binary.
//
//go:noinline
func branch(i, left int) {
	switch {
	case left == 0:
		memorySink = append(memorySink, make([]byte, 16))
	case i&1 == 0:
		branch(i>>1, left-1)
	default:
		branch(i>>1, left-1)
	}
}

func holdMemory(t *testing.T, stacks, goroutines int, types []Type) {
	for i := range stacks {
		if i == 0 {
			runtime.MemProfileRate = 1
		}
		branch(i, bits.Len(uint(stacks)))
	}
	if stacks > 0 {
		runtime.MemProfileRate = 512 << 10
	}
	memorySink = nil
	stop := make(chan struct{})
	defer close(stop)
	for range goroutines {
		go func() { <-stop }()
	}
	before := liveHeap()
	a := start(Config{Types: types, URL: "http://127.0.0.1:1", CloseTimeout: time.Second, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))},
		effects{first: time.Hour, getenv: env()})
	defer a.Close()
	if slices.Contains(types, Wall) {
		captureOnce(a, types)
	}
	a.obey(&settings{Triggers: []rule{{Name: "a", Metric: "memory", Above: 0.99}, {Name: "b", Metric: "heap", Jump: 1000}}})
	// The records of the heap are given back before the goroutines are taken, so the two are never there together.
	records, all := uint64(0), uint64(0)
	var skipped map[string]string
	for range 3 { // the first one grows the buffers and learns the symbols
		burn(time.Now().Add(50 * time.Millisecond))
		_, n := captureOnce(a, []Type{CPU, Heap, Mutex, Block})
		records = max(records, n)
		w, n := captureOnce(a, types)
		all = max(all, n)
		skipped = w.meta.Stats.Skipped
	}
	for a.up.dropped.Load() == 0 {
		w, err := newWindow(meta{V: 1, Profiles: []entry{{Part: "heap", Type: Heap, Start: 1, End: 2}}}, nil, [][]byte{make([]byte, 20<<10)}, a.boundary)
		if err != nil {
			t.Fatal(err)
		}
		a.up.push(w)
	}
	kept := liveHeap() - before
	a.rec.mu.Lock()
	now, peak := a.rec.acct.Used()
	a.rec.mu.Unlock()
	total := kept + max(int64(peak)+int64(records), int64(now)+int64(all))
	t.Logf("kept in the heap %d kB, outside %d kB, at most %d kB; allocated for a window %d kB, with goroutines %d kB: together %d kB of %d",
		kept>>10, now>>10, peak>>10, records>>10, all>>10, total>>10, promisedBytes>>10)
	if total > promisedBytes {
		t.Errorf("the agent can hold %d bytes, more than %d", total, promisedBytes)
	}
	if kept < defaultQueueBytes*9/10 {
		t.Errorf("the agent keeps %d bytes in the heap: the queue is not full", kept)
	}
	if tooMany := strings.Contains(skipped["heap"], "stacks are too many"); tooMany != (stacks > 14_000) {
		t.Errorf("with %d stacks the heap profile is skipped for %q", stacks, skipped["heap"])
	}
	if tooMany := strings.Contains(skipped["goroutine"], "more than MaxGoroutines"); tooMany != (goroutines > defaultGoroutines) {
		t.Errorf("with %d goroutines their profile is skipped for %q", goroutines, skipped["goroutine"])
	}
}

// captureOnce ends the running window with the types and returns it, and what was allocated in the heap for it.
func captureOnce(a *Agent, types []Type) (*window, uint64) {
	a.rec.mu.Lock()
	defer a.rec.mu.Unlock()
	a.rec.plan.types = types
	a.rec.baselines(time.Now())
	before := readMetric("/gc/heap/allocs:bytes")
	a.rec.clock()
	a.rec.readMetrics(time.Now())
	if slices.Contains(types, Wall) { // as once between two collections
		a.rec.wall.next = time.Now()
		a.rec.sampleWall(time.Now())
	}
	a.rec.capture(time.Now(), true)
	a.rec.open(time.Now(), time.Hour)
	a.rec.cpu(time.Now())
	a.rec.stopClock()
	a.rec.wall.next = time.Now().Add(time.Hour) // none beside what is counted here
	for range maxReadings {                     // as in a window of an hour
		a.rec.metering.read(time.Now())
	}
	allocated := readMetric("/gc/heap/allocs:bytes") - before
	a.up.mu.Lock()
	defer a.up.mu.Unlock()
	return a.up.waiting[len(a.up.waiting)-1], allocated
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	return int64(readMetric("/gc/heap/live:bytes"))
}

func readMetric(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
