package inspect

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// lies is a memory that a test makes up. What is nowhere in it cannot be read.
type lies struct {
	pieces []part // by address
	reads  int
	// from is asked where no piece is; it may be nil. It reports whether it has filled b.
	from func(addr uint64, b []byte) bool
}

func (l *lies) readv(parts []part) (int, error) {
	for i, p := range parts {
		l.reads++
		if !l.fill(p.addr, p.b) {
			return i, nil
		}
	}
	return len(parts), nil
}

func (l *lies) fill(addr uint64, b []byte) bool {
	for _, p := range l.pieces {
		if addr >= p.addr && addr-p.addr+uint64(len(b)) <= uint64(len(p.b)) {
			copy(b, p.b[addr-p.addr:])
			return true
		}
	}
	return l.from != nil && l.from(addr, b)
}

// put lays words at addr.
func (l *lies) put(addr uint64, words ...uint64) {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	l.pieces = append(l.pieces, part{addr, b})
}

// ownImage is the binary of this test: its names and its layouts are real, the memory is made up.
var ownImage = sync.OnceValues(func() (*image, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	table, err := pclntab.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	return newImage(f, table)
})

func lie(t testing.TB, l *lies) *view {
	t.Helper()
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	return &view{r: newReader(l), im: im}
}

// everything takes all that can be taken, and checks that each profile has at most as many samples as the memory may hold.
func everything(t testing.TB, v *view) (errs []error) {
	t.Helper()
	for _, take := range []func() error{
		func() error {
			p, st, err := v.goroutineProfile()
			if err == nil && len(p.Samples) > st.seen {
				t.Errorf("%d samples of %d goroutines", len(p.Samples), st.seen)
			}
			return err
		},
		func() error { _, _, err := v.heapProfile(); return err },
		func() error { _, err := v.contentionProfile(mutexBucket); return err },
		func() error { _, err := v.contentionProfile(blockBucket); return err },
		func() error {
			b, err := v.text(0)
			if len(b) > maxText+1<<20 {
				t.Errorf("%d bytes of text", len(b))
			}
			return err
		},
	} {
		errs = append(errs, take())
	}
	return errs
}

func TestEmptyMemory(t *testing.T) {
	for _, err := range everything(t, lie(t, &lies{})) {
		if !errors.Is(err, errShape) {
			t.Errorf("%v", err)
		}
	}
}

func TestProcessThatEndsIsAnError(t *testing.T) {
	gone := goneMemory{}
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range everything(t, &view{r: newReader(gone), im: im}) {
		if !errors.Is(err, errGone) {
			t.Errorf("%v", err)
		}
	}
}

type goneMemory struct{}

func (goneMemory) readv([]part) (int, error) { return 0, errGone }

func TestHugeCountsAreRefused(t *testing.T) {
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	zeros := func(_ uint64, b []byte) bool { clear(b); return true }
	for _, h := range [][3]uint64{{0xc000000000, 1 << 62, 1 << 62}, {0xc000000000, 10, 5}, {0xc000000001, 10, 10}, {0, 10, 10}, {1 << 63, maxAllgs + 1, maxAllgs + 1}} {
		l := &lies{from: zeros}
		l.put(im.globals.allgs, h[:]...)
		if _, _, err := lie(t, l).goroutineProfile(); !errors.Is(err, errShape) {
			t.Errorf("allgs %x: %v", h, err)
		}
		if l.reads > 100 {
			t.Errorf("allgs %x: %d reads", h, l.reads)
		}
	}
}

// A list of the largest length that is believed, of goroutines that are all the same one.
func TestManyGoroutinesThatAreOne(t *testing.T) {
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	const at, stack = 0xc000100000, 0xc000200000
	g := make([]uint64, im.layout.g.size/8+1)
	g[0], g[1] = stack, stack+0x8000
	l := &im.layout.g
	g[l.schedSP/8], g[l.schedPC/8], g[l.schedG/8] = stack+0x100, im.table.TextStart()+0x1000, at
	g[l.status/8] = statusWaiting
	m := &lies{}
	m.put(im.globals.allgs, 0xc000000000, maxAllgs, maxAllgs)
	m.put(at, g...)
	m.from = func(addr uint64, b []byte) bool {
		switch {
		case addr >= 0xc000200000 && addr < 0xc000300000: // a stack that calls one function for ever
			for i := 0; i+8 <= len(b); i += 8 {
				le.PutUint64(b[i:], im.table.TextStart()+0x1000)
			}
		default:
			for i := 0; i+8 <= len(b); i += 8 {
				le.PutUint64(b[i:], at)
			}
		}
		return true
	}
	began := threadCPU()
	v := lie(t, m)
	v.r.left = budget{1 << 30, 100_000} // what a snapshot may read is more, and takes longer
	p, st, err := v.goroutineProfile()
	t.Logf("%+v, %v, CPU %v", st, err, threadCPU()-began)
	if !errors.Is(err, errBudget) || p != nil {
		t.Errorf("%v", err)
	}
}

