package pprofenc

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/agent/internal/offheap"
)

//go:noinline
func waitForChan(c chan struct{}) { <-c }

//go:noinline
func waitForLock(mu *sync.Mutex) {
	mu.Lock()
	defer mu.Unlock()
}

//go:noinline
func waitForEither(c, d chan struct{}) {
	select {
	case <-c:
	case <-d:
	}
}

// parked waits until at least so many goroutines are in each state.
func parked(t *testing.T, want map[string]int) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		ok := true
		all := string(buf[:runtime.Stack(buf, true)])
		for state, n := range want {
			ok = ok && strings.Count(all, "["+state) >= n
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are not parked:\n%s", all)
		}
	}
}

// TestWall checks that the values are goroutines times time at an uneven rate, and that the label says what they wait for.
func TestWall(t *testing.T) {
	c := make(chan struct{})
	var mu sync.Mutex
	mu.Lock()
	var wg sync.WaitGroup
	run := func(n int, fn func()) {
		for range n {
			wg.Add(1)
			go func() { defer wg.Done(); fn() }()
		}
	}
	run(7, func() { waitForChan(c) })
	run(2, func() { waitForLock(&mu) })
	run(3, func() { waitForEither(c, make(chan struct{})) })
	parked(t, map[string]int{"chan receive": 7, "sync.Mutex.Lock": 2, "select": 3})
	w := NewWall(offheap.NewAccount(2 << 20))
	defer w.Release()
	for _, ms := range []time.Duration{100, 250, 50} {
		if _, err := w.Sample(ms*time.Millisecond, 1000); err != nil {
			t.Fatal(err)
		}
	}
	b, start := builder(), time.UnixMilli(1_000_000)
	var out bytes.Buffer
	if n, err := w.Capture(b, &out, start, start.Add(400*time.Millisecond)); err != nil || n == 0 {
		t.Fatalf("%d samples, %v", n, err)
	}
	p := readProfile(t, out.Bytes(), 0)
	if got := strings.Join(p.types, " "); got != "samples/count wall/nanoseconds" {
		t.Errorf("sample types %s", got)
	}
	for _, tc := range []struct {
		function, state string
		n               int64
	}{{"pprofenc.waitForChan", "chan receive", 7}, {"pprofenc.waitForLock", "sync.Mutex.Lock", 2}, {"pprofenc.waitForEither", "select", 3}, {"pprofenc.TestWall", "running", 1}} {
		var got [2]int64
		for key, v := range p.samples {
			if strings.Contains(key, tc.function+" ") && strings.HasSuffix(key, "\nstate="+tc.state+"0") {
				got[0], got[1] = got[0]+v[0], got[1]+v[1]
			}
		}
		if want := [2]int64{3 * tc.n, tc.n * int64(400*time.Millisecond)}; got != want {
			t.Errorf("%s in state %q: %v, want %v", tc.function, tc.state, got, want)
		}
	}
	if n, err := w.Capture(b, &out, start, start); n != 0 || err != nil {
		t.Errorf("a second capture without a sample between: %d samples, %v", n, err)
	}
	mu.Unlock()
	close(c)
	wg.Wait()
}

// TestPreemptedGoroutinesShowWhatTheyDo checks that a goroutine that a sample stopped is seen in its own function.
func TestPreemptedGoroutinesShowWhatTheyDo(t *testing.T) {
	names := map[uintptr]string{1: "runtime.asyncPreempt2", 2: "runtime.asyncPreempt", 3: "main.spin", 4: "main.main"}
	b := NewBuilder(func(pc uintptr) Frame { return Frame{Function: names[pc], Entry: pc} }, Mapping{})
	w := NewWall(nil)
	defer w.Release()
	w.read = stackRecords([]uintptr{1, 2, 3, 4}, []uintptr{3, 4}, []uintptr{1, 2})
	if _, err := w.Sample(time.Second, 10); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := w.Capture(b, &out, time.UnixMilli(1), time.UnixMilli(2)); err != nil {
		t.Fatal(err)
	}
	p := readProfile(t, out.Bytes(), 1)
	if v := p.samples["main.spin :0\nstate=running0"]; len(p.samples) != 2 || len(v) != 2 || v[0] != 2 {
		t.Errorf("samples %v", p.samples)
	}
}

