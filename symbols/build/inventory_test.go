package build

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestInventoryOfCompiled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: the fixtures are of Linux, so inventories are NOT read here")
	}
	for _, tt := range []struct {
		name     string
		env      []string
		args     []string
		stripped string
		settings map[string]string
	}{
		{name: "plain", stripped: "no", settings: map[string]string{"CGO_ENABLED": "0", "GOOS": "linux", "-compiler": "gc"}},
		{name: "stripped", args: []string{"-ldflags=-s -w"}, stripped: "yes"},
		{name: "pie", args: []string{"-buildmode=pie"}, stripped: "no", settings: map[string]string{"-buildmode": "pie"}},
		{name: "trimpath", args: []string{"-trimpath"}, stripped: "no", settings: map[string]string{"-trimpath": "true"}},
		{name: "tags", args: []string{"-tags=a,b"}, stripped: "no", settings: map[string]string{"-tags": "a,b"}},
		{name: "386", env: []string{"GOARCH=386"}, stripped: "no", settings: map[string]string{"GOARCH": "386", "GO386": "sse2"}},
		{name: "race", env: []string{"CGO_ENABLED=1"}, args: []string{"-race"}, stripped: "no", settings: map[string]string{"-race": "true", "CGO_ENABLED": "1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "race" {
				if _, err := exec.LookPath("gcc"); err != nil {
					t.Skip("SKIPPED: there is no gcc, so a program with cgo is NOT read")
				}
			}
			file := compile(t, tt.env, tt.args...)
			info, err := ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			st, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			inv := info.Inventory()
			if inv.Size != st.Size() || inv.Stripped != tt.stripped || inv.ID != info.Key() || inv.GoVersion != runtime.Version() || inv.Main.Path != "example.com/tiny" || inv.Main.Version != "" {
				t.Errorf("inventory %+v", inv)
			}
			for name, want := range tt.settings {
				if got := inv.Settings[name]; got != want {
					t.Errorf("setting %s is %q, want %q", name, got, want)
				}
			}
			// What the go command prints of it says the same.
			out, err := exec.Command("go", "version", "-m", file).Output()
			if err != nil {
				t.Fatal(err)
			}
			listed, err := SplitVersionM(out)
			if err != nil || len(listed) != 1 || listed[0].File != file {
				t.Fatalf("%+v, %v", listed, err)
			}
			text, err := OfText(listed[0].Text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(text.Settings, inv.Settings) || text.GoVersion != inv.GoVersion || text.Path != inv.Path {
				t.Errorf("text says %+v, the file %+v", text, inv)
			}
		})
	}
}

