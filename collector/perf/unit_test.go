package perf

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCgroupDir(t *testing.T) {
	const v2 = "28 1 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	const hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n40 31 0:37 / /sys/fs/cgroup/perf_event rw - cgroup cgroup rw,perf_event\n"
	const part = "28 1 0:25 /kubepods/pod7 /sys/fs/cgroup ro - cgroup2 cgroup ro\n"
	for _, tc := range []struct {
		name, cgroup, mounts, want string
		err                        error
	}{
		{"version 2", "0::/system.slice/cart.service\n", v2, "/sys/fs/cgroup/system.slice/cart.service", nil},
		{"version 2, root", "0::/\n", v2, "/sys/fs/cgroup", nil},
		{"hybrid", "4:perf_event:/docker/abc\n1:name=systemd:/x\n0::/y\n", hybrid, "/sys/fs/cgroup/perf_event/docker/abc", nil},
		{"version 1 without perf_event", "4:memory:/docker/abc\n0::/y\n", v2, "/sys/fs/cgroup/y", nil},
		{"several controllers", "4:cpu,perf_event:/a\n", hybrid, "/sys/fs/cgroup/perf_event/a", nil},
		{"part of the hierarchy", "0::/kubepods/pod7/c1\n", part, "/sys/fs/cgroup/c1", nil},
		{"outside of the part", "0::/kubepods/pod8\n", part, "", errOutsideCgroup},
		{"outside of the namespace", "0::/../other\n", v2, "", errOutsideCgroup},
		{"no mount", "0::/a\n", "", "", errNoCgroup},
		{"nothing", "", v2, "", errNoCgroup},
	} {
		got, err := cgroupDir(tc.cgroup, tc.mounts)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %q, %v; want %q, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
}

func TestParseMaps(t *testing.T) {
	maps := parseMaps([]byte(`7f00-8000 r--p 00000000 fd:01 9 /lib/a b.so
55d000000000-55d000001000 r-xp 00001000 fd:01 1234 /usr/bin/cart (deleted)
00400000-00500000 r-xp 00000000 fd:01 77 /bin/x
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
broken line
9000-8000 r-xp 00000000 fd:01 1 /backwards
`))
	want := []mapping{
		{0x400000, 0x500000, 0, fileID{"fd:01", 77}, "/bin/x"},
		{0x55d000000000, 0x55d000001000, 0x1000, fileID{"fd:01", 1234}, "/usr/bin/cart (deleted)"},
		{0x7f0000000000, 0x7f0000001000, 0, fileID{"00:00", 0}, ""},
		{0xffffffffff600000, 0xffffffffff601000, 0, fileID{"00:00", 0}, "[vsyscall]"},
	}
	if !reflect.DeepEqual(maps, want) {
		t.Errorf("got %+v", maps)
	}
	for pc, want := range map[uint64]string{0x400000: "/bin/x", 0x4fffff: "/bin/x", 0x500000: "none", 0x55d000000fff: "/usr/bin/cart (deleted)", 0: "none"} {
		got := "none"
		if m := findMapping(maps, pc); m != nil {
			got = m.path
		}
		if got != want {
			t.Errorf("at %#x: %s, want %s", pc, got, want)
		}
	}
}

func TestGovernor(t *testing.T) {
	var log logText
	g := governor{limit: 0.01, hz: 99, every: 1, log: slog.New(slog.NewTextHandler(&log, nil))}
	want := func(hz, every int) {
		t.Helper()
		if h, e := g.rate(); h != hz || e != every {
			t.Fatalf("%d Hz, one window of %d; want %d, %d\n%s", h, e, hz, every, log)
		}
	}
	window := func(share float64) { g.window(time.Duration(share*15*float64(time.Second)), 15*time.Second) }
	want(99, 1)
	window(0.009)
	want(99, 1)
	for _, step := range [][2]int{{49, 1}, {24, 1}, {12, 1}, {12, 2}, {12, 4}, {12, 8}, {12, 8}} {
		window(0.02)
		want(step[0], step[1])
	}
	if !strings.Contains(string(log), "over the limit") || !strings.Contains(string(log), "limit=\"1.00 %\"") {
		t.Errorf("log: %s", log)
	}
	for range calmAfter - 1 {
		window(0.001)
	}
	want(12, 8)
	window(0.005) // neither here nor there: the count begins anew
	for range calmAfter {
		window(0.001)
	}
	want(12, 4)
	g.limit = -1
	window(5)
	want(12, 4)
}

type logText []byte

func (l *logText) Write(b []byte) (int, error) { *l = append(*l, b...); return len(b), nil }

func TestStacksAreAddedUpAndBounded(t *testing.T) {
	var s stacks
	room := 2 * (stackOverhead + 16)
	add := func(ok bool, chain ...uint64) {
		t.Helper()
		took, got := s.add(nil, chain, 1, 10, room-s.bytes)
		if got != ok || !ok && took != 0 {
			t.Errorf("add %v: took %d, %v; want %v", chain, took, got, ok)
		}
	}
	add(true, 1, 2)
	add(true, 3, 4)
	add(true, 1, 2)
	add(false, 5, 6)
	values := s.take()
	if len(values) != 2 || values[0].count != 2 || values[0].nanos != 20 || values[1].count != 1 {
		t.Errorf("got %+v", values)
	}
	if got := values[1].addresses(nil); !slices.Equal(got, []uint64{3, 4}) {
		t.Errorf("addresses %v", got)
	}
	if s.bytes != 0 || len(s.take()) != 0 {
		t.Error("something is left after take")
	}
}

func TestOffCPU_pairs(t *testing.T) {
	var o offCPU
	w := &watch{}
	got := map[uint64][2]int64{}
	add := func(_ *watch, stack []uint64, count, nanos int64) {
		v := got[stack[0]]
		got[stack[0]] = [2]int64{v[0] + count, v[1] + nanos}
	}
	out := func(time uint64, tid uint32, pc uint64) {
		o.out(w, &record{time: time, tid: tid, period: 2}, []uint64{pc})
	}
	in := func(time uint64, tid uint32) { o.in(&record{time: time, tid: tid}) }
	// The ring of the CPU on which the thread woke was read first.
	in(30, 1)
	out(10, 1, 100)
	out(40, 1, 200)
	o.settle(35, add)
	if want := map[uint64][2]int64{100: {2, 40}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	in(90, 1)
	o.settle(50, add)
	o.cut(60, add) // the window ends while it sleeps
	if want := [2]int64{2, 40}; got[200] != want {
		t.Fatalf("at the end of the window %v, want %v", got[200], want)
	}
	o.settle(100, add)
	if want := [2]int64{2, 100}; got[200] != want {
		t.Fatalf("in all %v, want %v", got[200], want)
	}
	out(110, 2, 300)
	o.settle(120, add)
	o.forget(w)
	in(130, 2)
	o.settle(140, add)
	if want := [2]int64{2, 0}; got[300] != want || len(o.blocked) != 0 {
		t.Errorf("after the process ended %v, want %v; %d blocked", got[300], want, len(o.blocked))
	}
}

func TestKernelNames(t *testing.T) {
	k, err := readKernelNames(strings.NewReader("ffffffff81000200 T second\nffffffff81000000 T first\nffffffff82000000 D data\nffffffffc0000000 t third\t[module]\nshort\n"))
	if err != nil {
		t.Fatal(err)
	}
	for pc, want := range map[uint64]string{0xffffffff81000000: "first", 0xffffffff810001ff: "first", 0xffffffff81000200: "second", 0xffffffffc0000001: "third", 0xffffffff80ffffff: "[kernel]"} {
		if got := k.name(pc); got != want {
			t.Errorf("%#x: %s, want %s", pc, got, want)
		}
	}
	if _, err := readKernelNames(strings.NewReader("0000000000000000 T first\n")); !errors.Is(err, errHidden) {
		t.Errorf("hidden addresses: %v", err)
	}
}

// sampleBytes makes a sample as the kernel writes it.
func sampleBytes(chain []uint64, stack []byte) []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, recordSample)
	b = ne.AppendUint16(ne.AppendUint16(b, 2), 0)
	b = ne.AppendUint32(ne.AppendUint32(b, 7), 8)
	b = ne.AppendUint64(ne.AppendUint64(b, 1234), 1e7)
	b = ne.AppendUint64(b, uint64(len(chain)))
	for _, pc := range chain {
		b = ne.AppendUint64(b, pc)
	}
	b = ne.AppendUint64(ne.AppendUint64(b, 2), 0x7ffc0000) // registers of a 64-bit program, SP
	b = ne.AppendUint64(b, uint64(len(stack)))
	b = append(b, stack...)
	if len(stack) > 0 {
		b = ne.AppendUint64(b, uint64(len(stack)))
	}
	ne.PutUint16(b[6:], uint16(len(b)))
	return b
}

