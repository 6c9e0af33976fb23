package archtest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imported is one import of one file, for whatever system and build tags the file is.
type imported struct {
	file   string // from the root, with slashes
	folder string
	path   string
	test   bool
}

// own returns the folder of an imported package of this project, "" for one of another module.
func (i imported) own() string {
	if i.path == module {
		return "."
	}
	own, ok := strings.CutPrefix(i.path, module+"/")
	if !ok {
		return ""
	}
	return own
}

func (i imported) standard() bool {
	first, _, _ := strings.Cut(i.path, "/")
	return !strings.Contains(first, ".")
}

// TestImports checks every import of every Go file against the tables of rules_test.go.
func TestImports(t *testing.T) {
	all := readImports(t, root(t))
	if len(all) < 300 {
		t.Fatalf("found only %d imports", len(all))
	}
	for _, i := range all {
		for _, broken := range broken(i) {
			t.Errorf("%s imports %s: %s", i.file, i.path, broken)
		}
	}
}

// TestRulesBite makes sure that the rules find what they are there for.
func TestRulesBite(t *testing.T) {
	for _, tc := range []struct{ file, imports, want string }{
		{"profiles/merge.go", module + "/collector", "profiles may not import collector"},
		{"profiles/store/x.go", module + "/collector/api", "profiles may not import collector"},
		{"profiles/x.go", module + "/symbols", "profiles may not import symbols"},
		{"coredump/x.go", module + "/symbols", ""},
		{"symbols/x.go", module + "/coredump", "symbols may not import coredump"},
		{"internal/blob/x.go", module + "/profiles", "internal may not import profiles"},
		{"internal/blob/x.go", module + "/internal/fsys", ""},
		{"internal/blob/x.go", "golang.org/x/sys/unix", "standard library"},
		{"collector/api/x.go", module + "/collector", "do not know it"},
		{"collector/api/x_test.go", module + "/collector", "do not know it"},
		{"collector/api/x.go", module + "/collector/reply", ""},
		{"collector/run.go", module + "/collector/api", ""},
		{"collector/run.go", module + "/cmd/sonde", "collector may not import cmd/sonde"},
		{"collector/run.go", module + "/internal/demo/cart", "collector may not import internal/demo"},
		{"cmd/sonde/x.go", module + "/internal/fsys/faultfs", "only tests"},
		{"cmd/sonde/x_test.go", module + "/internal/fsys/faultfs", ""},
		{"profiles/store/x.go", module + "/internal/catalog/faultcat", "only tests"},
		{"internal/catalog/faultcat/x.go", module + "/internal/fsys/faultfs", ""},
		{"agent/x.go", "golang.org/x/sys/unix", "standard library"},
		{"agent/x_test.go", "github.com/google/pprof/profile", "standard library"},
		{"agent/x.go", module + "/profiles", "standard library"},
		{"agent/x.go", module + "/agent/internal/delta", ""},
		{"agent/x.go", "runtime/pprof", ""},
		{"agent/x.go", module + "/agent/prom", "agent may not import agent/prom"},
		{"agent/prom/x.go", "github.com/prometheus/client_golang/prometheus", ""},
		{"agent/prom/x.go", module + "/agent", ""},
		{"agent/prom/x.go", module + "/profiles", "may not import profiles"},
		{"profiles/x.go", "github.com/prometheus/prometheus/model/labels", ""},
		{"profiles/x.go", "github.com/prometheus/prometheus/tsdb/chunks", "collector/metrics"},
		{"profiles/x.go", "github.com/prometheus/prometheus/config", "collector/metrics"},
		{"collector/metrics/x.go", "github.com/prometheus/prometheus/tsdb", ""},
		{"collector/api/x.go", "modernc.org/sqlite", "behind the catalogue"},
		{"collector/api/x.go", "github.com/go-delve/delve/pkg/proc", "analysis child"},
		{"helpers/x.go", "fmt", "no component"},
	} {
		got := broken(imported{file: tc.file, folder: path.Dir(tc.file), path: tc.imports, test: strings.HasSuffix(tc.file, "_test.go")})
		text := strings.Join(got, "; ")
		if tc.want == "" && text != "" || tc.want != "" && !strings.Contains(text, tc.want) {
			t.Errorf("%s imports %s: %q, want %q", tc.file, tc.imports, text, tc.want)
		}
	}
}

