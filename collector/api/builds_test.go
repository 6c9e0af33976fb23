package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/symbols/build"
)

func (f *fixture) post(t testing.TB, path string, body any) (int, string) {
	t.Helper()
	text, isText := body.(string)
	if !isText {
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(data)
	}
	rec := httptest.NewRecorder()
	f.mux.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, strings.NewReader(text)))
	return rec.Code, rec.Body.String()
}

const (
	info1 = "go\tgo1.25.1\npath\texample.com/cart\nmod\texample.com/cart\tv1.0.0\t\ndep\tgolang.org/x/text\tv0.3.0\th1:a=\ndep\tgithub.com/a/b\tv1.0.0\n=>\tgithub.com/c/b\tv1.5.0\th1:c=\nbuild\tvcs.revision=abc\n"
	info2 = "go\tgo1.26.8\npath\texample.com/cart\nmod\texample.com/cart\tv1.1.0\t\ndep\tgolang.org/x/text\tv0.30.0\th1:b=\ndep\tgithub.com/a/b\tv1.0.0\n=>\t./b\t\t\nbuild\tvcs.revision=def\nbuild\t-race=true\n"
)

// running puts processes that run a build on nodes.
func (f *fixture) running(t testing.TB, service, id, version string, ago time.Duration, nodes ...string) {
	t.Helper()
	for i, node := range nodes {
		at := ms(ago)
		must(t, f.cat.PutProcesses(t.Context(), []catalog.Process{{Instance: service + id + node + string(rune('a'+i)), Service: service, BuildID: id, Version: version, GoVersion: "go1.26.8", Host: node, Gatherer: "agent",
			State: "running", FirstSeen: at, LastSeen: at, Conditions: map[string]string{"env_GOGC": "50"}}}))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type buildsAnswer struct {
	Builds []struct {
		buildJSON
		Found foundJSON `json:"found"`
	} `json:"builds"`
	More bool `json:"more"`
}

func (a buildsAnswer) ids() (out []string) {
	for _, b := range a.Builds {
		out = append(out, b.ID)
	}
	return out
}

func builtFixture(t testing.TB) *fixture {
	f := newFixture(t, nil)
	must(t, f.cat.PutBuilds(t.Context(), []catalog.Build{{ID: "aaaa1111", Info: info1, GoVersion: "go1.25.1", Module: "example.com/cart", Version: "v1.0.0", FirstSeen: ms(time.Hour)},
		{ID: "aaaa2222", Info: info2, GoVersion: "go1.26.8", Module: "example.com/cart", Version: "v1.1.0", FirstSeen: ms(time.Minute), Size: 10, Stripped: "yes"}}))
	f.running(t, "cart", "aaaa1111", "v1.0.0", 0, "n1", "n2")
	f.running(t, "cart", "aaaa2222", "v1.1.0", 2*time.Hour, "n3")
	f.running(t, "pay", "bbbb3333", "", 0, "n1")
	return f
}

func TestBuilds(t *testing.T) {
	f := builtFixture(t)
	for _, tt := range []struct {
		params []string
		want   []string
	}{
		{nil, []string{"bbbb3333", "aaaa1111", "aaaa2222"}},
		{[]string{"service", "cart"}, []string{"aaaa1111", "aaaa2222"}},
		{[]string{"service", "cart", "version", "v1.1.0"}, []string{"aaaa2222"}},
		{[]string{"module", "golang.org/x/text"}, []string{"aaaa1111", "aaaa2222"}},
		{[]string{"module", "example.com/other"}, nil},
		{[]string{"since", "now-10m"}, []string{"bbbb3333", "aaaa1111", "aaaa2222"}},
		{[]string{"service", "nobody"}, nil},
	} {
		var got buildsAnswer
		f.decode(t, &got, "builds", tt.params...)
		if !slices.Equal(got.ids(), tt.want) {
			t.Errorf("%q: %q, want %q", tt.params, got.ids(), tt.want)
		}
	}
	var got buildsAnswer
	f.decode(t, &got, "builds", "service", "cart")
	b := got.Builds[0]
	if u := b.Services[0]; b.Revision != "abc" || b.Modules != 2 || !b.Known || u.Running != 2 || u.Processes != 2 || !slices.Equal(u.Nodes, []string{"n1", "n2"}) || b.LastSeen != ms(0) {
		t.Errorf("build %+v", b)
	}
}

func TestBuild(t *testing.T) {
	f := builtFixture(t)
	var got struct {
		Build     build.Inventory `json:"build"`
		Known     bool            `json:"known"`
		Services  []buildUserJSON `json:"services"`
		Processes []ranBy         `json:"processes"`
	}
	f.decode(t, &got, "builds/aaaa2")
	if got.Build.ID != "aaaa2222" || got.Build.Settings["-race"] != "true" || len(got.Build.Deps) != 2 || got.Build.Stripped != "yes" || !got.Known || len(got.Processes) != 1 || got.Processes[0].Conditions["env_GOGC"] != "50" ||
		got.Processes[0].Node != "n3" || len(got.Services) != 1 {
		t.Errorf("%+v", got)
	}
	f.decode(t, &got, "builds/bbbb3333")
	if got.Known || got.Build.GoVersion != "go1.26.8" || len(got.Processes) != 1 {
		t.Errorf("a build of which only the id is known: %+v", got)
	}
	for path, want := range map[string]int{"builds/aaaa": 422, "builds/cccc": 404, "builds/a": 400, "builds?limit=0": 400, "builds?x=1": 400} {
		if rec := f.get(t, path); rec.Code != want {
			t.Errorf("%s: %d, want %d: %s", path, rec.Code, want, rec.Body)
		}
	}
}

func TestBuildDiff(t *testing.T) {
	f := builtFixture(t)
	var got build.Difference
	f.decode(t, &got, "builds/diff", "a", "aaaa1", "b", "aaaa2")
	want := []build.ModuleChange{{Path: "example.com/cart", Change: "up", From: "v1.0.0", To: "v1.1.0"}, {Path: "github.com/a/b", Change: "changed", From: "github.com/c/b v1.5.0", To: "./b"},
		{Path: "golang.org/x/text", Change: "up", From: "v0.3.0", To: "v0.30.0"}}
	if !slices.Equal(got.Modules, want) || len(got.Settings) != 3 {
		t.Errorf("%+v", got)
	}
	for _, ids := range [][]string{{"a", "aaaa1"}, {"a", "aaaa1", "b", "bbbb3333"}} {
		if rec := f.get(t, "builds/diff", ids...); rec.Code != 400 && rec.Code != 422 {
			t.Errorf("%q: %d", ids, rec.Code)
		}
	}
}

func TestBuildsWith(t *testing.T) {
	f := builtFixture(t)
	for _, tt := range []struct {
		module, version string
		want            []string
		unknown         bool
	}{
		{"golang.org/x/text", "<v0.3.8", []string{"aaaa1111"}, false},
		{"golang.org/x/text", "<v1", []string{"aaaa1111", "aaaa2222"}, false},
		{"golang.org/x/text", ">v0.3.0,<v0.30.0", nil, false},
		{"golang.org/x/text", "", []string{"aaaa1111", "aaaa2222"}, false},
		{"github.com/c/b", ">=v1.5", []string{"aaaa1111"}, false},
		{"github.com/a/b", "<v9", []string{"aaaa1111", "aaaa2222"}, true},
		{"example.com/cart", "=v1.1.0", []string{"aaaa2222"}, false},
		{"std", "<go1.26", []string{"aaaa1111"}, false},
		{"std", ">=1.26", []string{"bbbb3333", "aaaa2222"}, false},
	} {
		var got buildsAnswer
		f.decode(t, &got, "builds/with", "module", tt.module, "version", tt.version)
		if !slices.Equal(got.ids(), tt.want) {
			t.Errorf("%s %s: %q, want %q", tt.module, tt.version, got.ids(), tt.want)
		}
		for _, b := range got.Builds {
			if b.Found.Unknown != tt.unknown {
				t.Errorf("%s %s: found %+v", tt.module, tt.version, b.Found)
			}
		}
	}
	if rec := f.get(t, "builds/with", "module", "m", "version", "~v1"); rec.Code != 400 {
		t.Errorf("a wrong constraint: %d", rec.Code)
	}
}

// TestBuildsWithOfCorpus adds what real programs say, and asks who has a module in a range.
func TestBuildsWithOfCorpus(t *testing.T) {
	files, err := filepath.Glob("../../../shared/corpus/*/other/go-version-m.txt")
	if err != nil || len(files) == 0 {
		t.Skip("SKIPPED: the corpus is not beside the project, so builds of its programs are NOT asked for")
	}
	f := newFixture(t, nil)
	names := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(t, err)
		listed, err := build.SplitVersionM(data)
		must(t, err)
		status, body := f.post(t, "/api/v1/builds", map[string]string{"info": listed[0].Text})
		var answer struct{ Build build.Inventory }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
			t.Fatalf("%s: %d %s", file, status, body)
		}
		names[answer.Build.ID] = filepath.Base(filepath.Dir(filepath.Dir(file)))
	}
	var got buildsAnswer
	f.decode(t, &got, "builds/with", "module", "github.com/prometheus/client_golang", "version", "<v1.21.0")
	var who []string
	for _, b := range got.Builds {
		who = append(who, names[b.ID]+" "+b.Found.Version)
	}
	slices.Sort(who)
	var want []string
	for _, file := range files {
		data, _ := os.ReadFile(file)
		for line := range strings.Lines(string(data)) {
			w := strings.Fields(line)
			c, _ := build.ParseConstraint("<v1.21.0")
			if len(w) > 2 && w[0] == "dep" && w[1] == "github.com/prometheus/client_golang" {
				if holds, _ := c.Holds(w[2]); holds {
					want = append(want, filepath.Base(filepath.Dir(filepath.Dir(file)))+" "+w[2])
				}
			}
		}
	}
	slices.Sort(want)
	if !slices.Equal(who, want) || len(who) == 0 {
		t.Errorf("%q, want %q", who, want)
	}
}

