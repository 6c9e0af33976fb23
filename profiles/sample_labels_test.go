package profiles

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/google/pprof/profile"
)

func TestSampleLabels(t *testing.T) {
	p := testProfile([]ValueType{{"cpu", "nanoseconds"}}, map[string][]int64{"main.a": {10}, "main.b": {20}, "main.c": {5}})
	p.Labels = []SampleLabel{{Key: "account", Str: "A"}, {Key: "bytes", Unit: "bytes", Num: 512, Numeric: true}, {Key: "account", Str: "B"}, {Key: "account", Str: "A"}, {Key: "account", Str: "B"}}
	p.Samples[0].Labels, p.Samples[1].Labels, p.Samples[2].Labels = Span{0, 2}, Span{2, 3}, Span{3, 5} // the last has both accounts
	b := NewBuilder(Type{Profile: "cpu", Sample: "cpu"}, 1, 2)
	if err := b.Add(p, 0, 0); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(NewSampleLabels(b.Stacks(), 1).Labels)
	want := `[{"name":"account","total":35,"distinct":2,"values":[{"value":"B","total":25}]},{"name":"bytes","unit":"bytes","total":10,"distinct":1,"values":[{"value":"512","total":10}]}]`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want\n%s", got, err, want)
	}
	if none := NewSampleLabels(&Stacks{}, 0); none.Labels == nil || len(none.Labels) != 0 {
		t.Errorf("%+v", none)
	}
}

// TestSampleLabelsAgreeWithGooglePprof adds up the labels of real profiles naively.
func TestSampleLabelsAgreeWithGooglePprof(t *testing.T) {
	seen := 0
	for name, s := range mergedCorpus(t, 20) {
		ref, err := profile.ParseData(pprofBytes(t, s))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{}
		for _, smp := range ref.Sample {
			for k, vs := range smp.Label {
				for _, v := range vs {
					want[k+"="+v] += smp.Value[0]
				}
			}
			for k, vs := range smp.NumLabel {
				for _, v := range vs {
					want[k+"="+strconv.FormatInt(v, 10)] += smp.Value[0]
				}
			}
		}
		got := 0
		for _, l := range NewSampleLabels(s, 1<<20).Labels {
			for _, v := range l.Values {
				got++
				if want[l.Name+"="+v.Value] != v.Total {
					t.Errorf("%s: %s=%s is %d, want %d", name, l.Name, v.Value, v.Total, want[l.Name+"="+v.Value])
				}
			}
		}
		if got != len(want) {
			t.Errorf("%s: %d values, want %d", name, got, len(want))
		}
		seen += got
	}
	if seen == 0 {
		t.Error("no label was seen: the test proves nothing")
	}
}
