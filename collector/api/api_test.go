package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// now is the clock of these tests: whole minutes, so that windows are easy to see.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ms(before time.Duration) int64 { return now.Add(-before).UnixMilli() }

type fixture struct {
	st  *store.Store
	cat catalog.Catalog
	h   *Handler
	mux *http.ServeMux
}

func newFixture(t testing.TB, change func(*Config)) *fixture {
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
		st.Close()
		cat.Close()
	})
	cfg := Config{Store: st, Catalog: cat, Version: "v9", Started: now.Add(-time.Hour), MaxAge: 7 * 24 * time.Hour, MaxBytes: 1000, Now: func() time.Time { return now }}
	if change != nil {
		change(&cfg)
	}
	f := &fixture{st: st, cat: cat, h: New(cfg), mux: http.NewServeMux()}
	f.h.Register(f.mux)
	return f
}

// stack is one sample: functions from the root, and a value in units of 10 ms.
type stack struct {
	path  string
	value int64
}

func cpu(t testing.TB, stacks ...stack) *profiles.Profile {
	t.Helper()
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 10_000_000,
	}
	byName := map[string]*profile.Location{}
	for _, s := range stacks {
		sample := &profile.Sample{Value: []int64{s.value, s.value * 10_000_000}}
		for name := range strings.SplitSeq(s.path, ";") {
			if byName[name] == nil {
				fn := &profile.Function{ID: uint64(len(p.Function) + 1), Name: name, SystemName: name, Filename: "/src/x.go", StartLine: 1}
				p.Function = append(p.Function, fn)
				loc := &profile.Location{ID: fn.ID, Address: 0x1000 + fn.ID, Line: []profile.Line{{Function: fn, Line: 1}}}
				p.Location = append(p.Location, loc)
				byName[name] = loc
			}
			sample.Location = append([]*profile.Location{byName[name]}, sample.Location...)
		}
		p.Sample = append(p.Sample, sample)
	}
	var buf bytes.Buffer
	if err := p.Write(&buf); err != nil {
		t.Fatal(err)
	}
	out, err := profiles.Parse(buf.Bytes(), profiles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *fixture) push(t testing.TB, service, version, instance string, before time.Duration, stacks ...stack) {
	t.Helper()
	f.pushType(t, "cpu", service, version, instance, before, stacks...)
}

