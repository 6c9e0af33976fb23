package rules

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// now is the clock of the profiles in these tests.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// settings reads Settings as the configuration file has them.
func settings(t testing.TB, text string) Settings {
	t.Helper()
	var s Settings
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// database is a time series database and its engine.
type database struct {
	*tsdb.DB
	engine *promql.Engine
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	db, err := tsdb.Open(t.TempDir(), nil, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &database{DB: db, engine: promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})}
}

// AppendSeries keeps samples of no process.
func (d *database) AppendSeries(ctx context.Context, batches ...series.Batch) error {
	app := d.Appender(ctx)
	for _, b := range batches {
		for _, s := range b.Samples {
			if _, err := app.Append(0, s.Labels, s.T, s.V); err != nil {
				return err
			}
		}
	}
	return app.Commit()
}

// set gives a series a value now.
func (d *database) set(t testing.TB, v float64, kv ...string) {
	t.Helper()
	b := series.Batch{Samples: []series.Sample{{Labels: labels.FromStrings(kv...), T: time.Now().UnixMilli(), V: v}}}
	if err := d.AppendSeries(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func (d *database) query(t testing.TB, text string) promql.Vector {
	t.Helper()
	q, err := d.engine.NewInstantQuery(t.Context(), d, nil, text, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// recorder keeps what it is given in memory.
type recorder struct {
	mu      sync.Mutex
	samples []series.Sample
	fail    error
}

func (r *recorder) AppendSeries(_ context.Context, batches ...series.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	for _, b := range batches {
		r.samples = append(r.samples, b.Samples...)
	}
	return nil
}

// stack is one sample: functions from the root, and its value.
type stack struct {
	path  string
	value int64
}

// profilesOf opens an empty store of profiles.
func profilesOf(t testing.TB) *store.Store {
	t.Helper()
	dir := t.TempDir()
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Config{Blobs: blobs, Catalog: cat, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// push stores a profile of 15 s that an agent took and that began so long before now; column and unit are of its values.
func push(t testing.TB, st *store.Store, typ, column, unit, service, instance string, before time.Duration, stacks ...stack) {
	t.Helper()
	start := now.Add(-before).UnixMilli()
	pushOf(t, st, typ, column, unit, catalog.Process{Instance: instance, Service: service, Gatherer: "agent", State: "running", FirstSeen: start, LastSeen: start + 15000}, start, start+15000, stacks...)
}

// pushOf stores a profile of a process.
func pushOf(t testing.TB, st *store.Store, typ, column, unit string, process catalog.Process, start, end int64, stacks ...stack) {
	t.Helper()
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: column, Unit: unit}}}
	byName := map[string]*profile.Location{}
	for _, s := range stacks {
		sample := &profile.Sample{Value: []int64{s.value}}
		for name := range strings.SplitSeq(s.path, ";") {
			if byName[name] == nil {
				fn := &profile.Function{ID: uint64(len(p.Function) + 1), Name: name, SystemName: name, Filename: "/src/x.go", StartLine: 1}
				p.Function = append(p.Function, fn)
				byName[name] = &profile.Location{ID: fn.ID, Address: 0x1000 + fn.ID, Line: []profile.Line{{Function: fn, Line: 1}}}
				p.Location = append(p.Location, byName[name])
			}
			sample.Location = append([]*profile.Location{byName[name]}, sample.Location...)
		}
		p.Sample = append(p.Sample, sample)
	}
	var buf bytes.Buffer
	if err := p.Write(&buf); err != nil {
		t.Fatal(err)
	}
	data, err := profiles.Parse(buf.Bytes(), profiles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	process.Labels = labels.FromStrings("service_instance_id", process.Instance, "service_name", process.Service)
	err = st.Append(t.Context(), store.Push{
		Process:  &process,
		Profiles: []store.Profile{{Labels: process.Labels, Type: typ, Start: start, End: end, Data: data}},
	})
	if err != nil {
		t.Fatal(err)
	}
}