// broken returns the rules that an import breaks.
func broken(i imported) (out []string) {
	from := componentOf(i.folder)
	if from == nil {
		return []string{fmt.Sprintf("folder %s is in no component: give it its place in rules_test.go", i.folder)}
	}
	for folder, may := range standardOnly {
		if within(i.folder, folder) && !withinAny(i.folder, bridges) && !i.standard() && !withinAny(i.own(), append([]string{folder}, may...)) && !allowedToTest(i) {
			out = append(out, fmt.Sprintf("%s imports only the standard library %s", folder, strings.Join(may, ", ")))
		}
	}
	if own := i.own(); own != "" {
		out = append(out, brokenInside(i, from, own)...)
	}
	for _, o := range outside {
		rest, ok := strings.CutPrefix(i.path, o.packages)
		if ok && (rest == "" || rest[0] == '/') && !withinAny(rest, o.except) && !withinAny(i.folder, o.only) {
			out = append(out, fmt.Sprintf("only %s may: %s", strings.Join(o.only, ", "), o.why))
		}
	}
	return out
}

// allowedToTest reports whether i is a test of the root module that uses a package made for tests.
func allowedToTest(i imported) bool {
	return i.test && !within(i.folder, "agent") && withinAny(i.own(), testOnly)
}

func brokenInside(i imported, from *component, own string) (out []string) {
	if withinAny(own, testOnly) {
		if !i.test && !withinAny(i.folder, testOnly) && !within(i.folder, "internal/e2e") {
			out = append(out, "it is there for tests, only tests may import it")
		}
		if i.test && !within(i.folder, "agent") {
			return out
		}
	}
	to := componentOf(own)
	switch {
	case to == nil:
		out = append(out, "it is in no component")
	case to != from && !slices.Contains(from.may, to.folder):
		out = append(out, fmt.Sprintf("%s may not import %s", from.folder, to.folder))
	}
	for _, r := range inward {
		inImporter := within(i.folder, r.importer)
		if prefix, below := strings.CutSuffix(r.importer, "/"); below {
			inImporter = i.folder != prefix && within(i.folder, prefix)
		}
		if inImporter && own == r.imported {
			out = append(out, r.why)
		}
	}
	return out
}

// TestTransitiveImports checks what packages bring along through other modules, as the go command sees it on this system.
func TestTransitiveImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Deps", "./...")
	cmd.Dir = root(t)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages++
		checkDeps(t, strings.TrimPrefix(p.ImportPath, module+"/"), p.Deps)
	}
	if packages < 10 {
		t.Errorf("go list named only %d packages", packages)
	}
}

func checkDeps(t *testing.T, folder string, deps []string) {
	t.Helper()
	for _, dep := range deps {
		// Whoever may import the folder that may import it brings it along rightly.
		for _, o := range outside {
			if o.transitive && within(dep, o.packages) && !withinAny(folder, o.only) && !bringsAlong(deps, o.only) {
				t.Errorf("%s depends on %s: only %s may: %s", folder, dep, strings.Join(o.only, ", "), o.why)
			}
		}
		if own, ok := strings.CutPrefix(dep, module+"/"); ok && withinAny(own, testOnly) && !withinAny(folder, testOnly) {
			t.Errorf("%s depends on %s, which only tests may import", folder, dep)
		}
	}
}

func bringsAlong(deps, folders []string) bool {
	return slices.ContainsFunc(deps, func(dep string) bool { return withinAny(strings.TrimPrefix(dep, module+"/"), folders) })
}

// readImports parses the imports of all Go files below dir, those of the agent's module included.
func readImports(t *testing.T, dir string) []imported {
	t.Helper()
	var out []imported
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || name == "node_modules" || name != "." && p != dir && strings.HasPrefix(name, ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			out = append(out, imported{file: rel, folder: path.Dir(rel), path: name, test: strings.HasSuffix(rel, "_test.go")})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// root returns the folder of the root module.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.work")); err != nil {
		t.Fatalf("no go.work in %s: %v", dir, err)
	}
	return dir
}
