package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = time.UnixMilli(ms)
}

// epoch is where the tests' time starts: on a full hour, in the middle of a block's window.
const epoch = int64(1_795_237_200_000)

// env is a store on a directory that can be closed and opened again.
type env struct {
	t     testing.TB
	dir   string
	clock *clock
	cfg   Config
	cat   *catalog.DB
	store *Store
	grain int64 // ms: ranges that verify asks for start and end on multiples of it; 0: anywhere
}

func newEnv(t testing.TB, edit func(*Config)) *env {
	e := &env{t: t, dir: t.TempDir(), clock: &clock{now: time.UnixMilli(epoch)}}
	e.cfg = Config{Now: e.clock.Now, MaxAge: 100 * 365 * 24 * time.Hour, MaxBytes: 1 << 40, GatherPause: -1} // each push that comes alone is a segment
	if edit != nil {
		edit(&e.cfg)
	}
	e.open()
	t.Cleanup(e.close)
	return e
}

func (e *env) open() {
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(e.dir, "blobs"))
	must(e.t, err)
	e.cat, err = catalog.OpenSQLite(e.t.Context(), filepath.Join(e.dir, "catalog.db"))
	must(e.t, err)
	e.cfg.Blobs, e.cfg.Catalog = blobs, e.cat
	e.store, err = Open(e.t.Context(), e.cfg)
	must(e.t, err)
}

func (e *env) close() {
	if e.store != nil {
		must(e.t, e.store.Close())
		must(e.t, e.cat.Close())
		e.store = nil
	}
}

func (e *env) reopen() {
	e.close()
	e.open()
}

// check fails the test if Check finds a problem.
func (e *env) check() {
	e.t.Helper()
	_, problems, err := Check(context.Background(), e.cfg.Blobs, e.cat, time.Hour)
	must(e.t, err)
	for _, p := range problems {
		e.t.Errorf("check: %s: %s", p.Blob, p.What)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sample is a stack, leaf first, with its values.
type sample struct {
	stack  []string
	label  string // value of the pprof label "job", "" for none
	values []int64
}

// profileOf builds a decoded profile.
func profileOf(types []profiles.ValueType, period int64, samples []sample) *profiles.Profile {
	p := &profiles.Profile{SampleTypes: types, Period: period}
	locations := map[string]uint32{}
	for _, s := range samples {
		lo := uint32(len(p.LocationIDs))
		for _, name := range s.stack {
			id, ok := locations[name]
			if !ok {
				id = uint32(len(p.Locations))
				locations[name] = id
				p.Functions = append(p.Functions, profiles.Function{Name: name, SystemName: name, File: name + ".go", StartLine: 10})
				p.Lines = append(p.Lines, profiles.Line{Function: id, Line: 12})
				p.Locations = append(p.Locations, profiles.Location{Address: address(name), Lines: profiles.Span{Lo: id, Hi: id + 1}})
			}
			p.LocationIDs = append(p.LocationIDs, id)
		}
		out := profiles.Sample{Locations: profiles.Span{Lo: lo, Hi: uint32(len(p.LocationIDs))}}
		out.Labels = profiles.Span{Lo: uint32(len(p.Labels)), Hi: uint32(len(p.Labels))}
		if s.label != "" {
			p.Labels = append(p.Labels, profiles.SampleLabel{Key: "job", Str: s.label})
			out.Labels.Hi++
		}
		p.Samples = append(p.Samples, out)
		p.Values = append(p.Values, s.values...)
	}
	return p
}

// address is that of a function in every profile, as it is in those of one binary.
func address(name string) (a uint64) {
	for _, c := range []byte(name) {
		a = a*31 + uint64(c)
	}
	return a
}

var (
	cpuTypes  = []profiles.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}
	heapTypes = []profiles.ValueType{{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"}, {Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}}
)

// stored is what the reference keeps of one profile.
type stored struct {
	labels     labels.Labels
	typ        string
	start, end int64
	covered    int64
	types      []profiles.ValueType
	samples    []sample
}

// reference is a naive store: it keeps all and adds up with float-free arithmetic of its own.
type reference struct{ all []stored }

func (r *reference) add(p Push, samples [][]sample, staleness int64) {
	for i, pr := range p.Profiles {
		r.all = append(r.all, stored{pr.Labels, pr.Type, pr.Start, pr.End, min(pr.End-pr.Start, staleness), pr.Data.SampleTypes, samples[i]})
	}
}

// randomPush makes a push of one instance with a heap and a CPU profile (or with one of the two).
func randomPush(rng *rand.Rand, service, instance string, window uint64, start, end int64) (Push, [][]sample) {
	ls := labels.FromStrings("service_name", service, "service_instance_id", instance, "service_version", fmt.Sprintf("v%d", rng.IntN(2)))
	p := Push{Key: catalog.Key{Instance: instance, Window: window}, Process: &catalog.Process{Instance: instance, Service: service, Labels: ls, State: "running"}}
	var all [][]sample
	add := func(typ string, types []profiles.ValueType, value func() []int64) {
		var samples []sample
		for range rng.IntN(12) {
			s := sample{values: value()}
			for range 1 + rng.IntN(4) {
				s.stack = append(s.stack, fmt.Sprintf("%s.f%d", service, rng.IntN(6)))
			}
			if rng.IntN(4) == 0 {
				s.label = fmt.Sprintf("job%d", rng.IntN(3))
			}
			samples = append(samples, s)
		}
		all = append(all, samples)
		p.Profiles = append(p.Profiles, Profile{Labels: ls, Type: typ, Start: start, End: end, Data: profileOf(types, 10_000_000, samples)})
	}
	if rng.IntN(5) > 0 {
		add("cpu", cpuTypes, func() []int64 { n := int64(rng.IntN(20)); return []int64{n, n * 10_000_000} })
	}
	if rng.IntN(5) > 0 {
		add("heap", heapTypes, func() []int64 {
			return []int64{int64(rng.IntN(3)), int64(rng.IntN(3)) * 512, int64(rng.IntN(100)), rng.Int64N(1 << 40)}
		})
	}
	return p, all
}
