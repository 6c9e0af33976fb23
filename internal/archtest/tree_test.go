package archtest_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// forbidden is what no committed text may contain. The patterns are broken up so that this file may be committed.
var forbidden = []struct {
	pattern *regexp.Regexp
	only    string // files of this ending; "" for all
	why     string
}{
	{regexp.MustCompile(`(^|[^\w.])/wo` + `rk/(main|shared)\b`), "", "a path of the machine it was written on"},
	{regexp.MustCompile(`/tmp/so` + `nde/`), "", "a path of the machine it was written on"},
	{regexp.MustCompile(`/root/` + `(go|sdk)\b`), "", "a path of the machine it was written on"},
	{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b[:( ]`), ".go", "unfinished work; open an issue"},
	{regexp.MustCompile(`panic\("unwr` + `itten"\)`), ".go", "a contract that nobody has written yet"},
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIV` + `ATE KEY-----`), "", "a private key"},
	{regexp.MustCompile(`(?m)^(<{7}|>{7}) `), "", "a merge conflict"},
}

// TestNoForbiddenText reads every committed text file. Test data and built files are what programs wrote and may name anything.
func TestNoForbiddenText(t *testing.T) {
	dir := root(t)
	files := committed(t, dir)
	for _, name := range files {
		if strings.Contains("/"+name, "/testdata/") || strings.Contains("/"+name, "/dist/") || path.Base(name) == "package-lock.json" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			if os.IsNotExist(err) {
				continue // removed and not yet committed
			}
			t.Fatal(err)
		}
		if bytes.IndexByte(b[:min(len(b), 8000)], 0) >= 0 {
			continue // not text
		}
		for _, f := range forbidden {
			if !strings.HasSuffix(name, f.only) {
				continue
			}
			if at := f.pattern.FindIndex(b); at != nil {
				t.Errorf("%s:%d holds %q: %s", name, 1+bytes.Count(b[:at[0]], []byte("\n")), b[at[0]:at[1]], f.why)
			}
		}
	}
}

// committed returns the names of the files that git knows, from dir, with slashes.
func committed(t *testing.T, dir string) []string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, ".git")); err != nil {
		t.Skipf("not a git repository (%v): the files that are committed cannot be told from others", err)
	}
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(files) < 50 {
		t.Fatalf("git knows only %d files", len(files))
	}
	return files
}

// TestAgentRequiresNothing: importing the agent must not move one version in a user's go.mod.
func TestAgentRequiresNothing(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "agent", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "//") {
			kinds = append(kinds, words[0])
		}
	}
	if !slices.Equal(kinds, []string{"module", "go"}) {
		t.Errorf("agent/go.mod holds the directives %q, want only module and go", kinds)
	}
	if _, err := os.Stat(filepath.Join(root(t), "agent", "go.sum")); err == nil {
		t.Error("agent has a go.sum: it requires something")
	}
}

// TestRootReplacesNothing: with a replace directive `go install …/cmd/sonde@latest` is refused.
func TestRootReplacesNothing(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`(?m)^(replace|exclude)\b.*`).Find(b); m != nil {
		t.Errorf("go.mod holds %q: go install of a version refuses it", m)
	}
}

// TestPackagesAreDocumented: every package that somebody imports says in a comment what it is, and a doc.go is short enough to be read.
func TestPackagesAreDocumented(t *testing.T) {
	dir := root(t)
	documented := map[string]bool{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != dir && (d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		folder := path.Dir(filepath.ToSlash(rel))
		documented[folder] = documented[folder] || isDoc(file)
		if d.Name() == "doc.go" {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if n := bytes.Count(b, []byte("\n")); n > 40 {
				t.Errorf("%s has %d lines, at most 40 are read", rel, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder, ok := range documented {
		if !ok {
			t.Errorf("package in %s has no package comment", folder)
		}
	}
}

func isDoc(file *ast.File) bool {
	return file.Doc != nil && len(strings.TrimSpace(file.Doc.Text())) > 20
}
