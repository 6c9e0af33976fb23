package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/binaries"
	"github.com/sonde-io/sonde/symbols/build"
	"github.com/sonde-io/sonde/symbols/vulns"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const database = "../../symbols/vulns/testdata/vulndb"

// fixture is an Auditor over a real store, catalogue and folder of binaries.
type fixture struct {
	st   *store.Store
	cat  catalog.Catalog
	bins *binaries.Store
	mux  *http.ServeMux
}

func newFixture(t *testing.T, settings vulns.Settings, with bool) *fixture {
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
	clock := func() time.Time { return now }
	st, err := store.Open(t.Context(), store.Config{Blobs: blobs, Catalog: cat, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	bins, err := binaries.Open(binaries.Config{Dir: filepath.Join(dir, "binaries")})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Catalog: cat, Profiles: st, Settings: settings, Now: clock}
	if with {
		cfg.Binaries = bins
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.Close(), a.Close(), bins.Close(), st.Close(), cat.Close()); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{st: st, cat: cat, bins: bins, mux: http.NewServeMux()}
	a.Register(f.mux)
	return f
}

// get asks for the report.
func (f *fixture) get(t *testing.T, query string) Report {
	t.Helper()
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/vulns"+query, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /api/v1/vulns%s: %d %s", query, w.Code, w.Body)
	}
	var r Report
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// runs tells of a process of a build, and of its CPU profile if there is one.
func (f *fixture) runs(t *testing.T, service, instance string, info *build.Info, ago time.Duration, cpu []byte) {
	t.Helper()
	at := now.Add(-ago).UnixMilli()
	b := catalog.Build{ID: info.Key(), GoBuildID: info.GoBuildID, GNUBuildID: info.GNUBuildID, GoVersion: info.GoVersion, Module: info.Module(), Info: info.Mod.String(), FirstSeen: at}
	if err := f.cat.PutBuilds(t.Context(), []catalog.Build{b}); err != nil {
		t.Fatal(err)
	}
	if err := f.cat.PutProcesses(t.Context(), []catalog.Process{{Instance: instance, Service: service, BuildID: b.ID, GoVersion: b.GoVersion, Gatherer: "agent", FirstSeen: at, LastSeen: at + 10_000}}); err != nil {
		t.Fatal(err)
	}
	if cpu == nil {
		return
	}
	p, err := profiles.Parse(cpu, profiles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ls := labels.FromStrings("service_name", service, "service_instance_id", instance)
	if err := f.st.Append(t.Context(), store.Push{Profiles: []store.Profile{{Labels: ls, Type: "cpu", Start: at, End: at + 10_000, Data: p}}}); err != nil {
		t.Fatal(err)
	}
}

// The program has an old golang.org/x/text, of which it parses language tags if it is asked to.
const source = `package main

import (
	"os"
	"runtime/pprof"
	"strings"
	"syscall"

	"golang.org/x/text/%s"
)

func used() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano()
}

func main() {
	if err := pprof.StartCPUProfile(os.Stdout); err != nil {
		panic(err)
	}
	n := 0
	for end := used() + 300e6; used() < end; n++ {
		for range 1000 {
			if len(os.Args) > 1 {
				n += call()
			} else {
				n += len(strings.Fields("not that function"))
			}
		}
	}
	pprof.StopCPUProfile()
}

func call() int { %s }
`

// program builds the program with a package of x/text and returns its path and its build.
func program(t *testing.T, pkg, call string) (string, *build.Info) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop")
	testgo.BuildOldText(t, path, fmt.Sprintf(source, pkg, call), "-ldflags=-s -w")
	info, err := build.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, info
}

// profileOf runs the program and returns its CPU profile.
func profileOf(t *testing.T, path string, args ...string) []byte {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return out.Bytes()
}

const vulnerable = "golang.org/x/text/language.Parse"

