package discover

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestConditionsOfAProcess(t *testing.T) {
	s := &Scanner{cfg: Config{Env: []string{"FEATURE_*", "REGION", "API_TOKEN"}}, fs: &procfs{root: t.TempDir()}, nodeKind: "m6i.large, 2 CPUs"}
	join := func(words ...string) []byte { return []byte(strings.Join(words, "\x00") + "\x00") }
	got := s.conditions(1, join("/bin/cart", "-addr=:80", "--db-password", "hunter2", "-token=abc", "-v", "serve", "postgres://bob:pw@db/x", "a b"),
		join("HOME=/root", "GOGC=50", "FEATURE_X=on", "REGION=eu", "API_TOKEN=abc", "DB_PASSWORD=x", "FEATURE_URL=http://u:p@h/"), []byte("0::/nowhere\n"))
	want := map[string]string{
		"args":     `-addr=:80 --db-password ` + hashed("hunter2") + ` -token=` + hashed("abc") + ` -v serve postgres://` + hashed("://bob:pw@") + `@db/x "a b"`,
		"env_GOGC": "50", "env_FEATURE_X": "on", "env_REGION": "eu", "env_API_TOKEN": hashed("abc"), "env_FEATURE_URL": "http://" + hashed("://u:p@") + "@h/", "node_kind": "m6i.large, 2 CPUs",
	}
	if !maps.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	long := s.conditions(1, join("x", strings.Repeat("ä", maxCondition)), nil, nil)["args"]
	if len(long) > maxCondition || !utf8.ValidString(long) || !strings.Contains(long, "sha256:") {
		t.Errorf("a long argument became %d bytes", len(long))
	}
	if got := argsOf(nil); got != "" {
		t.Errorf("no command line became %q", got)
	}
}

func TestNodeKind(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := nodeKind(dir, dir); got != "" {
		t.Errorf("nothing to read became %q", got)
	}
	write("cpuinfo", "processor\t: 0\nmodel name\t: Intel(R)  Xeon(R) CPU\nprocessor\t: 1\nmodel name\t: Intel(R)  Xeon(R) CPU\n")
	write("class/dmi/id/product_name", "m6i.large\n")
	if got, want := nodeKind(dir, dir), "m6i.large, Intel(R) Xeon(R) CPU, 2 CPUs"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if model, n := cpuModel([]byte("processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0c\n")); !strings.HasSuffix(model, " 0x41/0xd0c") || n != 1 {
		t.Errorf("%q, %d CPUs", model, n)
	}
}

func TestBuildSettings(t *testing.T) {
	for text, ok := range map[string]bool{"FEATURE_*": true, "A1": true, "": false, "a=b": false, "*": false, "1A": false} {
		if err := (BuildSettings{Env: []string{text}}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzConditions(f *testing.F) {
	f.Add([]byte("x\x00-token\x00y\x00-a=b"), []byte("GOGC=1\x00SECRET=hunter2\x00=\x00"), []byte("0::/a\n"), []byte("processor: 0\nmodel name: x\n"))
	f.Fuzz(func(t *testing.T, cmdline, environ, cgroups, cpuinfo []byte) {
		s := &Scanner{cfg: Config{Env: []string{"SECRET"}}, fs: &procfs{root: "/nowhere"}}
		for key, value := range s.conditions(1, cmdline, environ, cgroups) {
			if len(value) > maxCondition+32 || !utf8.ValidString(value) || key == "env_SECRET" && !strings.HasPrefix(value, "sha256:") {
				t.Errorf("%s is %q", key, value)
			}
		}
		cpuModel(cpuinfo)
	})
}