// fakeBucket lays a bucket whose hash is right.
func fakeBucket(m *lies, at, next uint64, kind bucketKind, stack []uint64, record ...uint64) {
	words := append([]uint64{0, next, uint64(kind), stackHash(stack, 48), 48, uint64(len(stack))}, stack...)
	m.put(at, append(words, record...)...)
}

func TestListsWithoutEnd(t *testing.T) {
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	heads := map[bucketKind]uint64{heapBucket: im.globals.memBuckets, mutexBucket: im.globals.mutexBuckets, blockBucket: im.globals.blockBuckets}
	take := func(m *lies, kind bucketKind) error {
		m.put(im.globals.memProfileRate, 4096)
		m.put(im.globals.mutexRate, 1)
		m.put(im.globals.blockRate, 1)
		v := lie(t, m)
		v.r.left = budget{256 << 20, 1 << 20}
		if kind == heapBucket {
			_, _, err := v.heapProfile()
			return err
		}
		_, err := v.contentionProfile(kind)
		return err
	}
	stack := []uint64{im.table.TextStart() + 0x1000}
	for kind, head := range heads {
		record := make([]uint64, 16)
		// One bucket is right.
		m := &lies{}
		m.put(head, 0x7f0000001000)
		fakeBucket(m, 0x7f0000001000, 0, kind, stack, record...)
		if err := take(m, kind); err != nil {
			t.Errorf("%d: %v", kind, err)
		}
		// A cycle of one, and of five that is entered from outside.
		for _, n := range []uint64{1, 5} {
			m := &lies{}
			m.put(head, 0x7f0000000000)
			fakeBucket(m, 0x7f0000000000, 0x7f0000001000, kind, stack, record...)
			for i := range n {
				fakeBucket(m, 0x7f0000001000*1+i*0x1000, 0x7f0000001000+(i+1)%n*0x1000, kind, stack, record...)
			}
			if err := take(m, kind); !errors.Is(err, errShape) || !strings.Contains(err.Error(), "cycle") {
				t.Errorf("%d: cycle of %d: %v", kind, n, err)
			}
		}
		// A list that never ends.
		m = &lies{}
		m.put(head, 0x100000)
		m.from = func(addr uint64, b []byte) bool { // wherever one looks, there is a bucket whose next is 4 KiB further
			clear(b)
			for at := addr &^ 0xfff; at < addr+uint64(len(b)); at += 0x1000 {
				for i, w := range []uint64{0, at + 0x1000, uint64(kind), stackHash(nil, 48), 48} {
					if off := at + 8*uint64(i); off >= addr && off+8 <= addr+uint64(len(b)) {
						le.PutUint64(b[off-addr:], w)
					}
				}
			}
			return true
		}
		if err := take(m, kind); !errors.Is(err, errShape) && !errors.Is(err, errBudget) {
			t.Errorf("%d: endless list: %v", kind, err)
		}
		// Depths and hashes that are wrong.
		for _, words := range [][]uint64{
			{0, 0, uint64(kind), 0, 48, 1 << 40}, {0, 0, uint64(kind), 0, 48, maxBucketDepth + 1}, {0, 0, 7, stackHash(nil, 48), 48, 0}, {0, 0, uint64(kind), 1, 48, 0},
		} {
			m := &lies{}
			m.put(head, 0x7f0000000000)
			m.put(0x7f0000000000, append(words, record...)...)
			if err := take(m, kind); !errors.Is(err, errShape) {
				t.Errorf("%d: bucket %x: %v", kind, words, err)
			}
		}
	}
}

// Counts that no process can reach do not overflow into panics.
func TestCountsAtTheirLimits(t *testing.T) {
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	const most = 1<<64 - 1
	m := &lies{}
	m.put(im.globals.memProfileRate, 1<<62)
	m.put(im.globals.memBuckets, 0x7f0000000000)
	fakeBucket(m, 0x7f0000000000, 0, heapBucket, nil, slices.Repeat([]uint64{most}, 16)...)
	m.put(im.globals.mutexRate, 1<<62)
	m.put(im.globals.mutexBuckets, 0x7f0000010000)
	fakeBucket(m, 0x7f0000010000, 0, mutexBucket, nil, 0x7ff8000000000001, most) // NaN
	m.put(im.globals.blockRate, most)
	m.put(im.globals.blockBuckets, 0x7f0000010000)
	errs := everything(t, lie(t, m))
	for _, i := range []int{2, 3} {
		if !errors.Is(errs[i], errShape) {
			t.Errorf("%d: %v", i, errs[i])
		}
	}
}

