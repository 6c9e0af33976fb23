package promenc_test

import (
	"encoding/binary"
	"math"
	"reflect"
	"runtime/metrics"
	"slices"
	"testing"

	"github.com/sonde-io/sonde/agent/internal/promenc"
	"github.com/sonde-io/sonde/agent/internal/promenc/promtest"
)

var inf = math.Inf(1)

func TestWriter(t *testing.T) {
	var w promenc.Writer
	for range 2 { // over the same buffers
		w.Reset()
		w.Begin("go_info", "version", "go1.26.8")
		w.Sample(1000, 1)
		w.End()
		w.Begin("go_goroutines")
		w.Sample(1000, 0)
		w.Sample(11000, 12.5)
		w.End()
		got, err := promtest.Read(w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		want := []promtest.Series{
			{Labels: map[string]string{"__name__": "go_info", "version": "go1.26.8"}, Samples: []promtest.Sample{{T: 1000, V: 1}}},
			{Labels: map[string]string{"__name__": "go_goroutines"}, Samples: []promtest.Sample{{T: 1000, V: 0}, {T: 11000, V: 12.5}}},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestHistogram(t *testing.T) {
	for _, tc := range []struct {
		name         string
		bounds       []float64
		counts       []uint64
		wantBounds   []float64
		want         []uint64 // of all of Prometheus' buckets
		estimatedSum float64
	}{
		{"open at both ends", []float64{-inf, 0, 1, 2, inf}, []uint64{1, 0, 7, 2}, []float64{0, 1, 2}, []uint64{1, 0, 7, 2}, 7*1.5 + 2*2},
		{"open above", []float64{1, 9, 17, inf}, []uint64{3, 0, 5}, []float64{1, 9, 17}, []uint64{0, 3, 0, 5}, 3*5 + 5*17},
		{"closed", []float64{0, 10, 20}, []uint64{1, 2}, []float64{0, 10, 20}, []uint64{0, 1, 2, 0}, 5 + 30},
		{"empty", []float64{-inf, 0, inf}, []uint64{0, 0}, []float64{0}, []uint64{0, 0}, 0},
		{"no bounds", []float64{-inf, inf}, []uint64{4}, nil, []uint64{4}, 0},
		{"large counts", []float64{-inf, 0, 1, inf}, []uint64{1, 1 << 62, 1 << 61}, []float64{0, 1}, []uint64{1, 1 << 62, 1 << 61}, 1<<61 + 1<<61},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var w promenc.Writer
			w.Begin("h")
			w.Histogram(5000, tc.bounds, tc.counts, 1.5)
			w.End()
			got, err := promtest.Read(w.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			total := uint64(0)
			for _, c := range tc.counts {
				total += c
			}
			want := promtest.Histogram{T: 5000, Schema: -53, Count: total, Sum: 1.5, Bounds: tc.wantBounds, Counts: tc.want}
			if h := got[0].Histograms[0]; !reflect.DeepEqual(h, want) {
				t.Errorf("got %+v, want %+v", h, want)
			}
			if sum := promenc.Sum(tc.bounds, tc.counts); sum != tc.estimatedSum {
				t.Errorf("the sum is estimated as %v, want %v", sum, tc.estimatedSum)
			}
		})
	}
}

func TestName(t *testing.T) {
	for _, tc := range []struct {
		in         string
		cumulative bool
		kind       metrics.ValueKind
		want       string
	}{
		{"/gc/heap/live:bytes", false, metrics.KindUint64, "go_gc_heap_live_bytes"},
		{"/gc/heap/allocs:bytes", true, metrics.KindUint64, "go_gc_heap_allocs_bytes_total"},
		{"/gc/heap/allocs-by-size:bytes", true, metrics.KindFloat64Histogram, "go_gc_heap_allocs_by_size_bytes"},
		{"/gc/pauses:seconds", true, metrics.KindFloat64Histogram, "go_gc_pauses_seconds"},
		{"/cgo/go-to-c-calls:calls", true, metrics.KindUint64, "go_cgo_go_to_c_calls_calls_total"},
		{"/cpu/classes/gc/mark/idle:cpu-seconds", true, metrics.KindFloat64, "go_cpu_classes_gc_mark_idle_cpu_seconds_total"},
		{"/a/b*c:x", false, metrics.KindUint64, ""},
		{"/a/b:x/y*z", false, metrics.KindUint64, "go_a_b_x_per_y_z"},
		{"/a:b", false, metrics.KindUint64, ""},
		{"/a/b", false, metrics.KindUint64, ""},
		{"a/b:c", false, metrics.KindUint64, ""},
		{"", false, metrics.KindUint64, ""},
	} {
		got, ok := promenc.Name(&metrics.Description{Name: tc.in, Cumulative: tc.cumulative, Kind: tc.kind})
		if ok != (tc.want != "") || ok && got != tc.want {
			t.Errorf("Name(%q) = %q, %v, want %q", tc.in, got, ok, tc.want)
		}
	}
	for _, d := range metrics.All() {
		if name, ok := promenc.Name(&d); !ok {
			t.Errorf("%s has no name: %q", d.Name, name)
		}
	}
}

// FuzzHistogram: whatever the runtime counts, the reader finds it again.
func FuzzHistogram(f *testing.F) {
	f.Add([]byte{0, 1, 2, 200, 0, 0, 7}, true, true)
	f.Add([]byte{}, false, false)
	f.Fuzz(func(t *testing.T, data []byte, low, high bool) {
		var counts []uint64
		for len(data) > 0 {
			v, n := binary.Uvarint(data)
			if n <= 0 {
				break
			}
			counts, data = append(counts, v>>8), data[n:]
		}
		if len(counts) == 0 {
			return
		}
		bounds := make([]float64, len(counts)+1)
		for i := range bounds {
			bounds[i] = float64(i)
		}
		if low {
			bounds[0] = -inf
		}
		if high {
			bounds[len(counts)] = inf
		}
		var w promenc.Writer
		w.Begin("h")
		w.Histogram(1, bounds, counts, 1)
		w.End()
		got, err := promtest.Read(w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		back := got[0].Histograms[0].Counts
		if !low {
			back = back[1:]
		}
		if !high {
			back = back[:len(back)-1]
		}
		if !slices.Equal(back, counts) {
			t.Errorf("got %v, want %v", back, counts)
		}
	})
}
