package pprofenc

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/agent/internal/offheap"
)

var sink [][]byte

//go:noinline
func allocate(n, size int) {
	for range n {
		sink = append(sink, make([]byte, size))
	}
}

func inlined(n int) { allocate(n, 1<<16) }

//go:noinline
func deep(n, depth int) {
	if depth > 0 {
		deep(n, depth-1)
		return
	}
	inlined(n)
}

func builder() *Builder { return NewBuilder(RuntimeSymbolizer, Mapping{File: "/bin/test"}) }

// frames compared against runtime/pprof, whose stacks can be longer than the public records' 32.
const depth = 20

// compare checks got against want within slack for each column, and that nothing of want is missing.
func compare(t *testing.T, got, want profile, slack int64) {
	t.Helper()
	if strings.Join(got.types, " ") != strings.Join(want.types, " ") {
		t.Fatalf("types %v, want %v", got.types, want.types)
	}
	for key, w := range want.samples {
		g := got.samples[key]
		if g == nil {
			if w[0] != 0 || w[1] != 0 {
				t.Errorf("missing, want %v:\n%s", w, key)
			}
			continue
		}
		for i := range w {
			if d := g[i] - w[i]; d > slack || d < -slack {
				t.Errorf("%s is %d, want %d:\n%s", want.types[i], g[i], w[i], key)
			}
		}
	}
	for key, g := range got.samples {
		if want.samples[key] == nil {
			t.Errorf("not in runtime/pprof's: %v\n%s", g, key)
		}
	}
}

// quiet leaves the runtime's heap records still: they change only when a collection ends.
func quiet() { runtime.GC(); runtime.GC() }

func TestHeapEqualsRuntimePprof(t *testing.T) {
	old := runtime.MemProfileRate
	defer func() { runtime.MemProfileRate = old; sink = nil }()
	runtime.MemProfileRate = 4096
	deep(200, 3)
	allocate(3000, 48)
	sink = nil
	deep(50, 3)
	quiet()
	h := NewHeap(nil)
	defer h.Release()
	var got, want bytes.Buffer
	now := time.Now()
	if _, err := h.Capture(builder(), &got, now, now.Add(time.Second)); err != nil { // without a baseline: everything since the start
		t.Fatal(err)
	}
	if err := pprof.Lookup("allocs").WriteTo(&want, 0); err != nil {
		t.Fatal(err)
	}
	// Rows that share a key are scaled together here and one by one there: rounding to the integer may differ by one for each.
	compare(t, readProfile(t, got.Bytes(), depth), readProfile(t, want.Bytes(), depth), 8)
}

