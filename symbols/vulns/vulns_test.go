package vulns

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

const sample = "testdata/vulndb"

func open(t testing.TB, name string) *Database {
	t.Helper()
	d, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

// zipped packs the sample, without the files that leave says.
func zipped(t *testing.T, leave func(name string) bool) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "vulndb.zip")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for _, pattern := range []string{"index/*.json", "ID/*.json"} {
		files, err := filepath.Glob(filepath.Join(sample, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			rel, err := filepath.Rel(sample, file)
			if err != nil {
				t.Fatal(err)
			}
			rel = filepath.ToSlash(rel)
			if leave != nil && leave(rel) {
				continue
			}
			w, err := z.Create(rel)
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(file)
			if err == nil {
				_, err = w.Write(b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestOpen(t *testing.T) {
	noIndex := zipped(t, func(name string) bool { return strings.HasPrefix(name, "index/") })
	for _, name := range []string{sample, zipped(t, nil), noIndex} {
		d := open(t, name)
		if d.Entries() != 18 || d.Modified().Year() != 2023 {
			t.Errorf("%s: %d entries of %v, want 18 of 2023", name, d.Entries(), d.Modified())
		}
		es, err := d.Module("golang.org/x/text")
		if err != nil || len(es) != 2 || es[0].ID != "GO-2020-0015" || es[1].ID != "GO-2021-0113" {
			t.Errorf("%s: x/text has %v, %v", name, es, err)
		}
		if es, err := d.Module("example.com/none"); err != nil || len(es) != 0 {
			t.Errorf("%s: a module of nobody has %v, %v", name, es, err)
		}
	}
}

// TestZip packs the sample, as a directory and as what that made, and reads it from memory.
func TestZip(t *testing.T) {
	var first bytes.Buffer
	if err := Zip(&first, sample); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "again.zip")
	if err := os.WriteFile(name, first.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	var second bytes.Buffer
	if err := Zip(&second, name); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("a zip file is packed into another one: %v", err)
	}
	d, err := OpenZip(bytes.NewReader(first.Bytes()), int64(first.Len()))
	if err != nil || d.Entries() != 18 {
		t.Fatal(err)
	}
	if es, err := d.Module("golang.org/x/text"); err != nil || len(es) != 2 {
		t.Errorf("x/text has %v, %v", es, err)
	}
	if _, err := OpenZip(strings.NewReader("PK no zip"), 9); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("no zip file: %v", err)
	}
	if err := Zip(&second, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("nothing is packed")
	}
}

func TestOpenRefuses(t *testing.T) {
	empty := t.TempDir()
	hostile := t.TempDir()
	if err := os.Mkdir(filepath.Join(hostile, "index"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hostile, "index", "modules.json"), []byte(`[{"path":"a","vulns":[{"id":"../../etc/passwd"}]}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, want string }{
		{empty, "neither index/modules.json nor ID/*.json"},
		{hostile, `"../../etc/passwd" is no id`},
		{filepath.Join(sample, "index", "db.json"), "no Go vulnerability database"},
		{filepath.Join(empty, "none"), "no such file"},
	} {
		d, err := Open(tc.name)
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("open %s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestFind(t *testing.T) {
	d := open(t, sample)
	text := func(version string) *debug.BuildInfo {
		return &debug.BuildInfo{Path: "example.com/p", Main: debug.Module{Path: "example.com/p", Version: "(devel)"},
			Deps: []*debug.Module{{Path: "golang.org/x/text", Version: version}}}
	}
	replaced := text("v0.3.0")
	replaced.Deps[0].Replace = &debug.Module{Path: "golang.org/x/text", Version: "v0.3.8"}
	into := text("v0.3.8")
	into.Deps[0] = &debug.Module{Path: "example.com/fork", Version: "v1.0.0", Replace: &debug.Module{Path: "golang.org/x/text", Version: "v0.3.6"}}
	local := text("v0.3.0")
	local.Deps[0].Replace = &debug.Module{Path: "../text"}
	for _, tc := range []struct {
		name, goVersion string
		info            *debug.BuildInfo
		want            []string // MODULE@VERSION ID fixed
		unknown         []string
	}{
		{"old", "go1.26.8", text("v0.3.2"), []string{"golang.org/x/text@v0.3.2 GO-2020-0015 v0.3.3", "golang.org/x/text@v0.3.2 GO-2021-0113 v0.3.7"}, []string{"example.com/p"}},
		{"one fixed", "go1.26.8", text("v0.3.3"), []string{"golang.org/x/text@v0.3.3 GO-2021-0113 v0.3.7"}, []string{"example.com/p"}},
		{"pseudo-version before the fix", "go1.26.8", text("v0.3.7-0.20210524175448-3115f89c4b99"), []string{"golang.org/x/text@v0.3.7-0.20210524175448-3115f89c4b99 GO-2021-0113 v0.3.7"}, []string{"example.com/p"}},
		{"fixed", "go1.26.8", text("v0.3.7"), nil, []string{"example.com/p"}},
		{"replaced by a fixed one", "go1.26.8", replaced, nil, []string{"example.com/p"}},
		{"a fork replaced by an old one", "go1.26.8", into, []string{"golang.org/x/text@v0.3.6 GO-2021-0113 v0.3.7"}, []string{"example.com/p"}},
		{"replaced by a directory", "go1.26.8", local, nil, []string{"example.com/p", "golang.org/x/text"}},
		{"old standard library", "go1.17", nil, []string{"stdlib@v1.17.0 GO-2021-0264 v1.17.3", "stdlib@v1.17.0 GO-2022-0273 v1.17.1"}, nil},
		{"candidate before it came", "go1.17rc1 X:foo", nil, nil, nil},
		{"development", "devel go1.27-abcdef", nil, nil, []string{"stdlib"}},
		{"the go command", "go1.15.4", &debug.BuildInfo{Path: "cmd/go"}, []string{"stdlib@v1.15.4 GO-2021-0240 v1.15.13", "stdlib@v1.15.4 GO-2021-0264 v1.16.10", "stdlib@v1.15.4 GO-2022-0273 v1.16.8",
			"toolchain@v1.15.4 GO-2021-0068 v1.15.7", "toolchain@v1.15.4 GO-2022-0475 v1.15.5", "toolchain@v1.15.4 GO-2022-0476 v1.15.5"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := ReadBuild(tc.goVersion, tc.info)
			fs, err := d.Find(&b)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range fs {
				got = append(got, f.Module.Path+"@"+f.Module.Version+" "+f.Entry.ID+" "+f.Fixed)
			}
			if !slices.Equal(got, tc.want) || !slices.Equal(b.Unknown, tc.unknown) {
				t.Errorf("found\n%s\nunknown %v, want\n%s\nunknown %v", strings.Join(got, "\n"), b.Unknown, strings.Join(tc.want, "\n"), tc.unknown)
			}
		})
	}
}

func TestFindPlatform(t *testing.T) {
	e, err := ParseEntry([]byte(`{"id":"GO-1","affected":[{"package":{"name":"m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"1.0.0"},{"fixed":"1.2.0"},{"introduced":"1.3.0"}]}],
		"ecosystem_specific":{"imports":[{"path":"m/a","goos":["windows"],"symbols":["F"]},{"path":"m/b","goarch":["arm64"],"symbols":["G","T.H"]}]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		goos, goarch, version string
		want                  string
	}{
		{"linux", "amd64", "v1.0.0", "none"},
		{"linux", "arm64", "v1.0.0", "m/b.G m/b.T.H fixed v1.2.0"},
		{"windows", "amd64", "v1.1.9", "m/a.F fixed v1.2.0"},
		{"", "", "v1.1.9", "m/a.F m/b.G m/b.T.H fixed v1.2.0"},
		{"", "", "v1.2.0", "none"},
		{"", "", "v1.2.9", "none"},
		{"windows", "amd64", "v1.4.0", "m/a.F fixed "},
		{"", "", "v0.9.0", "none"},
	} {
		got := "none"
		if f, ok := e.find(&Build{GOOS: tc.goos, GOARCH: tc.goarch}, Module{Path: "m", Version: tc.version}); ok {
			var s Functions
			var names []string
			for _, id := range s.Add(&f) {
				names = append(names, s.Name(id))
			}
			got = strings.Join(names, " ") + " fixed " + f.Fixed
		}
		if got != tc.want {
			t.Errorf("%s/%s %s: %s, want %s", tc.goos, tc.goarch, tc.version, got, tc.want)
		}
	}
}

func TestParseFunction(t *testing.T) {
	for name, want := range map[string]string{
		"golang.org/x/text/language.Parse":                                      "golang.org/x/text/language Parse",
		"golang.org/x/text/language.(*Tag).UnmarshalText":                       "golang.org/x/text/language Tag.UnmarshalText",
		"golang.org/x/text/language.Tag.Parent":                                 "golang.org/x/text/language Tag.Parent",
		"golang.org/x/text/language.Parse.func1":                                "golang.org/x/text/language Parse",
		"golang.org/x/text/language.Parse.func1.2":                              "golang.org/x/text/language Parse",
		"golang.org/x/text/language.Parse.gowrap1":                              "golang.org/x/text/language Parse",
		"net/http.(*conn).serve-fm":                                             "net/http conn.serve",
		"net/http.(*Server).Serve.func2.deferwrap1":                             "net/http Server.Serve",
		"slices.SortFunc[...]":                                                  "slices SortFunc",
		"slices.SortFunc[go.shape.[]example.com/a.T,go.shape.struct { X int }]": "slices SortFunc",
		"example.com/a.(*List[go.shape.string]).All.func1-range2":               "example.com/a List.All",
		"example.com/a.Walk-range1":                                             "example.com/a Walk",
		"gopkg.in/yaml%2ev2.(*decoder).unmarshal":                               "gopkg.in/yaml.v2 decoder.unmarshal",
		"main.main":        "main main",
		"main.init.0":      "main init",
		"runtime.mallocgc": "runtime mallocgc",
		"":                 " ",
		"_cgo_panic":       " ",
		"main.":            " ",
	} {
		pkg, symbol := ParseFunction(name)
		if got := pkg + " " + symbol; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestFunctions(t *testing.T) {
	var s Functions
	ids := s.Add(&Finding{Packages: []Package{{Path: "a/b", Symbols: []string{"F", "T.M"}}, {Path: "a/c"}}})
	again := s.Add(&Finding{Packages: []Package{{Path: "a/b", Symbols: []string{"T.M"}}}})
	if !slices.Equal(ids, []int{0, 1, 2}) || !slices.Equal(again, []int{1}) || s.Len() != 3 || s.Name(1) != "a/b.T.M" || s.Name(2) != "a/c.*" {
		t.Fatalf("ids %v and %v of %v", ids, again, s.names)
	}
	for _, tc := range []struct {
		name, main string
		want       []int
	}{
		{"a/b.F", "", []int{0}},
		{"a/b.F.func3", "", []int{0}},
		{"a/b.(*T).M", "", []int{1}},
		{"a/b.T.M", "", []int{1}},
		{"a/b.T.N", "", nil},
		{"a/c.anything", "", []int{2}},
		{"main.F", "a/b", []int{0}},
		{"main.F", "", nil},
	} {
		if got := s.Match(nil, tc.name, tc.main); !slices.Equal(got, tc.want) {
			t.Errorf("%s matches %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestReleases(t *testing.T) {
	r := DefaultReleases()
	day := func(s string) time.Time {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, tc := range []struct{ version, at, since string }{
		{"go1.18.10", "2026-11-21", "2023-02-01"},
		{"go1.25.5", "2026-11-21", "2026-08-18"},
		{"go1.25.5", "2026-08-17", ""},
		{"go1.25.5", "2026-08-18", "2026-08-18"},
		{"go1.26.8", "2026-11-21", ""},
		{"go1.27.0", "2026-11-21", ""},
		{"go1.40.0", "2026-11-21", ""},
		{"go1.4.3", "2026-11-21", "2022-03-15"},
		{"go1.24rc1 X:nodwarf5", "2026-11-21", "2026-02-10"},
		{"devel go1.24-abcdef", "2026-11-21", ""},
		{"", "2026-11-21", ""},
	} {
		since, out := r.Unsupported(tc.version, day(tc.at))
		got := ""
		if out {
			got = since.Format(time.DateOnly)
		}
		if got != tc.since {
			t.Errorf("%s at %s is out of support since %q, want %q", tc.version, tc.at, got, tc.since)
		}
	}
	for _, tc := range []struct{ file, want string }{
		{`{"as_of":"2026-11-21","supported":0,"releases":[]}`, "supported"},
		{`{"as_of":"soon","supported":2}`, "as_of"},
		{`{"as_of":"2026-11-21","supported":2,"releases":[{"version":"1.26","released":"2026-02-10"}]}`, `"1.26" is no release`},
		{`{"as_of":"2026-11-21","supported":2,"releases":[{"version":"go1.26","released":"2026"}]}`, "release date of go1.26"},
		{`{"as_of":"2026-11-21","supported":2,"releases":[{"version":"go1.26","released":"2026-02-10"},{"version":"go1.26","released":"2026-02-10"}]}`, "twice"},
	} {
		if _, err := ParseReleases([]byte(tc.file)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.file, err, tc.want)
		}
	}
	name := filepath.Join(t.TempDir(), "releases.json")
	if err := os.WriteFile(name, []byte(`{"as_of":"2027-03-01","supported":1,"releases":[{"version":"go1.27","released":"2026-08-18"},{"version":"go1.28","released":"2027-02-09"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	own, err := ReadReleases(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, out := own.Unsupported("go1.27.3", day("2027-03-01")); !out {
		t.Error("the file in place of the table is not used")
	}
	if err := (&Settings{Releases: filepath.Join(t.TempDir(), "none")}).Validate(); err == nil {
		t.Error("a table that is not there is valid")
	}
}

func FuzzParseEntry(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(sample, "ID", "*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "v0.3.0", "golang.org/x/text/language.(*Tag).Parse.func1")
	}
	f.Fuzz(func(t *testing.T, data []byte, version, function string) {
		pkg, symbol := ParseFunction(function)
		if (pkg == "") != (symbol == "") {
			t.Fatalf("%q is %q of %q", function, symbol, pkg)
		}
		_ = GoSemver(version)
		e, err := ParseEntry(data)
		if err != nil {
			return
		}
		_, _ = e.Title(), e.URL()
		var s Functions
		for i := range e.Affected {
			if fd, ok := e.find(&Build{GOOS: "linux"}, Module{Path: e.Affected[i].Module.Path, Version: version}); ok {
				s.Add(&fd)
				s.Match(nil, function, "main")
			}
		}
	})
}