// TestSeen is the question that nobody else answers: three services have the same old x/text; one runs the vulnerable function, one has it and does not run it, one does not have it in its binary.
func TestSeen(t *testing.T) {
	parses, parsesInfo := program(t, "language", `t, _ := language.Parse("en-US-u-co-phonebk"); return len(t.String())`)
	normPath, normInfo := program(t, "unicode/norm", `return len(norm.NFC.String("e"))`)
	f := newFixture(t, vulns.Settings{Database: database}, true)
	for _, path := range []string{parses, normPath} {
		if err := f.bins.Add(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	runs := profileOf(t, parses, "parse")
	f.runs(t, "runs", "r1", parsesInfo, 3*time.Hour, runs)
	f.runs(t, "runs", "r2", parsesInfo, time.Hour, runs)
	f.runs(t, "has", "h1", parsesInfo, time.Hour, profileOf(t, parses))
	f.runs(t, "lacks", "l1", normInfo, time.Hour, profileOf(t, normPath, "norm"))
	f.runs(t, "gone", "g1", normInfo, 30*24*time.Hour, nil)

	r := f.get(t, "")
	if r.Database == nil || r.Database.Entries != 18 || r.Note != "" || len(r.Unknown) != 0 || !slices.Equal(r.Types, []string{"cpu"}) {
		t.Errorf("database %+v, note %q, unknown %+v, types %v", r.Database, r.Note, r.Unknown, r.Types)
	}
	if len(r.Vulns) != 2 {
		t.Fatalf("%d vulnerabilities, want one for each build: %+v", len(r.Vulns), r.Vulns)
	}
	has, lacks := r.Vulns[0], r.Vulns[1]
	if has.ID != "GO-2021-0113" || has.Module != "golang.org/x/text" || has.Found != "v0.3.5" || has.Fixed != "v0.3.7" || has.Build != parsesInfo.Key() || has.InBinary != "yes" ||
		!slices.Equal(has.Services, []string{"has", "runs"}) || !slices.Contains(has.Present, vulnerable) || !slices.Contains(has.Aliases, "CVE-2021-38561") || has.Summary == "" {
		t.Errorf("of the build that has it: %+v", has)
	}
	if len(has.Seen) != 1 || has.Seen[0].Function != vulnerable || has.Seen[0].Symbol != vulnerable || has.Seen[0].Service != "runs" || has.Seen[0].Instances != 2 {
		t.Fatalf("seen %+v, want Parse in two processes of runs", has.Seen)
	}
	first, last := now.Add(-3*time.Hour).UnixMilli(), now.Add(-time.Hour).UnixMilli()
	if s := has.Seen[0]; s.First > first || s.First < first-60_000 || s.Last <= last || s.Last > last+60_000 {
		t.Errorf("seen from %d to %d, want %d to %d", s.First, s.Last, first, last)
	}
	if lacks.Build != normInfo.Key() || lacks.InBinary != "no" || len(lacks.Seen) != 0 || len(lacks.Present) != 0 || !slices.Equal(lacks.Services, []string{"lacks"}) {
		t.Errorf("of the build that lacks it: %+v", lacks)
	}

	if one := f.get(t, "?service=has&since=now-2h"); len(one.Vulns) != 1 || len(one.Vulns[0].Seen) != 0 || one.Vulns[0].InBinary != "yes" {
		t.Errorf("of the service that has it and does not run it: %+v", one.Vulns)
	}

	// Of a fleet whose binaries nobody has, what runs is certain and the rest is not known.
	without := newFixture(t, vulns.Settings{Database: database}, false)
	without.runs(t, "runs", "r1", parsesInfo, time.Hour, runs)
	without.runs(t, "lacks", "l1", normInfo, time.Hour, nil)
	r = without.get(t, "")
	if len(r.Vulns) != 2 || r.Vulns[0].InBinary != "yes" || len(r.Vulns[0].Seen) != 1 || r.Vulns[1].InBinary != "unknown" {
		t.Errorf("without binaries: %+v", r.Vulns)
	}
}

// TestBuildCompleted judges a build of which the collector knew the Go version only, and later, as after `sonde builds add`, what it is made of: the functions of the findings
// that this adds are looked for in its binary, too.
func TestBuildCompleted(t *testing.T) {
	path, info := program(t, "language", `t, _ := language.Parse("en"); return len(t.String())`)
	f := newFixture(t, vulns.Settings{Database: database}, true)
	if err := f.bins.Add(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	bare := *info
	bare.GoVersion, bare.Mod = "go1.17", &debug.BuildInfo{} // one with findings: there are functions to look for, and none is in a program that was built by another
	f.runs(t, "cart", "c1", &bare, time.Hour, nil)
	// Each time another range, since reports are kept for half a minute.
	r := f.get(t, "?since=now-2h")
	if len(r.Vulns) == 0 || len(r.Unknown) != 1 || slices.ContainsFunc(r.Vulns, func(v Vuln) bool { return v.Module != "stdlib" || v.InBinary == "unknown" }) {
		t.Fatalf("of a build whose Go version is known: %+v, unknown %+v", r.Vulns, r.Unknown)
	}
	if err := f.cat.PutBuilds(t.Context(), []catalog.Build{{ID: info.Key(), Module: info.Module(), Info: info.Mod.String()}}); err != nil {
		t.Fatal(err)
	}
	r = f.get(t, "?since=now-3h")
	i := slices.IndexFunc(r.Vulns, func(v Vuln) bool { return v.ID == "GO-2021-0113" })
	if i < 0 || r.Vulns[i].InBinary != "yes" || !slices.Contains(r.Vulns[i].Present, vulnerable) {
		t.Errorf("once it is known what is in it: %+v", r.Vulns)
	}
}

// old is a build of which the catalogue knows only the Go version.
func old(version string) *build.Info {
	mod := &debug.BuildInfo{GoVersion: version, Path: "example.com/old", Main: debug.Module{Path: "example.com/old", Version: "(devel)"}}
	return &build.Info{GNUBuildID: strings.Repeat("ab", 20), GoVersion: version, Mod: mod}
}

func TestUnsupported(t *testing.T) {
	f := newFixture(t, vulns.Settings{}, false)
	f.runs(t, "cart", "c1", old("go1.21.13"), time.Hour, nil)
	r := f.get(t, "?service=cart")
	if len(r.Unsupported) != 1 || r.Unsupported[0].Since != "2024-08-13" || r.Unsupported[0].Go != "go1.21.13" || !slices.Equal(r.Unsupported[0].Services, []string{"cart"}) {
		t.Errorf("unsupported %+v", r.Unsupported)
	}
	debian := old("go1.19.8")
	debian.GNUBuildID, debian.Mod = strings.Repeat("cd", 20), &debug.BuildInfo{GoVersion: "go1.19.8", Path: "go.etcd.io/etcd/cmd/etcd"}
	f.runs(t, "etcd", "e1", debian, time.Hour, nil)
	if r := f.get(t, "?service=etcd"); len(r.Unknown) != 1 || !strings.Contains(r.Unknown[0].Why, "without modules") || len(r.Unsupported) != 1 {
		t.Errorf("of a build without modules: %+v", r)
	}
	if r.Database != nil || !strings.Contains(r.Note, "builds.vulndb") || len(r.Vulns) != 0 {
		t.Errorf("without a database: %+v", r)
	}
	if r := f.get(t, "?service=nobody"); len(r.Unsupported) != 0 {
		t.Errorf("of a service that is not there: %+v", r)
	}
}

// TestDatabaseComesLater opens the database once it is there, and again when it is another.
func TestDatabaseComesLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vulndb")
	f := newFixture(t, vulns.Settings{Database: dir}, false)
	f.runs(t, "cart", "c1", old("go1.17"), time.Hour, nil)
	if r := f.get(t, ""); r.Database != nil || !strings.Contains(r.Note, "there is no vulnerability database at") {
		t.Errorf("before it is there: %+v", r)
	}
	if err := os.CopyFS(dir, os.DirFS(database)); err != nil {
		t.Fatal(err)
	}
	// Another time, since reports are kept for half a minute.
	if r := f.get(t, "?since=now-2h"); r.Database == nil || len(r.Vulns) != 2 || r.Vulns[0].Module != "stdlib" || r.Vulns[0].Found != "v1.17.0" {
		t.Errorf("once it is there: %+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, "ID", "GO-2022-0273.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index", "db.json"), []byte(`{"modified":"2026-11-20T00:00:00Z"}  `), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := f.get(t, "?since=now-3h"); r.Database == nil || r.Database.Modified.Year() != 2026 || len(r.Unknown) == 0 || !strings.Contains(fmt.Sprint(r.Unknown), "GO-2022-0273") {
		t.Errorf("with a damaged entry: %+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, "index", "modules.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index", "db.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := f.get(t, "?since=now-4h"); r.Database == nil || r.Database.Modified.Year() != 2026 {
		t.Errorf("with a database that became unreadable: %+v", r.Database)
	}
}

// TestPostedDatabase judges by a database that comes with the request, and keeps nothing of it.
func TestPostedDatabase(t *testing.T) {
	f := newFixture(t, vulns.Settings{}, true)
	f.runs(t, "cart", "c1", old("go1.17"), time.Hour, nil)
	var db bytes.Buffer
	if err := vulns.Zip(&db, database); err != nil {
		t.Fatal(err)
	}
	post := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		f.mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/vulns?service=cart", strings.NewReader(body)))
		return w
	}
	w := post(db.String())
	var r Report
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK || len(r.Vulns) != 2 || r.Database == nil || r.Database.Entries != 18 || r.Note != "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := post("no zip"); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "no Go vulnerability database") {
		t.Errorf("of no zip file: %d %s", w.Code, w.Body)
	}
	if w := post(strings.Repeat("x", maxDatabase+1)); w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "max_database_bytes") {
		t.Errorf("of too much: %d %s", w.Code, w.Body)
	}
	if r := f.get(t, "?service=cart"); r.Database != nil || len(r.Vulns) != 0 {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestRefuses(t *testing.T) {
	f := newFixture(t, vulns.Settings{}, false)
	for query, want := range map[string]string{
		"?since=yesterday":   "parameter since",
		"?since=now":         "not in the past",
		"?query=x":           "unknown parameter",
		"?since=1h&since=2h": "given 2 times",
	} {
		w := httptest.NewRecorder()
		f.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/vulns"+query, nil))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want %q", query, w.Code, w.Body, want)
		}
	}
	if _, err := New(Config{Settings: vulns.Settings{Releases: filepath.Join(t.TempDir(), "none")}}); err == nil {
		t.Error("a table of releases that is not there is taken")
	}
}