func TestDecodeSample(t *testing.T) {
	d := decoder{regs: 1 << 7}
	r, ok := d.decode(sampleBytes([]uint64{contextKernel, 0xffffffff81000000, contextUser, 0x401000, 0x402000}, make([]byte, 64)))
	if !ok || r.pid != 7 || r.tid != 8 || r.time != 1234 || r.period != 1e7 || !slices.Equal(r.kernel, []uint64{0xffffffff81000000}) ||
		!slices.Equal(r.user, []uint64{0x401000, 0x402000}) || r.sp != 0x7ffc0000 || len(r.stack) != 64 {
		t.Errorf("%v %+v", ok, r)
	}
	whole := sampleBytes([]uint64{contextUser, 0x401000}, make([]byte, 16))
	for n := range whole {
		b := slices.Clone(whole[:n])
		if n >= 8 {
			binary.NativeEndian.PutUint16(b[6:], uint16(n))
		}
		if r, ok := d.decode(b); ok {
			t.Errorf("%d of %d bytes are taken for a record: %+v", n, len(whole), r)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sampleBytes([]uint64{contextUser, 1, 2, 3}, make([]byte, 64)), uint64(1<<7))
	f.Add(sampleBytes(nil, nil), uint64(1<<30|1<<31))
	for kind := range uint32(20) {
		b := make([]byte, 48)
		binary.NativeEndian.PutUint32(b, kind)
		binary.NativeEndian.PutUint16(b[6:], uint16(len(b)))
		f.Add(b, uint64(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, regs uint64) {
		d := decoder{regs: regs}
		if r, ok := d.decode(b); ok && (len(r.user)+len(r.kernel) > maxChain || len(r.stack) > maxUserStack) {
			t.Errorf("%d frames, %d bytes of stack", len(r.user)+len(r.kernel), len(r.stack))
		}
	})
}

func FuzzProcFiles(f *testing.F) {
	f.Add([]byte("00400000-00500000 r-xp 00000000 fd:01 77 /bin/x\n"))
	f.Add([]byte("0::/a\n"))
	f.Add([]byte("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		maps := parseMaps(b)
		if !slices.IsSortedFunc(maps, func(a, b mapping) int { return int(int64(a.start>>1) - int64(b.start>>1)) }) {
			t.Errorf("not sorted: %+v", maps)
		}
		findMapping(maps, uint64(len(b)))
		_, _ = cgroupDir(string(b), string(b))
		if k, err := readKernelNames(strings.NewReader(string(b))); err == nil {
			k.name(uint64(len(b)))
		}
	})
}

func FuzzNatives(f *testing.F) {
	for _, path := range []string{"/bin/true", "/lib/x86_64-linux-gnu/libdl.so.2"} {
		if b, err := os.ReadFile(path); err == nil {
			f.Add(b[:min(len(b), 64<<10)])
		}
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := readNatives(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		if len(n.funcs) > maxNatives {
			t.Errorf("%d functions", len(n.funcs))
		}
		for _, fn := range n.funcs[:min(len(n.funcs), 10)] {
			n.name(fn.addr)
		}
	})
}