// Memory of random words, and of words that look like pointers: nothing panics, and nothing takes long.
func TestRandomMemory(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := &lies{from: func(addr uint64, b []byte) bool {
			if rng.IntN(50) == 0 {
				return false
			}
			for i := 0; i+8 <= len(b); i += 8 {
				le.PutUint64(b[i:], []uint64{rng.Uint64(), rng.Uint64N(20), 0xc000000000 + rng.Uint64N(1<<20)*8, addr}[rng.IntN(4)])
			}
			return true
		}}
		everything(t, lie(t, m))
	}
}

// Goroutines whose stacks are all different, and lead everywhere: the profile stays within its limits.
func TestStacksThatLeadEverywhere(t *testing.T) {
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	v := &view{r: newReader(&lies{}), im: im}
	b := newBuilder(v, profiles.ValueType{Type: "goroutine", Unit: "count"})
	for i := range uint64(maxLocations + 1000) {
		b.frame(frame{im.table.TextEnd() + i, true}) // no function: nothing to look up
		b.sample(nil, 1)
	}
	for range 100 {
		for i := range uint64(maxIDs / 50) {
			b.ids = append(b.ids, uint32(i)%maxLocations)
		}
		b.sample(nil, 1)
	}
	if len(b.p.Locations) > maxLocations+1 || len(b.p.LocationIDs) > maxIDs+1 {
		t.Errorf("%d locations, %d in stacks", len(b.p.Locations), len(b.p.LocationIDs))
	}
	var sum int64
	for _, n := range b.p.Values {
		sum += n
	}
	if sum != maxLocations+1000+100 {
		t.Errorf("%d counted", sum)
	}
}

// labels of goroutines whose structures lie.
func TestLabelsThatLie(t *testing.T) {
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []labelForm{labelList, labelMap} {
		other := *im
		layout := *im.layout
		layout.labels = form
		other.layout = &layout
		for seed := range uint64(200) {
			rng := rand.New(rand.NewPCG(seed, 2))
			m := &lies{from: func(addr uint64, b []byte) bool {
				for i := 0; i+8 <= len(b); i += 8 {
					le.PutUint64(b[i:], []uint64{rng.Uint64N(4), rng.Uint64N(1 << 12), 0xc000000000 + rng.Uint64N(1<<20)*8, 0x0101 * rng.Uint64N(1<<48)}[rng.IntN(4)])
				}
				return true
			}}
			lr := &labelReader{v: &view{r: newReader(m), im: &other}}
			if set := lr.labels(0xc000000000); len(set) > maxLabels+pairs {
				t.Errorf("%d labels", len(set))
			}
			if m.reads > 2000 {
				t.Errorf("%d reads", m.reads)
			}
		}
	}
}

// FuzzMemory reads from a memory that is the fuzzer's: data is laid at a few places, and the globals point into it.
func FuzzMemory(f *testing.F) {
	im, err := ownImage()
	if err != nil {
		f.Fatal(err)
	}
	const base = 0xc000000000
	words := func(ws ...uint64) []byte {
		var b []byte
		for _, w := range ws {
			b = le.AppendUint64(b, w)
		}
		return b
	}
	g := make([]uint64, 64)
	g[0], g[1], g[im.layout.g.schedG/8] = base, base+512, base+24
	f.Add(words(append([]uint64{base + 16, 1, 1}, g...)...))
	stack := []uint64{im.table.TextStart() + 0x100}
	for _, kind := range []bucketKind{heapBucket, blockBucket, mutexBucket} {
		f.Add(words(append([]uint64{base + 8, 0, base + 8, uint64(kind), stackHash(stack, 48), 48, 1, stack[0]}, make([]uint64, 16)...)...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &lies{}
		for _, at := range []uint64{im.globals.allgs, im.globals.memBuckets, im.globals.mutexBuckets, im.globals.blockBuckets, im.globals.memProfileRate,
			im.globals.mutexRate, im.globals.blockRate} {
			if len(data) >= 24 {
				m.pieces = append(m.pieces, part{at, data[:24]})
			}
		}
		m.pieces = append(m.pieces, part{base, data})
		m.from = func(addr uint64, b []byte) bool { // what is near the data is there too, and 0
			if addr < base-1<<16 || addr > base+1<<16 {
				return false
			}
			clear(b)
			for i := range b {
				if a := addr + uint64(i); a >= base && a-base < uint64(len(data)) {
					b[i] = data[a-base]
				}
			}
			return true
		}
		began := time.Now()
		everything(t, lie(t, m))
		(&labelReader{v: lie(t, m)}).labels(base)
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("took %v", d)
		}
	})
}
