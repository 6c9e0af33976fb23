package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
	"mime/multipart"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/sonde-io/sonde/agent/internal/pprofenc"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The golden pushes' process, times and addresses. The collector's tests read the same files.
const (
	goldenBoundary = "sonde-golden-boundary"
	goldenInstance = "9f86d081884c7d659a2feaa0c55ad015"
	goldenStart    = int64(1795241445123)
)

func goldenSymbols(pc uintptr) pprofenc.Frame {
	frames := map[uintptr]pprofenc.Frame{
		0x1011: {Function: "main.price", File: "/src/cart/price.go", Line: 14, StartLine: 10, Entry: 0x1000, Inlined: true},
		0x1012: {Function: "main.checkout", File: "/src/cart/main.go", Line: 42, StartLine: 30, Entry: 0x1000},
		0x2010: {Function: "encoding/json.Marshal", File: "/go/src/encoding/json/encode.go", Line: 171, StartLine: 160, Entry: 0x2000},
		0x3010: {Function: "main.main", File: "/src/cart/main.go", Line: 12, StartLine: 8, Entry: 0x3000},
		0x4010: {Function: "runtime.main", File: "/go/src/runtime/proc.go", Line: 283, StartLine: 147, Entry: 0x4000},
		0x5010: {Function: "runtime.goexit", File: "/go/src/runtime/asm_amd64.s", Line: 1700, StartLine: 1698, Entry: 0x5000},
	}
	return frames[pc]
}

func goldenRecords(factor int64) []runtime.MemProfileRecord {
	return []runtime.MemProfileRecord{
		{AllocBytes: 1 << 20 * factor, FreeBytes: 1 << 19 * factor, AllocObjects: 16 * factor, FreeObjects: 8 * factor,
			Stack0: [32]uintptr{0x2010, 0x1012, 0x3010, 0x4010, 0x5010}},
		{AllocBytes: 4096 * factor, FreeBytes: 4096 * factor, AllocObjects: 64 * factor, FreeObjects: 64 * factor,
			Stack0: [32]uintptr{0x1011, 0x1012, 0x3010, 0x4010, 0x5010}},
	}
}

// goldenProfiles returns the gzipped CPU and heap profiles of window n. compress/gzip may write other bytes in another Go
// release, so the profiles are files of their own, which only -update writes.
func goldenProfiles(t *testing.T, n int) [][]byte {
	start := time.UnixMilli(goldenStart).Add(time.Duration(n-1) * 15 * time.Second)
	end := start.Add(15 * time.Second)
	b := pprofenc.NewBuilder(goldenSymbols, pprofenc.Mapping{File: "/app/cart", BuildID: "6f1c3a"})
	var cpu, heap bytes.Buffer
	stacks := [][]uintptr{{0x1011, 0x1012, 0x3010, 0x4010, 0x5010}, {0x2010, 0x1012, 0x3010, 0x4010, 0x5010}}
	if err := pprofenc.WriteCPU(b, &cpu, start, end, stacks, []int64{30 * int64(n), 12}); err != nil {
		t.Fatal(err)
	}
	factor := int64(n - 1)
	h := pprofenc.NewHeapFrom(func() []runtime.MemProfileRecord { return goldenRecords(factor) })
	if err := h.Baseline(); err != nil {
		t.Fatal(err)
	}
	factor++
	if _, err := h.Capture(b, &heap, start, end); err != nil {
		t.Fatal(err)
	}
	out := [][]byte{cpu.Bytes(), heap.Bytes()}
	for i, typ := range []string{"cpu", "heap"} {
		out[i] = golden(t, filepath.Join("testdata", "push", typ+"-"+strconv.Itoa(n)+".pb.gz"), out[i], gunzip)
	}
	return out
}

// goldenMetrics returns the gzipped metrics of window n: two readings of a few series of each kind.
func goldenMetrics(t *testing.T, n int) []byte {
	start := goldenStart + int64(n-1)*15000
	inf, nan := math.Inf(1), math.NaN()
	m := metering{before: start - 6000,
		values: []series{{name: "go_info", labels: []string{"version", "go1.26.8"}}, {name: "go_goroutines"}, {name: "process_cpu_seconds_total"}, {name: "process_open_fds"},
			{name: "go_godebug_non_default_behavior_panicnil_events_total", quiet: true}, {name: "go_godebug_non_default_behavior_gotypesalias_events_total", quiet: true}},
		histogram: []distribution{{name: "go_gc_pauses_seconds", bounds: []float64{-inf, 0, 0.001, 0.002, 0.004, 0.008, inf}, n: 6},
			{name: "go_gc_heap_allocs_by_size_bytes", bounds: []float64{1, 9, 17, inf}, at: 6, n: 3},
			{name: "go_sched_latencies_seconds", bounds: []float64{-inf, 0, 1, inf}, at: 9, n: 3}},
		taken: []reading{{t: start + 4000, values: []float64{1, 12, 3.5, nan, 0, 0}, counts: []uint64{0, 0, 5, 0, 2, 1, 100, 0, 7, 0, 0, 0}, sums: []float64{0.0215, 250000, 0}},
			{t: start + 14000, values: []float64{1, 15, 4.25, nan, 2, 0}, counts: []uint64{0, 0, 9, 1, 2, 1, 300, 20, 7, 0, 0, 0}, sums: []float64{0.0247, 251800, 0}}}}
	var b bytes.Buffer
	gz := pprofenc.NewBuilder(goldenSymbols, pprofenc.Mapping{}).Compressor(&b)
	if err := errors.Join(m.encode(gz), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return golden(t, filepath.Join("testdata", "push", "metrics-"+strconv.Itoa(n)+".pb.gz"), b.Bytes(), gunzip)
}

// golden compares got with the file at path after the transformation view, and returns the file's bytes.
func golden(t *testing.T, path string, got []byte, view func(*testing.T, []byte) []byte) []byte {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test -run Golden -update", err)
	}
	if !bytes.Equal(view(t, got), view(t, want)) {
		t.Errorf("%s differs from what the encoder writes now", path)
	}
	return want
}

