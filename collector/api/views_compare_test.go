package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// sides are the parameters of the comparison that filled is made for: five minutes with v2 against five with v1.
var sides = []string{"query", "cart", "type", "cpu", "from", "now-5m", "base_from", "now-10m", "base_to", "now-5m"}

func TestNormalizedDiff(t *testing.T) {
	f := filled(t, nil)
	for normalize, want := range map[profiles.Normalization][2]float64{
		profiles.NormalizeInterval: {1.0 / 15, 1.0 / 30}, // one profile of 15 s against two
		profiles.NormalizeInstance: {1, 1},               // one process on either side
		profiles.NormalizeShare:    {1 / 22e7, 1 / 11e7},
		profiles.NormalizeCPU:      {1 / 0.22, 1 / 0.11},
	} {
		for _, view := range []string{"flame", "top"} {
			var got struct{ Scale *profiles.Scale }
			f.decode(t, &got, "diff", append(sides, "view", view, "normalize", string(normalize))...)
			if s := got.Scale; s == nil || s.Normalize != normalize || math.Abs(s.Now/want[0]-1) > 1e-9 || math.Abs(s.Base/want[1]-1) > 1e-9 || s.Missing != "" {
				t.Errorf("%s of %s: %+v, want %v", normalize, view, got.Scale, want)
			}
		}
	}
	var plain struct{ Scale *profiles.Scale }
	if f.decode(t, &plain, "diff", sides...); plain.Scale != nil {
		t.Errorf("not asked for: %+v", plain.Scale)
	}
	if w := f.get(t, "diff", append(sides, "normalize", "rate")...); w.Code != 400 || !strings.Contains(w.Body.String(), "none of none, share, cpu, instance, interval") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestDiffByCPUNeedsCPUProfiles asks for allocations per CPU second where no CPU was profiled.
func TestDiffByCPUNeedsCPUProfiles(t *testing.T) {
	f := newFixture(t, nil)
	for _, before := range []time.Duration{8 * time.Minute, 2 * time.Minute} {
		f.pushType(t, "wall", "cart", "v1", "i1", before, stack{"main.main", 5})
	}
	kv := append([]string{}, sides...)
	kv[3] = "wall:cpu"
	var got struct{ Scale *profiles.Scale }
	f.decode(t, &got, "diff", append(kv, "normalize", "cpu")...)
	if s := got.Scale; s == nil || s.Now != 1 || s.Base != 1 || s.Normalize != profiles.NormalizeNone || !strings.Contains(s.Missing, "no CPU profile") {
		t.Errorf("%+v", got.Scale)
	}
}

func TestCallers(t *testing.T) {
	f := filled(t, nil)
	var got profiles.Callers
	f.decode(t, &got, "callers", "query", "cart", "type", "cpu", "function", "example.com/cart/db.Get")
	if got.Total != 30e7 || got.Self != 30e7 || got.All != 33e7 || got.Kind != profiles.KindOwn || got.Callers.Nodes != 2 || got.Callers.Names[1] != "main.main" || got.Callees.Nodes != 1 || got.BaseTotal != nil {
		t.Errorf("%+v", got)
	}
	var diff profiles.Callers
	f.decode(t, &diff, "callers", append(sides, "function", "main.main", "normalize", "interval")...)
	if diff.Total != 22e7 || *diff.BaseTotal != 11e7 || diff.Callees.Nodes != 4 || len(diff.Callees.BaseValue) != 4 || diff.Callees.Scale == nil {
		t.Errorf("%+v", diff)
	}
	for _, c := range [][]string{{"type", "cpu"}, {"type", "cpu", "function", "f", "base_from", "now-2h"}, {"type", "cpu", "function", "f", "frames", "x"}, {"function", "f"}} {
		if w := f.get(t, "callers", c...); w.Code != 400 {
			t.Errorf("%v: %d %s", c, w.Code, w.Body)
		}
	}
}

func TestSampleLabels(t *testing.T) {
	f := filled(t, nil)
	var got profiles.SampleLabels
	f.decode(t, &got, "samplelabels", "query", "cart", "type", "cpu")
	if got.Total != 33e7 || got.Labels == nil || len(got.Labels) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestRanking plants a regression in two steady fleets and one function that is noise.
func TestRanking(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 40 {
		before := time.Duration(40-i) * time.Minute
		slow := int64(20)
		if i >= 20 {
			slow = 40
		}
		for k := range 2 {
			f.push(t, "cart", "v1", "i"+strconv.Itoa(k), before+time.Duration(k)*time.Second, stack{"main.main;example.com/cart.Steady", 100 + int64(i*7%5)},
				stack{"main.main;example.com/cart.Slow", slow + int64(i*3%4)}, stack{"main.main;example.com/cart.Noise", 1 + int64(i*i%23)})
		}
	}
	for _, normalize := range []string{"", "none", "instance", "interval"} {
		for _, value := range []string{"total", "self"} {
			kv := []string{"query", "cart", "type", "cpu", "from", "now-20m", "base_from", "now-40m", "base_to", "now-20m", "value", value}
			if normalize != "" {
				kv = append(kv, "normalize", normalize)
			}
			var got profiles.Ranking
			f.decode(t, &got, "ranking", kv...)
			if top := got.Rows[0]; top.Function != "example.com/cart.Slow" || top.Q > 1e-6 || top.T < 0 || got.Window != 60_000 || got.Windows != 20 || got.BaseWindows != 20 || got.Note != "" || got.Value != value {
				t.Errorf("%s, %s: %+v of %+v", normalize, value, top, got)
			}
		}
	}
	var few profiles.Ranking
	f.decode(t, &few, "ranking", "query", "cart", "type", "cpu", "from", "now-20m", "base_from", "now-40m", "base_to", "now-20m", "window", "10m", "limit", "2")
	if few.Windows != 2 || few.Note == "" || len(few.Rows) != 2 || few.Functions != 4 {
		t.Errorf("%+v", few)
	}
	var empty profiles.Ranking
	f.decode(t, &empty, "ranking", "query", "none", "type", "heap", "base_from", "now-2h", "base_to", "now-1h")
	if len(empty.Rows) != 0 || empty.Note == "" || empty.Type.ID != "heap:inuse_space" {
		t.Errorf("%+v", empty)
	}
	for _, c := range []struct {
		window string
		code   int
	}{{"30s", 400}, {"often", 400}, {"1m", 422}} {
		if w := f.get(t, "ranking", "query", "cart", "type", "cpu", "from", "now-20h", "base_from", "now-40h", "base_to", "now-20h", "window", c.window); w.Code != c.code {
			t.Errorf("window of %s: %d %s", c.window, w.Code, w.Body)
		}
	}
	if w := f.get(t, "ranking", "type", "cpu"); w.Code != 400 || !strings.Contains(w.Body.String(), "base_from is missing") {
		t.Errorf("%s", fmt.Sprint(w.Code, w.Body))
	}
}