func TestHeapDeltasAddUp(t *testing.T) {
	old := runtime.MemProfileRate
	defer func() { runtime.MemProfileRate = old; sink = nil }()
	runtime.MemProfileRate = 1 // every allocation is counted, so sums are exact
	h := NewHeap(nil)
	defer h.Release()
	b := builder()
	quiet()
	if err := h.Baseline(); err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{10, 0, 25} {
		allocate(n, 1<<15)
		quiet()
		var out bytes.Buffer
		if _, err := h.Capture(b, &out, time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
		var objects, inuse int64
		for key, row := range readProfile(t, out.Bytes(), 0).samples {
			if strings.HasPrefix(key, "github.com/sonde-io/sonde/agent/internal/pprofenc.allocate ") && strings.Contains(key, "bytes=32768") {
				objects += row[0]
				inuse += row[2]
			}
		}
		wantInuse := []int64{10, 10, 35}[i]
		if objects != int64(n) || inuse != wantInuse {
			t.Errorf("window %d: allocated %d and in use %d objects, want %d and %d", i, objects, inuse, n, wantInuse)
		}
	}
}

//go:noinline
func contend(mu *sync.Mutex, n int) {
	var wg sync.WaitGroup
	for range n {
		wg.Add(1)
		mu.Lock()
		go func() { defer wg.Done(); mu.Lock(); defer mu.Unlock() }()
		time.Sleep(time.Millisecond)
		mu.Unlock()
		wg.Wait()
	}
}

func TestContentionEqualsRuntimePprof(t *testing.T) {
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	runtime.SetBlockProfileRate(1)
	defer runtime.SetBlockProfileRate(0)
	var mu sync.Mutex
	contend(&mu, 20)
	runtime.SetMutexProfileFraction(0)
	runtime.SetBlockProfileRate(0)
	for name, c := range map[string]*Contention{"mutex": NewMutex(nil), "block": NewBlock(nil)} {
		t.Run(name, func(t *testing.T) {
			defer c.Release()
			b := builder()
			var got, want, none bytes.Buffer
			n, err := c.Capture(b, &got, time.Now(), time.Now())
			if err != nil || n == 0 {
				t.Fatalf("captured %d samples: %v", n, err)
			}
			if err := pprof.Lookup(name).WriteTo(&want, 0); err != nil {
				t.Fatal(err)
			}
			compare(t, readProfile(t, got.Bytes(), depth), readProfile(t, want.Bytes(), depth), 8)
			if n, err := c.Capture(b, &none, time.Now(), time.Now()); n != 0 || err != nil || none.Len() != 0 {
				t.Errorf("a window without contention has %d samples in %d bytes: %v", n, none.Len(), err)
			}
		})
	}
}

func TestTooManyStacks(t *testing.T) {
	acct := offheap.NewAccount(1 << 20)
	n, objects := 1000, int64(1)
	recs := func() []runtime.MemProfileRecord {
		recs := make([]runtime.MemProfileRecord, n)
		for i := range recs {
			recs[i] = runtime.MemProfileRecord{AllocObjects: objects, AllocBytes: objects, Stack0: [32]uintptr{uintptr(i + 1)}}
		}
		return recs
	}
	h := NewHeapFrom(recs)
	h.tab.acct = acct
	if err := h.Baseline(); err != nil {
		t.Fatal(err)
	}
	n = 10_000
	var out bytes.Buffer
	b := NewBuilder(func(uintptr) Frame { return Frame{Function: "main.f"} }, Mapping{})
	if _, err := h.Capture(b, &out, time.Now(), time.Now()); err == nil || !strings.Contains(err.Error(), "10000 stacks are too many") || !strings.Contains(err.Error(), "of 1024 kB taken") || out.Len() > 0 {
		t.Errorf("error %v and %d bytes, want one that names the stacks and the limit", err, out.Len())
	}
	n, objects = 2, 3 // what was known before the failure is known still
	if samples, err := h.Capture(b, &out, time.Now(), time.Now()); err != nil || samples != 2 {
		t.Errorf("%d samples: %v", samples, err)
	}
	h.Release()
	if now, peak := acct.Used(); now != 0 || peak > 1<<20 {
		t.Errorf("%d bytes are left, the peak was %d", now, peak)
	}
}

// TestFailedCaptureKeepsBaseline checks that what a failed capture would have held is in the next one.
func TestFailedCaptureKeepsBaseline(t *testing.T) {
	objects := int64(1)
	h := NewHeapFrom(func() []runtime.MemProfileRecord {
		return []runtime.MemProfileRecord{{AllocObjects: objects, AllocBytes: objects << 20, Stack0: [32]uintptr{1, 2}}}
	})
	defer h.Release()
	b := NewBuilder(func(uintptr) Frame { return Frame{Function: "main.f"} }, Mapping{})
	if err := h.Baseline(); err != nil {
		t.Fatal(err)
	}
	objects = 5
	if _, err := h.Capture(b, failing{}, time.Now(), time.Now()); err == nil {
		t.Fatal("a writer that fails gives no error")
	}
	objects = 7
	var out bytes.Buffer
	if _, err := h.Capture(b, &out, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, row := range readProfile(t, out.Bytes(), 0).samples {
		// 6 objects of 1 MiB, scaled by 1/(1-exp(-2)).
		if row[0] != 6 {
			t.Errorf("%d objects, want 6", row[0])
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, bytes.ErrTooLarge }

func BenchmarkHeapCapture(b *testing.B) {
	old := runtime.MemProfileRate
	defer func() { runtime.MemProfileRate = old; sink = nil }()
	runtime.MemProfileRate = 512
	for d := range 24 {
		deep(4, d)
	}
	quiet()
	h, enc := NewHeap(nil), builder()
	defer h.Release()
	var out bytes.Buffer
	if _, err := h.Capture(enc, &out, time.Now(), time.Now()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for range b.N {
		out.Reset()
		if _, err := h.Capture(enc, &out, time.Now(), time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