func TestGoldenPushes(t *testing.T) {
	process := processInfo{
		Labels:    map[string]string{"service_name": "cart", "service_version": "v1.2.0", "host_name": "n1", "process_pid": "4711"},
		GoVersion: "go1.26.8", BuildInfo: "go\tgo1.26.8\npath\texample.com/cart\nmod\texample.com/cart\tv1.2.0\t\n",
		GoBuildID: "a/b/c/d", GNUBuildID: "6f1c3a", Exe: "/app/cart", PID: 4711, BootID: "0a1b2c3d-0000-4000-8000-000000000001",
		PIDNS: 4026531836, StartTicks: 1234567, NSPIDs: []int{4711}, Started: 1795241000000, Agent: "0.0.1",
	}
	raw, hash, err := process.encode()
	if err != nil {
		t.Fatal(err)
	}
	moved := process
	moved.Conditions = map[string]string{"args": "--port 8080 sha256:0a1b2c3d", "env_GOGC": "50", "gogc": "50", "gomaxprocs": "2", "cgroup_cpu": "2", "cgroup_memory": "536870912"}
	movedRaw, movedHash, err := moved.encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		file    string
		window  uint64
		process json.RawMessage
		hash    string
		stats   stats
		weight  int64  // of the cpu profile
		capture string // of the heap profile
		metrics []byte
		last    bool
	}{
		{"push-first.multipart", 1, raw, hash, stats{CaptureCPUms: 4}, 0, "", nil, false},
		{"push-next.multipart", 2, nil, hash, stats{CaptureCPUms: 3, Skipped: map[string]string{"goroutine": "over budget"}}, 0, "", nil, false},
		{"push-marked.multipart", 3, nil, hash, stats{CaptureCPUms: 5}, 4, "c0ffee00c0ffee00", nil, false},
		{"push-metrics.multipart", 4, movedRaw, movedHash, stats{CaptureCPUms: 6}, 0, "", goldenMetrics(t, 4), false},
		{"push-last.multipart", 5, nil, movedHash, stats{CaptureCPUms: 6}, 0, "", nil, true},
	} {
		t.Run(tc.file, func(t *testing.T) {
			start := goldenStart + int64(tc.window-1)*15000
			m := meta{V: 1, Instance: goldenInstance, Window: tc.window, Start: start, End: start + 15000, ProcessHash: tc.hash, Process: tc.process, Stats: tc.stats,
				Profiles: []entry{{Part: "cpu", Type: CPU, Start: start, End: start + 15000, Weight: tc.weight},
					{Part: "heap", Type: Heap, Start: start, End: start + 15000, Capture: tc.capture}}}
			data, parts := goldenProfiles(t, int(tc.window)), []string{"meta", "cpu", "heap"}
			if tc.metrics != nil {
				m.Metrics, data, parts = metricsPart, append(data, tc.metrics), append(parts, "metrics")
			}
			w, err := newWindow(m, raw, data, goldenBoundary)
			if err != nil {
				t.Fatal(err)
			}
			if tc.last {
				if err := w.tell(moved.ended(goldenInstance, time.UnixMilli(m.End))); err != nil {
					t.Fatal(err)
				}
			}
			body, err := io.ReadAll(w.body())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "push", tc.file), body, func(_ *testing.T, b []byte) []byte { return b })
			checkParts(t, body, parts)
		})
	}
}

// checkParts reads body as the collector does.
func checkParts(t *testing.T, body []byte, want []string) {
	t.Helper()
	r := multipart.NewReader(bytes.NewReader(body), goldenBoundary)
	for _, name := range want {
		p, err := r.NextPart()
		if err != nil {
			t.Fatalf("part %q: %v", name, err)
		}
		if p.FormName() != name {
			t.Errorf("part named %q, want %q", p.FormName(), name)
		}
		if _, err := io.Copy(io.Discard, p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v, want EOF", err)
	}
}

func TestWindowWithoutProfiles(t *testing.T) {
	w, err := newWindow(meta{V: 1, Instance: goldenInstance, Window: 3, Profiles: []entry{}}, nil, nil, goldenBoundary)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(w.body())
	if err != nil {
		t.Fatal(err)
	}
	checkParts(t, body, []string{"meta"})
}