func TestInventoryOfCorpus(t *testing.T) {
	files, err := filepath.Glob("../../../shared/corpus/*/other/go-version-m.txt")
	if err != nil || len(files) == 0 {
		t.Skip("SKIPPED: the corpus is not beside the project, so its texts are NOT read")
	}
	want := map[string]struct {
		main string
		deps int
	}{
		"prometheus":         {"", 0}, // Debian builds without modules
		"etcd":               {"", 0},
		"caddy-go126":        {"github.com/caddyserver/caddy/v2", 1},
		"nats-server-go126":  {"github.com/nats-io/nats-server/v2", 1},
		"alertmanager-go126": {"github.com/prometheus/alertmanager", 1},
		"etcd-go126":         {"etcdmainwrap", 1},
		"victoria-metrics":   {"", 0},
	}
	for _, file := range files {
		name := filepath.Base(filepath.Dir(filepath.Dir(file)))
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		listed, err := SplitVersionM(data)
		if err != nil || len(listed) != 1 {
			t.Fatalf("%s: %d programs, %v", name, len(listed), err)
		}
		inv, err := OfText(listed[0].Text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w, ok := want[name]
		if !ok || inv.Main.Path != w.main || len(inv.Deps) < w.deps || w.deps == 0 && len(inv.Deps) > 0 || GoSemver(inv.GoVersion) == "" || len(inv.Settings) == 0 {
			t.Errorf("%s: main %+v, %d deps, %s", name, inv.Main, len(inv.Deps), inv.GoVersion)
		}
		if n := strings.Count(string(data), "\n\tdep\t"); n != len(inv.Deps) {
			t.Errorf("%s: %d deps, the file lists %d", name, len(inv.Deps), n)
		}
	}
}

func TestInventoryOfDebian(t *testing.T) {
	files, err := filepath.Glob("../../.cache/debian/*/usr/bin/*")
	if err != nil || len(files) == 0 {
		t.Skip("SKIPPED: Debian's daemons are not in .cache/debian, so they are NOT read; .ci/setup fetches them where there is apt-get")
	}
	for _, file := range files {
		info, err := ReadFile(file)
		if errors.Is(err, ErrNotGo) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		inv := info.Inventory()
		if inv.ID == "" || GoSemver(inv.GoVersion) == "" || inv.Path == "" || inv.Settings["GOARCH"] == "" || inv.Size == 0 || inv.Stripped != "yes" {
			t.Errorf("%s: %+v", file, inv)
		}
	}
}

const replaced = "go\tgo1.25.1\npath\texample.com/a\nmod\texample.com/a\tv1.0.0\t\ndep\tgithub.com/x/y\tv1.0.0\n=>\tgithub.com/z/y\tv1.0.1\th1:z=\ndep\tgithub.com/l/m\tv1.0.0\n=>\t./m\t\t\n"

func TestReplaced(t *testing.T) {
	inv, err := OfText(replaced)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][2]string{{"github.com/z/y", "v1.0.1"}, {"github.com/l/m", ""}} {
		if path, version := inv.Deps[i].Compiled(); path != want[0] || version != want[1] {
			t.Errorf("%s %s, want %s", path, version, want)
		}
	}
}

func TestSplitVersionMRefuses(t *testing.T) {
	for _, text := range []string{"", "\n", "\tpath\tx\n", "hello world\n", "a: b\n"} {
		if _, err := SplitVersionM([]byte(text)); !errors.Is(err, ErrNoVersionM) {
			t.Errorf("%q: %v", text, err)
		}
	}
	listed, err := SplitVersionM([]byte("/bin/a: go1.20\n/bin/b: c: go1.21\n\tpath\tx/y\n"))
	if err != nil || len(listed) != 2 || listed[1].File != "/bin/b: c" || listed[1].Text != "go\tgo1.21\npath\tx/y\n" {
		t.Errorf("%+v, %v", listed, err)
	}
}