func (f *fixture) pushType(t testing.TB, typ, service, version, instance string, before time.Duration, stacks ...stack) {
	t.Helper()
	ls := labels.FromStrings("host_name", "n1", "service_instance_id", instance, "service_name", service, "service_version", version)
	start := ms(before)
	err := f.st.Append(t.Context(), store.Push{
		Process: &catalog.Process{Instance: instance, Service: service, Labels: ls, Version: version, BuildID: "b-" + version, Gatherer: "agent", State: "running",
			FirstSeen: start, LastSeen: start + 15000},
		Build:    &catalog.Build{ID: "b-" + version, Module: "example.com/" + service, FirstSeen: start},
		Profiles: []store.Profile{{Labels: ls, Type: typ, Start: start, End: start + 15000, Data: cpu(t, stacks...)}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// filled holds 10 min of cart, which changes from v1 to v2 five minutes ago, and one profile of web.
func filled(t testing.TB, change func(*Config)) *fixture {
	f := newFixture(t, change)
	f.push(t, "cart", "v1", "i1", 10*time.Minute, stack{"main.main;example.com/cart/db.Get", 5}, stack{"main.main;runtime.mallocgc", 1})
	f.push(t, "cart", "v1", "i1", 8*time.Minute, stack{"main.main;example.com/cart/db.Get", 5})
	f.push(t, "cart", "v2", "i2", 4*time.Minute, stack{"main.main;example.com/cart/db.Get", 20}, stack{"main.main;golang.org/x/y.Z", 2})
	f.push(t, "web", "v1", "i3", 4*time.Minute, stack{"main.main;net/http.Serve", 7})
	return f
}

func (f *fixture) get(t testing.TB, path string, kv ...string) *httptest.ResponseRecorder {
	t.Helper()
	v := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		v.Add(kv[i], kv[i+1])
	}
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/"+path+"?"+v.Encode(), nil))
	return w
}

func (f *fixture) decode(t testing.TB, into any, path string, kv ...string) {
	t.Helper()
	w := f.get(t, path, kv...)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestListings(t *testing.T) {
	f := filled(t, nil)
	for _, tt := range []struct {
		path string
		kv   []string
		want string
	}{
		{"services", nil, `{"services":[` +
			`{"name":"cart","types":["cpu"],"first":1795261800000,"last":1795262175000,"profiles":3,"processes":2,"versions":["v1","v2"]},` +
			`{"name":"web","types":["cpu"],"first":1795262160000,"last":1795262175000,"profiles":1,"processes":1,"versions":["v1"]}]}`},
		{"services", []string{"from", "now-1m"}, `{"services":[]}`},
		{"labels", nil, `{"labels":["host_name","service_instance_id","service_name","service_version"]}`},
		{"labels", []string{"query", "nothing"}, `{"labels":[]}`},
		{"labels/service_version/values", nil, `{"values":["v1","v2"]}`},
		{"labels/service_version/values", []string{"query", `{service_name="web"}`}, `{"values":["v1"]}`},
		{"labels/nothing/values", nil, `{"values":[]}`},
		{"types", nil, `{"types":[{"id":"cpu:cpu","profile":"cpu","sample":"cpu","unit":"nanoseconds","kind":"interval","default":true},` +
			`{"id":"cpu:samples","profile":"cpu","sample":"samples","unit":"count","kind":"interval","default":false}]}`},
		{"types", []string{"from", "now-1m"}, `{"types":[]}`},
	} {
		t.Run(tt.path+strings.Join(tt.kv, "="), func(t *testing.T) {
			w := f.get(t, tt.path, tt.kv...)
			if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != tt.want {
				t.Errorf("%d %s\nwant %s", w.Code, got, tt.want)
			}
		})
	}
}

// TestSeriesTooLarge: points are counted before the top series are chosen, because that is when they take memory.
func TestSeriesTooLarge(t *testing.T) {
	f := newFixture(t, nil)
	p := store.Push{}
	data := cpu(t, stack{"main.main", 1})
	for i := range 400 {
		ls := labels.FromStrings("service_instance_id", strconv.Itoa(i), "service_name", "cart")
		p.Profiles = append(p.Profiles, store.Profile{Labels: ls, Type: "cpu", Start: ms(10 * time.Second), End: ms(0), Data: data})
	}
	if err := f.st.Append(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for by, want := range map[string]int{"service_instance_id": 422, "service_name": 200} {
		w := f.get(t, "series", "type", "cpu", "by", by, "from", "now-11s", "step", "1ms", "top", "1")
		if w.Code != want || want == 422 && !strings.Contains(w.Body.String(), "max_series_points") {
			t.Errorf("by %s: %d %.200s, want %d", by, w.Code, w.Body, want)
		}
	}
}

func TestSeries(t *testing.T) {
	f := filled(t, nil)
	type point struct {
		labels string
		total  float64
		values []float64
	}
	type answer struct {
		Type     profiles.TypeDesc
		From, To int64
		Step     int64
		Series   []struct {
			Labels map[string]string
			Total  float64
			Values []float64
		}
	}
	for _, tt := range []struct {
		name string
		kv   []string
		step int64
		want []point
	}{
		{"one series", []string{"query", "cart", "from", "now-10m", "step", "5m"}, 300_000, []point{{"{}", 33e7, []float64{11e7, 22e7}}}},
		{"by version", []string{"query", "cart", "from", "now-10m", "step", "300", "by", "service_version"}, 300_000,
			[]point{{`{"service_version":"v2"}`, 22e7, []float64{0, 22e7}}, {`{"service_version":"v1"}`, 11e7, []float64{11e7, 0}}}},
		{"the rest", []string{"from", "now-10m", "step", "10m", "by", "service_name,service_version", "top", "1"}, 600_000,
			[]point{{`{"service_name":"cart","service_version":"v2"}`, 22e7, []float64{22e7}}, {`{"__rest__":"true"}`, 18e7, []float64{18e7}}}},
		{"default step", []string{"from", "now-1h"}, 30_000, nil},
		{"smallest default step", []string{"from", "now-1m"}, 5_000, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var a answer
			f.decode(t, &a, "series", append([]string{"type", "cpu"}, tt.kv...)...)
			if a.Step != tt.step || a.Type.ID != "cpu:cpu" || a.To != now.UnixMilli() {
				t.Errorf("%+v", a)
			}
			if tt.want == nil {
				return
			}
			var got []point
			for _, s := range a.Series {
				b, err := json.Marshal(s.Labels)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, point{string(b), s.Total, s.Values})
			}
			if !slices.EqualFunc(got, tt.want, func(a, b point) bool {
				return a.labels == b.labels && a.total == b.total && slices.Equal(a.values, b.values)
			}) {
				t.Errorf("%+v\nwant %+v", got, tt.want)
			}
			if a.Type.Unit != "nanoseconds" {
				t.Errorf("unit %q", a.Type.Unit)
			}
		})
	}
}

func TestFlamegraph(t *testing.T) {
	f := filled(t, nil)
	var fl profiles.Flame
	f.decode(t, &fl, "flamegraph", "query", "cart", "type", "cpu")
	if fl.Total != 33e7 || fl.Nodes != 5 || fl.Dropped != 0 || fl.Stats.Profiles != 3 || fl.Type.ID != "cpu:cpu" || fl.BaseTotal != nil {
		t.Errorf("%+v", fl)
	}
	kinds := map[string]string{}
	for i, n := range fl.Names {
		kinds[n] = fl.Kinds[i]
	}
	for name, want := range map[string]string{"total": "", "main.main": "own", "example.com/cart/db.Get": "own", "golang.org/x/y.Z": "dep", "runtime.mallocgc": "runtime"} {
		if kinds[name] != want {
			t.Errorf("%s is %q, want %q", name, kinds[name], want)
		}
	}
	f.decode(t, &fl, "flamegraph", "type", "cpu", "max_nodes", "4")
	if fl.Nodes > 4 || fl.Dropped == 0 || fl.Total != 40e7 {
		t.Errorf("capped: %+v", fl)
	}
	fl = profiles.Flame{}
	f.decode(t, &fl, "flamegraph", "type", "heap")
	if fl.Total != 0 || fl.Nodes != 1 {
		t.Errorf("nothing selected: %+v", fl)
	}
}

func TestTop(t *testing.T) {
	f := filled(t, nil)
	var top profiles.Top
	f.decode(t, &top, "top", "query", "cart", "type", "cpu", "limit", "2")
	if top.Total != 33e7 || len(top.Rows) != 2 {
		t.Fatalf("%+v", top)
	}
	if r := top.Rows[0]; r.Function != "example.com/cart/db.Get" || r.Self != 30e7 || r.Total != 30e7 || r.Kind != "own" || r.File != "/src/x.go" {
		t.Errorf("%+v", r)
	}
}

func TestDiff(t *testing.T) {
	f := filled(t, nil)
	base := []string{"query", "cart", "type", "cpu", "from", "now-5m", "to", "now", "base_from", "now-10m", "base_to", "now-5m"}
	var fl profiles.Flame
	f.decode(t, &fl, "diff", base...)
	if fl.Total != 22e7 || fl.BaseTotal == nil || *fl.BaseTotal != 11e7 || len(fl.BaseValue) != fl.Nodes || fl.BaseFrom != ms(10*time.Minute) {
		t.Errorf("%+v", fl)
	}
	var top profiles.Top
	f.decode(t, &top, "diff", append(base, "view", "top")...)
	if r := top.Rows[0]; r.Function != "example.com/cart/db.Get" || r.Self != 20e7 || r.BaseSelf == nil || *r.BaseSelf != 10e7 {
		t.Errorf("%+v", r)
	}
	// Two selectors over one range.
	f.decode(t, &top, "diff", "query", `{service_version="v2"}`, "base_query", `{service_name="web"}`, "type", "cpu", "base_from", "now-1h", "base_to", "now", "view", "top")
	if top.Total != 22e7 || *top.BaseTotal != 7e7 {
		t.Errorf("%+v", top)
	}
}

func TestProfileFormats(t *testing.T) {
	f := filled(t, nil)
	w := f.get(t, "profile", "query", "cart", "type", "cpu")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/octet-stream" || !strings.Contains(w.Header().Get("Content-Disposition"), `"cpu-cpu.pb.gz"`) {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	p, err := profile.Parse(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, s := range p.Sample {
		total += s.Value[len(s.Value)-1]
	}
	if total != 33e7 {
		t.Errorf("total %d", total)
	}
	if got := f.get(t, "profile", "query", "cart", "type", "cpu", "format", "folded").Body.String(); !strings.Contains(got, "main.main;example.com/cart/db.Get 300000000\n") {
		t.Errorf("folded:\n%s", got)
	}
	w = f.get(t, "profile", "query", "cart", "type", "cpu", "format", "pgo")
	if p, err = profile.Parse(w.Body); w.Code != 200 || err != nil || len(p.Sample) == 0 {
		t.Errorf("pgo: %d %v", w.Code, err)
	}
	var top profiles.Top
	f.decode(t, &top, "profile", "query", "cart", "type", "cpu", "format", "json")
	if top.Total != 33e7 || len(top.Rows) != 4 {
		t.Errorf("json: %+v", top)
	}
}

// go tool pprof reads the API as it reads /debug/pprof.
func TestGoToolPprof(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: no go command: %v", err)
	}
	f := filled(t, nil)
	srv := httptest.NewServer(f.mux)
	defer srv.Close()
	cmd := exec.Command(goTool, "tool", "pprof", "-top", "-symbolize=none", srv.URL+"/api/v1/profile?type=cpu&query=cart&from="+now.Add(-time.Hour).Format(time.RFC3339))
	cmd.Env = append(cmd.Environ(), "PPROF_TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "example.com/cart/db.Get") || !strings.Contains(string(out), "300ms") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBadParameters(t *testing.T) {
	f := filled(t, nil)
	for _, tt := range []struct {
		path string
		kv   []string
		code int
		want string
	}{
		{"flamegraph", nil, 400, "type is missing"},
		{"flamegraph", []string{"type", "a b"}, 400, "parameter type"},
		{"flamegraph", []string{"type", "cpu", "from", "yesterday"}, 400, "parameter from"},
		{"flamegraph", []string{"type", "cpu", "from", "now", "to", "now-1h"}, 400, "is not after"},
		{"flamegraph", []string{"type", "cpu", "query", "{a"}, 400, "parameter query"},
		{"flamegraph", []string{"type", "cpu", "query", `{a=~"("}`}, 400, "parameter query"},
		{"flamegraph", []string{"type", "cpu", "max_nodes", "1000000"}, 400, "from 2 to 65536"},
		{"flamegraph", []string{"type", "cpu", "max_node", "10"}, 400, `unknown parameter "max_node": want query`},
		{"flamegraph", []string{"type", "cpu", "type", "heap"}, 400, "given 2 times"},
		{"top", []string{"type", "cpu", "limit", "0"}, 400, "limit"},
		{"series", []string{"type", "cpu", "step", "often"}, 400, "parameter step"},
		{"series", []string{"type", "cpu", "step", "1ms"}, 422, "too many steps"},
		{"series", []string{"type", "cpu", "by", "a,b,c,d,e,f,g,h,i"}, 422, "too many labels"},
		{"top", []string{"type", "cpu", "frames", "file"}, 400, "none of function, line, address"},
		{"diff", []string{"type", "cpu"}, 400, "base_from is missing"},
		{"diff", []string{"type", "cpu", "base_from", "now-2h", "base_to", "now", "view", "3d"}, 400, "none of flame, top"},
		{"profile", []string{"type", "cpu", "format", "svg"}, 400, "none of pprof, folded, speedscope, pgo, json"},
		{"profile", []string{"type", "heap", "format", "pgo"}, 400, "pgo is made of type cpu"},
		{"status", []string{"x", "1"}, 400, "there are none"},
		{"processes", []string{"since", "x"}, 400, "parameter since"},
		{"nothing", nil, 404, "no such endpoint"},
	} {
		t.Run(tt.path+"?"+strings.Join(tt.kv, "="), func(t *testing.T) {
			w := f.get(t, tt.path, tt.kv...)
			var e struct{ Error string }
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if w.Code != tt.code || !strings.Contains(e.Error, tt.want) {
				t.Errorf("%d %q, want %d with %q", w.Code, e.Error, tt.code, tt.want)
			}
		})
	}
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, httptest.NewRequest("DELETE", "/api/v1/services", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", w.Code)
	}
}

// stuck is a store whose merges last until their query is given up.
type stuck struct{ Store }

func (stuck) Merge(ctx context.Context, _ store.Query) (*profiles.Stacks, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestQueryTimeout(t *testing.T) {
	f := filled(t, func(c *Config) {
		c.Store, c.Timeout = stuck{c.Store}, 50*time.Millisecond
	})
	w := f.get(t, "top", "type", "cpu")
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"limit":"query_timeout"`) || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for range cap(f.h.slots) {
		f.h.slots <- struct{}{}
	}
	w = f.get(t, "status")
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"limit":"max_concurrent_queries"`) {
		t.Errorf("no slot: %d %s", w.Code, w.Body)
	}
}

func TestClientGone(t *testing.T) {
	f := filled(t, func(c *Config) { c.Store = stuck{c.Store} })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/top?type=cpu", nil).WithContext(ctx))
	if w.Code != statusClientGone && w.Code != 503 {
		t.Errorf("%d", w.Code)
	}
}

// failing is a store that cannot be read.
type failing struct{ Store }

func (failing) Usage(context.Context) (store.Usage, error) {
	return store.Usage{}, errors.New("read /secret/path: input/output error")
}

func TestInternalErrorsHideTheirCause(t *testing.T) {
	f := filled(t, func(c *Config) { c.Store = failing{c.Store} })
	if w := f.get(t, "status"); w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestStatusAndEvents(t *testing.T) {
	f := filled(t, nil)
	var s statusJSON
	f.decode(t, &s, "status")
	if s.Version != "v9" || s.Started != ms(time.Hour) || s.Storage.Segments+s.Storage.Blocks == 0 || s.Storage.Profiles != 4 || s.Storage.Bytes == 0 ||
		s.Storage.MaxBytes != 1000 || s.Storage.MaxAgeMs != 7*86400_000 {
		t.Errorf("%+v", s)
	}
	if err := f.cat.AddEvents(t.Context(), []catalog.Event{{Time: ms(time.Minute), Kind: "start", Service: "web", Text: "started"}}); err != nil {
		t.Fatal(err)
	}
	var es struct{ Events []catalog.Event }
	f.decode(t, &es, "events", "service", "web", "kind", "start")
	if len(es.Events) != 1 || es.Events[0].Text != "started" {
		t.Errorf("%+v", es)
	}
	body, err := io.ReadAll(f.get(t, "events", "from", "now-2d", "to", "now-1d").Body)
	if err != nil || strings.TrimSpace(string(body)) != `{"events":[]}` {
		t.Errorf("%s %v", body, err)
	}
}
