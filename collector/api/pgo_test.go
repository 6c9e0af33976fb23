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
	"github.com/sonde-io/sonde/symbols/binaries"
	"github.com/sonde-io/sonde/symbols/build"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// tables are binaries by build id.
type tables map[string]string

func (t tables) Functions(id string) (binaries.Functions, error) {
	if t[id] == "" {
		return nil, os.ErrNotExist
	}
	return pclntab.Open(t[id])
}

// listOf returns a store that knows the functions of a program by a list that another made.
func listOf(t *testing.T, id, program string) *binaries.Store {
	t.Helper()
	var stores [2]*binaries.Store
	for i := range stores {
		s, err := binaries.Open(binaries.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		stores[i] = s
	}
	info, err := build.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := stores[0].Add(t.Context(), program); err != nil {
		t.Fatal(err)
	}
	list, err := stores[0].FunctionList(t.Context(), info.Key())
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	if err := stores[1].PutFunctions(t.Context(), id, list); err != nil {
		t.Fatal(err)
	}
	return stores[1]
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestPGOReport(t *testing.T) {
	f := filled(t, nil)
	// i1 was there for 135 s and profiled in 30 of them: what was counted of it stands for 4.5 times as much. i2 was profiled all the time.
	f.h.RegisterPGO(f.mux, f.cat, nil)
	var r PGOReport
	f.decode(t, &r, "pgo", "query", "cart", "type", "cpu", "from", "now-1h")
	if r.Total != 715_000_000 || r.Samples != 33 || r.Profiles != 3 || r.Processes != 2 || r.Type.ID != "cpu:cpu" {
		t.Errorf("%+v", r)
	}
	if len(r.Builds) != 2 || r.Builds[0].ID != "b-v1" || !near(r.Builds[0].Share, 49.5/71.5) || r.Builds[1].ID != "b-v2" || !near(r.Builds[1].Share, 22.0/71.5) || r.Builds[0].FirstSeen != ms(10*time.Minute) {
		t.Errorf("builds %+v", r.Builds)
	}
	if len(r.Newest) != 1 || r.Newest[0].ID != "b-v2" || !near(r.Newest[0].Share, 22.0/71.5) || r.Source != "profiles" || !near(r.Exists, 67/71.5) || len(r.Missing) != 1 || r.Missing[0].Function != "runtime.mallocgc" {
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
	if len(r.Newest) != 1 || r.Newest[0].ID != "b-v3" || r.Newest[0].Version != "v3" || r.Source != "binary" || !near(r.Exists, 4.5/71.5) || len(r.Missing) != 2 || r.Missing[0].Function != "example.com/cart/db.Get" {
		t.Errorf("newest %+v by %s: %f exists, missing %+v", r.Newest, r.Source, r.Exists, r.Missing)
	}
	// One whose binary is elsewhere, and of which a sidecar said what functions it has, is as good.
	if err := errors.Join(f.cat.PutBuilds(t.Context(), []catalog.Build{{ID: "b4b4b4b4", FirstSeen: ms(30 * time.Second)}}),
		f.cat.PutProcesses(t.Context(), []catalog.Process{{Instance: "i10", Service: "cart", Version: "v4", BuildID: "b4b4b4b4", Gatherer: "agent", FirstSeen: ms(30 * time.Second), LastSeen: ms(0)}})); err != nil {
		t.Fatal(err)
	}
	g.mux = http.NewServeMux()
	f.h.RegisterPGO(g.mux, f.cat, listOf(t, "b4b4b4b4", program))
	g.decode(t, &r, "pgo", "query", "cart", "type", "cpu", "from", "now-1h")
	if len(r.Newest) != 1 || r.Newest[0].ID != "b4b4b4b4" || r.Source != "binary" || !near(r.Exists, 4.5/71.5) || len(r.Missing) != 2 {
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

// TestPGOWeighsByCoverage merges a process with an agent, which profiles all the time, and one that is scraped for ten seconds of each minute: both burn half a core, and weigh the same.
func TestPGOWeighsByCoverage(t *testing.T) {
	f := newFixture(t, nil)
	push := func(instance, gatherer string, i int, every, length int64) {
		p := cpu(t, stack{"main.main;main." + gatherer, length / 20}) // of 10 ms each
		start := ms(time.Hour) + int64(i)*every
		ls := labels.FromStrings("service_name", "cart", "service_instance_id", instance)
		err := f.st.Append(t.Context(), store.Push{Profiles: []store.Profile{{Labels: ls, Type: "cpu", Start: start, End: start + length, Data: p}},
			Process: &catalog.Process{Instance: instance, Service: "cart", Labels: ls, Gatherer: gatherer, State: "running", FirstSeen: ms(time.Hour), LastSeen: start + length}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		push("a", "agent", i, 15_000, 15_000)
	}
	for i := range 10 {
		push("b", "scrape", i, 60_000, 10_000)
	}
	w := f.get(t, "profile", "query", "cart", "type", "cpu", "format", "pgo", "from", "now-1h", "to", "now-50m")
	p, err := profile.Parse(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	for _, s := range p.Sample {
		if name := s.Location[0].Line[0].Function.Name; !near(float64(s.Value[0]), 300e9) {
			t.Errorf("%s weighs %d, want half of ten minutes", name, s.Value[0])
		}
	}
	if len(p.Sample) != 2 {
		t.Errorf("%d samples, want one of each process", len(p.Sample))
	}
	f.h.RegisterPGO(f.mux, f.cat, nil)
	var r PGOReport
	f.decode(t, &r, "pgo", "query", "cart", "type", "cpu", "from", "now-1h", "to", "now-50m")
	if r.Total != 600e9 || r.Samples != 35_000 || len(r.Builds) != 1 || !near(r.Builds[0].Share, 1) {
		t.Errorf("the report says %+v", r)
	}
}