func TestAddBuild(t *testing.T) {
	f := newFixture(t, nil)
	for _, tt := range []struct {
		body any
		code int
		want string
	}{
		{map[string]any{"gnu_build_id": "abcdef0123", "info": info1, "size": 5, "stripped": "no"}, 200, `"id":"abcdef0123"`},
		{map[string]any{"gnu_build_id": "abcdef0123", "id": "1234567890", "info": info1}, 422, "is not that of the build ids"},
		{map[string]any{"gnu_build_id": "xyz", "info": info1}, 422, "8 to 128 hex digits"},
		{map[string]any{"info": "hello"}, 422, "neither a version of Go nor a package"},
		{map[string]any{"info": info1, "stripped": "maybe"}, 422, "want yes, no"},
		{map[string]any{"info": info1, "size": -1}, 422, "size is -1"},
		{`{"info":`, 400, "read body"},
		{`{"nonsense":1}`, 400, "unknown field"},
		{`{}{}`, 400, "more than one"},
		{`{"info":"` + strings.Repeat("x", maxBuildBody) + `"}`, 413, "max_build_bytes"},
	} {
		if code, body := f.post(t, "/api/v1/builds", tt.body); code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%.80v: %d %.200s, want %d %s", tt.body, code, body, tt.code, tt.want)
		}
	}
	b, err := f.cat.Build(t.Context(), "abcdef0123")
	must(t, err)
	if b.Size != 5 || b.Stripped != "no" || b.Module != "example.com/cart" || b.GoVersion != "go1.25.1" || b.FirstSeen != ms(0) {
		t.Errorf("%+v", b)
	}
}

