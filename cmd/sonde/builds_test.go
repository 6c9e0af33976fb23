package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/api"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/symbols/build"
)

// builtCollector is the API of a collector that knows two builds of cart, and by its id alone one of pay.
func builtCollector(t *testing.T) (http.HandlerFunc, catalog.Catalog) {
	t.Helper()
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cat.Close() })
	ms := now.UnixMilli()
	info := func(version, text, more string) string {
		return "go\tgo1.26.8\npath\texample.com/cart\nmod\texample.com/cart\t" + version + "\t\ndep\tgolang.org/x/text\t" + text + "\th1:a=\nbuild\tvcs.revision=3f2a1b9c77d0e1aa\n" + more
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(cat.PutBuilds(t.Context(), []catalog.Build{
		{ID: "3f2a1b9c77d0e1aa", GNUBuildID: "3f2a1b9c77d0e1aa", GoVersion: "go1.26.8", Module: "example.com/cart", Version: "v1.0.0", Info: info("v1.0.0", "v0.3.0", ""), FirstSeen: ms - 3_600_000, Size: 5 << 20, Stripped: "yes"},
		{ID: "77d0e1aa3f2a1b9c", GNUBuildID: "77d0e1aa3f2a1b9c", GoVersion: "go1.26.8", Module: "example.com/cart", Version: "v1.1.0", Info: info("v1.1.0", "v0.30.0", "dep\tgithub.com/a/b\tv1.0.0\nbuild\t-race=true\n"), FirstSeen: ms - 60_000},
	}))
	must(cat.PutProcesses(t.Context(), []catalog.Process{
		{Instance: "i1", Service: "cart", BuildID: "3f2a1b9c77d0e1aa", Version: "v1.0.0", Host: "n1", Gatherer: "agent", State: "exited", PID: 7, Started: ms - 3_600_000, FirstSeen: ms - 3_600_000, LastSeen: ms - 120_000, Conditions: map[string]string{"env_GOGC": "50"}},
		{Instance: "i2", Service: "cart", BuildID: "77d0e1aa3f2a1b9c", Version: "v1.1.0", Host: "n2", Gatherer: "agent", State: "running", Started: ms - 60_000, FirstSeen: ms - 60_000, LastSeen: ms},
		{Instance: "i3", Service: "pay", BuildID: "bbbb3333", GoVersion: "go1.25.1", Host: "n1", Gatherer: "perf", State: "running", Started: ms - 30_000, FirstSeen: ms - 30_000, LastSeen: ms},
	}))
	mux := http.NewServeMux()
	api.New(api.Config{Catalog: cat, Now: func() time.Time { return now }}).Register(mux)
	return mux.ServeHTTP, cat
}