func stackRecords(stacks ...[]uintptr) func([]runtime.StackRecord) (int, bool) {
	return func(p []runtime.StackRecord) (int, bool) {
		if len(p) < len(stacks) {
			return len(stacks), false
		}
		for i, s := range stacks {
			p[i] = runtime.StackRecord{}
			copy(p[i].Stack0[:], s)
		}
		return len(stacks), true
	}
}

// TestWallIsBounded checks that stacks beyond the bound are counted as lost, that known ones go on, and that the bound on goroutines holds.
func TestWallIsBounded(t *testing.T) {
	acct := offheap.NewAccount(8 << 20)
	w := NewWall(acct)
	known := []uintptr{1, 2, 3}
	w.read = stackRecords(known)
	sample := func() {
		t.Helper()
		if _, err := w.Sample(time.Second, 10_000); err != nil {
			t.Fatal(err)
		}
	}
	sample()
	var many [][]uintptr
	for i := range 5000 {
		many = append(many, []uintptr{uintptr(i + 10), 2, 3})
	}
	w.read = stackRecords(many...)
	sample()
	if w.Lost != 5000-maxWallStacks+1 {
		t.Errorf("%d samples lost, want %d", w.Lost, 5000-maxWallStacks+1)
	}
	w.read = stackRecords(known)
	sample()
	if r := w.tab.lookup(hash(known, 0)); r == nil || r.cur != [2]int64{2, int64(2 * time.Second)} {
		t.Errorf("the known stack: %+v", r)
	}
	w.read = stackRecords(many...)
	w.recs.Release()
	if n, err := w.Sample(time.Second, 4999); n != 5000 || err == nil || !strings.Contains(err.Error(), "5000 goroutines, more than 4999") {
		t.Errorf("%d goroutines, %v", n, err)
	}
	w.Release()
	w.Release()
	if now, peak := acct.Used(); now != 0 || peak > 3<<20 {
		t.Errorf("%d bytes held after Release, %d at most", now, peak)
	}
	full := NewWall(offheap.NewAccount(300 << 10)) // no room for the second table
	full.read = stackRecords(many[:1000]...)
	if _, err := full.Sample(time.Second, 10_000); err != nil || full.Lost == 0 {
		t.Errorf("a full account: lost %d, %v", full.Lost, err)
	}
	full.Release()
}

// TestSnapshotLeavesTheBaseline checks that a snapshot holds everything since the start and takes nothing from the capture after it.
func TestSnapshotLeavesTheBaseline(t *testing.T) {
	n := int64(10)
	h := NewHeapFrom(func() []runtime.MemProfileRecord {
		return []runtime.MemProfileRecord{{AllocBytes: n << 20, AllocObjects: n, Stack0: [32]uintptr{1}}}
	})
	b, at := NewBuilder(func(uintptr) Frame { return Frame{Function: "f"} }, Mapping{}), time.UnixMilli(1)
	defer h.Release()
	objects := func(write func(*bytes.Buffer) (int, error)) (sum int64) {
		t.Helper()
		var out bytes.Buffer
		if _, err := write(&out); err != nil {
			t.Fatal(err)
		}
		for _, v := range readProfile(t, out.Bytes(), 0).samples {
			sum += v[0]
		}
		return sum
	}
	if err := h.Baseline(); err != nil {
		t.Fatal(err)
	}
	n = 14
	rate := int64(runtime.MemProfileRate)
	all, _ := scaleHeap(14, 14<<20, rate)
	since, _ := scaleHeap(4, 4<<20, rate)
	for range 2 {
		if got := objects(func(out *bytes.Buffer) (int, error) { return h.Snapshot(b, out, "alloc_space", at, at) }); got != all {
			t.Errorf("the snapshot has %d objects, want the %d since the start", got, all)
		}
	}
	if got := objects(func(out *bytes.Buffer) (int, error) { return h.Capture(b, out, at, at) }); got != since {
		t.Errorf("the capture after it has %d objects, want the %d since the baseline", got, since)
	}
}

func BenchmarkWallSample(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stop := make(chan struct{})
			defer close(stop)
			for range n {
				go waitForChan(stop)
			}
			w := NewWall(nil)
			defer w.Release()
			if _, err := w.Sample(time.Millisecond, 1<<20); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := w.Sample(time.Millisecond, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/goroutine")
		})
	}
}
