package series

import (
	"errors"
	"reflect"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

func batch() *Batch {
	cpu := labels.FromStrings("__name__", "process_cpu_seconds_total")
	pauses := labels.FromStrings("__name__", "go_gc_pauses_seconds")
	return &Batch{Process: labels.FromStrings("service_name", "cart", "service_instance_id", "i1"),
		Samples: []Sample{{Labels: cpu, T: 1000, V: 1.5}, {Labels: cpu, T: 2000, V: 2},
			{Labels: pauses, T: 2000, H: &histogram.FloatHistogram{Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 0.25, CustomValues: []float64{0.1, 0.2},
				PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{2, 1}}}},
		Metadata: []Metadata{{Name: "cart_orders_total", Type: model.MetricTypeCounter, Help: "Orders."}}}
}

func TestEncode(t *testing.T) {
	for _, process := range []bool{false, true} {
		in := batch()
		msg, err := Encode(in, process)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(msg, Limits{Samples: 3, Labels: 3})
		if err != nil {
			t.Fatal(err)
		}
		want := batch()
		want.Process = labels.EmptyLabels()
		if process {
			for i := range want.Samples {
				want.Samples[i].Labels = Merge(in.Process, want.Samples[i].Labels)
			}
		}
		if !reflect.DeepEqual(got.Metadata, want.Metadata) || len(got.Samples) != len(want.Samples) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		for i, s := range got.Samples {
			w := want.Samples[i]
			if !labels.Equal(s.Labels, w.Labels) || s.T != w.T || s.V != w.V || (s.H == nil) != (w.H == nil) || s.H != nil && !s.H.Equals(w.H) {
				t.Errorf("sample %d: got %+v, want %+v", i, s, w)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	msg, err := Encode(batch(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []Limits{{Samples: 2}, {Labels: 2}} {
		if _, err := Decode(msg, l); !errors.As(err, new(*LimitError)) {
			t.Errorf("limits %+v: error %v, want a LimitError", l, err)
		}
	}
	nameless, err := Encode(&Batch{Samples: []Sample{{Labels: labels.FromStrings("a", "b"), T: 1}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, msg := range map[string][]byte{"no message": []byte("\xff\xff\xff"), "no name": nameless} {
		if _, err := Decode(msg, Limits{}); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: error %v, want ErrMessage", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, process := range []bool{false, true} {
		msg, err := Encode(batch(), process)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		b, err := Decode(msg, Limits{Samples: 1000, Labels: 50})
		if err != nil {
			return
		}
		again, err := Encode(b, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again, Limits{}); err != nil {
			t.Fatalf("decoded, but not its encoding: %v", err)
		}
	})
}