func TestBuilds(t *testing.T) {
	h, _ := builtCollector(t)
	for _, tt := range []struct {
		name  string
		args  []string
		code  int
		wants []string
	}{
		{"all", []string{"builds"}, 0, []string{"SERVICE  VERSION  RUNNING  BUILD", "pay      -              1  bbbb3333", "cart     v1.1.0         1  77d0e1aa3f2a  go1.26.8  3f2a1b9c77d0        2  since 2026", "cart     v1.0.0         -  3f2a1b9c77d0"}},
		{"of a module", []string{"builds", "--module", "github.com/a/b"}, 0, []string{"77d0e1aa3f2a"}},
		{"of none", []string{"builds", "--service", "x"}, 0, []string{"knows no such build"}},
		{"since", []string{"builds", "--since", "x"}, 2, []string{"read --since"}},
		{"json", []string{"builds", "-o", "json"}, 0, []string{`"id": "bbbb3333"`, `"known": false`}},
		{"show", []string{"builds", "show", "3f2a"}, 0, []string{"build        3f2a1b9c77d0e1aa\n", "module       example.com/cart v1.0.0", "revision     3f2a1b9c77d0e1aa", "size         5.00MiB", "stripped     yes", "depends on   1 module, 0 replaced", "cart     v1.0.0         -          1"}},
		{"show processes", []string{"builds", "show", "3f2a", "--processes", "--deps"}, 0, []string{"golang.org/x/text  v0.3.0   -            h1:a=", "env_GOGC=50", "exited"}},
		{"show what has only an id", []string{"builds", "show", "bbbb3333"}, 0, []string{"go           go1.25.1", "only its id is known"}},
		{"show nothing", []string{"builds", "show", "cccccc"}, 1, []string{"no build is known whose id begins with cccccc", "hint:"}},
		{"show no file", []string{"builds", "show", "./cart"}, 1, []string{"there is no file ./cart either"}},
		{"diff", []string{"builds", "diff", "3f2a", "77d0"}, 0, []string{"added   github.com/a/b     -       v1.0.0", "up      golang.org/x/text  v0.3.0  v0.30.0", "-race    -     true"}},
		{"diff of the same", []string{"builds", "diff", "3f2a", "3f2a"}, 0, []string{"the same modules with the same settings"}},
		{"diff with an unknown", []string{"builds", "diff", "3f2a", "bbbb3333"}, 1, []string{"only the id is known", "hint: `sonde builds add FILE`"}},
		{"with", []string{"builds", "with", "golang.org/x/text", "<v0.3.8"}, 0, []string{"SERVICE  VERSION  RUNNING  FOUND   BUILD", "cart     v1.0.0         -  v0.3.0  3f2a1b9c77d0", "1 build, run by 0 now"}},
		{"with none", []string{"builds", "with", "golang.org/x/text", "<v0.1"}, 0, []string{"no build that is known has golang.org/x/text <v0.1 in it"}},
		{"with a part of a path", []string{"builds", "with", "text"}, 1, []string{"error: no build that is known has a module with the path text", "hint: did you mean golang.org/x/text, in 2 builds?"}},
		{"with a part of a path, json", []string{"builds", "with", "Golang.org/x", "-o", "json"}, 1, []string{`"builds": []`, `"path": "golang.org/x/text"`}},
		{"with what is nowhere", []string{"builds", "with", "example.com/nowhere"}, 0, []string{"no build that is known has example.com/nowhere in it"}},
		{"show too little", []string{"builds", "show", "146"}, 1, []string{"hint: `sonde builds` lists them"}},
		{"add nothing", []string{"builds", "add", "/no/such/file"}, 1, []string{"hint: a FILE is a Go executable on this machine"}},
		{"with what is no range", []string{"builds", "with", "golang.org/x/text", "~v1"}, 2, []string{"is not a version such as", "hint: '<v1.2.3'"}},
		{"with std", []string{"builds", "with", "std", "<go1.26"}, 0, []string{"pay      -              1  go1.25.1  bbbb3333"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := sonde(t, h, "", tt.args...)
			for _, want := range tt.wants {
				if !strings.Contains(r.stdout+r.stderr, want) {
					t.Errorf("no %q in:\n%s%s", want, r.stdout, r.stderr)
				}
			}
			if r.code != tt.code {
				t.Errorf("exit %d, want %d: %s", r.code, tt.code, r.stderr)
			}
		})
	}
}

