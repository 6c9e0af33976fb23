package api

import (
	"errors"
	"math"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// tables are binaries by build id.
type tables map[string]string

func (t tables) Functions(id string) (*pclntab.Table, error) {
	if t[id] == "" {
		return nil, os.ErrNotExist
	}
	return pclntab.Open(t[id])
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestPGOReport(t *testing.T) {
	f := filled(t, nil)
	f.h.RegisterPGO(f.mux, f.cat, nil)
	var r PGOReport
	f.decode(t, &r, "pgo", "query", "cart", "type", "cpu", "from", "now-1h")
	if r.Total != 330_000_000 || r.Samples != 33 || r.Profiles != 3 || r.Processes != 2 || r.Type.ID != "cpu:cpu" {
		t.Errorf("%+v", r)
	}
	if len(r.Builds) != 2 || r.Builds[0].ID != "b-v2" || !near(r.Builds[0].Share, 22.0/33) || r.Builds[1].ID != "b-v1" || !near(r.Builds[1].Share, 11.0/33) || r.Builds[1].FirstSeen != ms(10*time.Minute) {
		t.Errorf("builds %+v", r.Builds)
	}
	if len(r.Newest) != 1 || r.Newest[0].ID != "b-v2" || r.Source != "profiles" || !near(r.Exists, 32.0/33) || len(r.Missing) != 1 || r.Missing[0].Function != "runtime.mallocgc" {
		t.Errorf("newest %+v by %s: %f exists, missing %+v", r.Newest, r.Source, r.Exists, r.Missing)
	}

	// A build that nobody profiled yet, and whose binary is known, is the newest.
	program := testgo.BuildSource(t, testgo.Local(), nil, "package main\n\nfunc main() { println(len(make([]byte, 10))) }\n")
	if err := f.cat.PutBuilds(t.Context(), []catalog.Build{{ID: "b-v3", FirstSeen: ms(time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	if err := f.cat.PutProcesses(t.Context(), []catalog.Process{{Instance: "i9", Service: "cart", Version: "v3", BuildID: "b-v3", Gatherer: "agent", FirstSeen: ms(time.Minute), LastSeen: ms(0)}}); err != nil {
		t.Fatal(err)
	}
	g := newFixture(t, nil)
	mux := http.NewServeMux()
	f.h.RegisterPGO(mux, f.cat, tables{"b-v3": program})
	g.mux = mux
	g.decode(t, &r, "pgo", "query", "cart", "type", "cpu", "from", "now-1h")
	if len(r.Newest) != 1 || r.Newest[0].ID != "b-v3" || r.Newest[0].Version != "v3" || r.Source != "binary" || !near(r.Exists, 1.0/33) || len(r.Missing) != 2 || r.Missing[0].Function != "example.com/cart/db.Get" {
		t.Errorf("newest %+v by %s: %f exists, missing %+v", r.Newest, r.Source, r.Exists, r.Missing)
	}
	if w := f.get(t, "pgo", "query", "cart", "type", "heap"); w.Code != http.StatusBadRequest {
		t.Errorf("of heap: %d", w.Code)
	}
	r = PGOReport{}
	f.decode(t, &r, "pgo", "query", "nobody", "type", "cpu")
	if r.Total != 0 || r.Processes != 0 || len(r.Builds) != 0 || r.Source != "none" {
		t.Errorf("of nobody: %+v", r)
	}
}

// TestPGOWeighsByTime merges processes that were sampled at different rates: the same time counts the same.
func TestPGOWeighsByTime(t *testing.T) {
	f := newFixture(t, nil)
	at := ms(5 * time.Minute)
	for i, rate := range []int64{100, 10} {
		p := cpu(t, stack{[]string{"main.main;main.fast", "main.main;main.slow"}[i], rate})
		p.Period = 1e9 / rate
		for j := range p.Samples {
			p.Row(j)[1] = p.Row(j)[0] * p.Period
		}
		ls := labels.FromStrings("service_name", "cart", "service_instance_id", []string{"a", "b"}[i])
		if err := f.st.Append(t.Context(), store.Push{Profiles: []store.Profile{{Labels: ls, Type: "cpu", Start: at, End: at + 15_000, Data: p}}}); err != nil {
			t.Fatal(err)
		}
	}
	w := f.get(t, "profile", "query", "cart", "type", "cpu", "format", "pgo")
	p, err := profile.Parse(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	var got []int64
	for _, s := range p.Sample {
		got = append(got, s.Value[0])
	}
	if !slices.Equal(got, []int64{1e9, 1e9}) || p.SampleType[0].Unit != "nanoseconds" {
		t.Errorf("%v %s, want a second of each", got, p.SampleType[0].Unit)
	}
	if _, err := (tables{}).Functions("none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