func TestBinaryTold(t *testing.T) {
	f := newFixture(t, nil)
	tell := BinaryTold(f.cat.PutBuilds)
	must(t, tell(t.Context(), &build.Info{GNUBuildID: "abcdef0123", GoVersion: "go1.26.8", Size: 9, Stripped: "no", Mod: &debug.BuildInfo{Path: "example.com/cart/cmd/x"}}))
	must(t, tell(t.Context(), &build.Info{Mod: &debug.BuildInfo{}}))
	b, err := f.cat.Build(t.Context(), "abcdef0123")
	must(t, err)
	if b.Size != 9 || b.Stripped != "no" || b.Module != "example.com/cart" || b.FirstSeen == 0 {
		t.Errorf("%+v", b)
	}
	if all, err := f.cat.Builds(t.Context(), ""); err != nil || len(all) != 1 {
		t.Errorf("%d builds, %v", len(all), err)
	}
}

func TestAddEvent(t *testing.T) {
	f := newFixture(t, nil)
	attrs := map[string]string{}
	for i := range maxEventAttrs + 1 {
		attrs[strings.Repeat("a", i+1)] = ""
	}
	for _, tt := range []struct {
		body any
		code int
		want string
	}{
		{map[string]any{"text": "feature x on", "service": "cart", "attrs": map[string]string{"by": "eve"}}, 200, `"kind":"note"`},
		{map[string]any{"text": "old", "kind": "release", "time": "now-1h"}, 200, `"status":"ok"`},
		{map[string]any{"text": "number", "time": ms(time.Minute)}, 200, `"status":"ok"`},
		{map[string]any{"text": "x", "kind": "deploy"}, 422, "found out by Sonde itself"},
		{map[string]any{"text": "x", "kind": "a b"}, 422, "cannot name a kind"},
		{map[string]any{"service": "cart"}, 422, "text is missing"},
		{map[string]any{"text": strings.Repeat("x", maxEventText+1)}, 422, `"limit":"max_event_text","max":2048,"got":2049`},
		{map[string]any{"text": "x", "attrs": attrs}, 422, "max_event_attrs"},
		{map[string]any{"text": "x", "attrs": map[string]string{"a": strings.Repeat("x", maxAttrValue+1)}}, 422, "max_event_attr"},
		{map[string]any{"text": "x", "time": "tomorrow"}, 422, "time"},
		{map[string]any{"text": "x", "time": ms(-time.Hour)}, 422, "is not in the past"},
		{`[]`, 400, "read body"},
		{`{"text":"` + strings.Repeat("x", maxEventBody) + `"}`, 413, "max_event_bytes"},
	} {
		if code, body := f.post(t, "/api/v1/events", tt.body); code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%.80v: %d %.200s, want %d %s", tt.body, code, body, tt.code, tt.want)
		}
	}
	var got struct{ Events []catalog.Event }
	f.decode(t, &got, "events", "from", "now-2h", "to", "now+1m")
	if len(got.Events) != 3 || got.Events[0].Text != "feature x on" || got.Events[0].Attrs["by"] != "eve" || got.Events[0].Time != ms(0) || got.Events[2].Time != ms(time.Hour) {
		t.Errorf("%+v", got.Events)
	}
}

func FuzzAddEvent(f *testing.F) {
	f.Add([]byte(`{"text":"x","kind":"note","time":"now-1h","attrs":{"a":"b"}}`))
	f.Add([]byte(`{"text":"x","time":1.5e99}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e toldEvent
		if json.Unmarshal(data, &e) != nil {
			return
		}
		got, err := e.event(now)
		if err == nil && (got.Time <= 0 || got.Text == "" || got.Kind == "" || ownKinds[got.Kind]) {
			t.Errorf("%s became %+v", data, got)
		}
	})
}

func FuzzAddBuild(f *testing.F) {
	f.Add([]byte(`{"gnu_build_id":"abcdef0123","info":"go\tgo1.26\npath\tx\n"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b toldBuild
		if json.Unmarshal(data, &b) != nil {
			return
		}
		got, err := b.build(1)
		if err == nil && (got.ID == "" || len(got.ID) > 128) {
			t.Errorf("%s became %+v", data, got)
		}
	})
}