func TestBuildsAdd(t *testing.T) {
	h, cat := builtCollector(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("go.mod", "module example.com/tiny\n\ngo 1.23\n")
	write("main.go", "package main\n\nfunc main() {}\n")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", "tiny", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	tiny := filepath.Join(dir, "tiny")
	info, err := build.ReadFile(tiny)
	if err != nil {
		t.Fatal(err)
	}
	if r := sonde(t, h, "", "builds", "add", tiny); r.code != 0 || r.stdout != tiny+": build "+info.Key()+"\n" {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	b, err := cat.Build(t.Context(), info.Key())
	if err != nil || b.Size != info.Size || b.Stripped != "no" || b.Module != "example.com/tiny" || b.GoBuildID != info.GoBuildID {
		t.Errorf("%+v, %v", b, err)
	}
	if r := sonde(t, h, "", "builds", "diff", tiny, info.Key()); r.code != 0 || !strings.Contains(r.stdout, "the same modules") {
		t.Errorf("the file and what is known of it differ: %s%s", r.stdout, r.stderr)
	}
	text := write("programs.txt", "/bin/pay: go1.25.1\n\tpath\texample.com/pay\n\tmod\texample.com/pay\tv2.0.0\n\tdep\tgolang.org/x/text\tv0.2.0\n")
	if r := sonde(t, h, "", "builds", "add", text, "--id", "bbbb3333"); r.code != 0 || r.stdout != "/bin/pay: build bbbb3333\n" {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := sonde(t, h, "", "builds", "with", "golang.org/x/text", "<v0.3"); r.code != 0 || !strings.Contains(r.stdout, "pay      v2.0.0         1  v0.2.0  bbbb3333") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	for _, tt := range []struct{ args, want string }{
		{filepath.Join(dir, "none"), "no such file"},
		{write("x.txt", "hello"), "want a Go program"},
		{tiny + " --id 1234567890", "is not that of the build ids"},
		{tiny + " " + text + " --id 1234567890", "--id names one build"},
	} {
		if r := sonde(t, h, "", append([]string{"builds", "add"}, strings.Fields(tt.args)...)...); r.code == 0 || !strings.Contains(r.stderr, tt.want) {
			t.Errorf("%s: exit %d, no %q in %s", tt.args, r.code, tt.want, r.stderr)
		}
	}
}

func TestEvent(t *testing.T) {
	h, cat := builtCollector(t)
	if r := sonde(t, h, "", "event", "feature x on", "--service", "cart", "--attr", "by=eve", "--time", "now-10m"); r.code != 0 || !strings.Contains(r.stdout, "note  cart  feature x on") {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	es, err := cat.Events(t.Context(), catalog.EventFilter{Kind: "note"})
	if err != nil || len(es) != 1 || es[0].Attrs["by"] != "eve" || es[0].Time != now.Add(-10*time.Minute).UnixMilli() {
		t.Errorf("%+v, %v", es, err)
	}
	r := sonde(t, h, "", "event", "release", "--kind", "release", "-o", "json")
	var e catalog.Event
	if err := json.Unmarshal([]byte(r.stdout), &e); err != nil || e.Kind != "release" || e.Time != now.UnixMilli() {
		t.Errorf("%s%s: %v", r.stdout, r.stderr, err)
	}
	if r := sonde(t, h, "", "event", "list", "--kind", "note"); r.code != 0 || !strings.Contains(r.stdout, "TIME") || !strings.Contains(r.stdout, "note  cart     feature x on") || strings.Contains(r.stdout, "release") {
		t.Errorf("list: %+v", r)
	}
	if r := sonde(t, h, "", "event", "list", "--service", "cart", "-o", "json"); r.code != 0 || !strings.Contains(r.stdout, `"text": "feature x on"`) || !strings.Contains(r.stdout, `"by": "eve"`) {
		t.Errorf("list as JSON: %+v", r)
	}
	if r := sonde(t, h, "", "event", "list", "--service", "nobody"); r.code != 0 || r.stdout != "" || !strings.Contains(r.stderr, "--since") {
		t.Errorf("list of nothing: %+v", r)
	}
	for _, args := range [][]string{{"event"}, {"event", "list", "--since", "x"}, {"event", "list", "more"}, {"event", "x", "--kind", "deploy"}, {"event", "x", "--time", "tomorrow"}, {"event", ""}} {
		if r := sonde(t, h, "", args...); r.code == 0 {
			t.Errorf("%q: exit 0: %s", args, r.stdout)
		}
	}
}