func TestDiff(t *testing.T) {
	a, err := OfText("go\tgo1.25.1\npath\tm\nmod\tm\tv1.0.0\t\ndep\tup\tv1.0.0\th1:a=\ndep\tdown\tv2.0.0\ndep\tgone\tv0.1.0\ndep\tsame\tv1.0.0\th1:s=\ndep\tfork\tv1.0.0\ndep\tfolder\tv1.0.0\ndep\tsum\tv1.0.0\th1:1=\nbuild\tGOOS=linux\nbuild\t-race=true\n")
	if err != nil {
		t.Fatal(err)
	}
	b, err := OfText("go\tgo1.26.0\npath\tm\nmod\tm\t(devel)\t\ndep\tup\tv1.0.1-0.20260101000000-abcdefabcdef\th1:b=\ndep\tdown\tv1.9.9\ndep\tnew\tv0.1.0\ndep\tsame\tv1.0.0\th1:s=\ndep\tfork\tv1.0.0\n=>\tmine\tv1.0.0\th1:x=\n" +
		"dep\tfolder\tv1.0.0\n=>\t../folder\t\t\ndep\tsum\tv1.0.0\th1:2=\nbuild\tGOOS=linux\nbuild\tvcs.modified=true\n")
	if err != nil {
		t.Fatal(err)
	}
	got := Diff(a, b)
	want := Difference{
		Modules: []ModuleChange{{"down", Down, "v2.0.0", "v1.9.9"}, {"folder", Changed, "v1.0.0", "../folder"}, {"fork", Changed, "v1.0.0", "mine v1.0.0"}, {"gone", Removed, "v0.1.0", ""},
			{"m", Changed, "v1.0.0", "(devel)"}, {"new", Added, "", "v0.1.0"}, {"sum", Changed, "v1.0.0", "v1.0.0"}, {"up", Up, "v1.0.0", "v1.0.1-0.20260101000000-abcdefabcdef"}},
		Settings: []SettingChange{{"go", "go1.25.1", "go1.26.0"}, {"-race", "true", ""}, {"vcs.modified", "", "true"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
	if same := Diff(a, a); len(same.Modules)+len(same.Settings) > 0 {
		t.Errorf("a build differs from itself: %+v", same)
	}
}

func TestConstraints(t *testing.T) {
	for _, tt := range []struct {
		constraint, version string
		holds, known        bool
	}{
		{"<v1.2.3", "v1.2.2", true, true},
		{"<v1.2.3", "v1.2.3", false, true},
		{"<v1.2.3", "v1.2.3-0.20260101000000-abcdefabcdef", true, true},
		{"< 0.3.8", "v0.3.0", true, true},
		{">=v1.0.0, <v2", "v1.9.9", true, true},
		{">=v1.0.0,<v2", "v2.0.0+incompatible", false, true},
		{"v1.2", "v1.2.0", true, true},
		{"==1.2.0", "v1.2.0", true, true},
		{"!=v1.2.0", "v1.2.0", false, true},
		{">v1", "v1.0.1", true, true},
		{"<=v1.0.1", "v1.0.1", true, true},
		{"<go1.26.3", "v1.26.2", true, true},
		{"<v1", "", false, false},
		{"", "", true, true},
	} {
		c, err := ParseConstraint(tt.constraint)
		if err != nil {
			t.Fatal(err)
		}
		if holds, known := c.Holds(tt.version); holds != tt.holds || known != tt.known {
			t.Errorf("%s of %q: %v, %v", tt.constraint, tt.version, holds, known)
		}
	}
	for _, text := range []string{"<", "~v1", "<v1,", "latest", "<v1.2.x", strings.Repeat("<v1,", 100)} {
		if _, err := ParseConstraint(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestGoSemver(t *testing.T) {
	for in, want := range map[string]string{"go1.26.8": "v1.26.8", "go1.21": "v1.21.0", "go1.26rc1": "v1.26.0-rc.1", "go1.25.1 X:jsonv2": "v1.25.1", "go1.22.2-1ubuntu": "v1.22.2", "devel go1.27-abc": "", "": "", "go1.x": ""} {
		if got := GoSemver(in); got != want {
			t.Errorf("%s is %q, want %q", in, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte(replaced))
	f.Add([]byte("/bin/a: go1.20\n\tpath\tx/y\n\tmod\tx\tv1.0.0\th1:x=\n\tdep\ty\tv1\n\t=>\tz\tv2\th1:=\n\tbuild\t-tags=\"a b\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if inv, err := OfText(string(data)); err == nil {
			Diff(inv, inv)
			if again, err := OfText(string(data)); err != nil || again.ID != inv.ID {
				t.Errorf("%s, then %s, %v", inv.ID, again.ID, err)
			}
		}
		listed, err := SplitVersionM(data)
		if err != nil {
			return
		}
		for _, l := range listed {
			_, _ = OfText(l.Text)
		}
	})
}

func FuzzConstraint(f *testing.F) {
	f.Add("<v1.2.3", "v1.2.2")
	f.Add(">=1, <go1.26rc1,!=v2", "v1.0.0+incompatible")
	f.Fuzz(func(t *testing.T, text, version string) {
		if c, err := ParseConstraint(text); err == nil {
			if holds, known := c.Holds(version); holds && !known {
				t.Errorf("%q holds of %q, which is not known", text, version)
			}
		}
		_ = GoSemver(version)
	})
}
