// Package release_test checks what a release must keep: that both modules install from a module proxy, that the agent
// requires nothing, that go.mod is tidy, and that the Dockerfile's build makes a static binary of a clean checkout.
package release_test

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root    = "github.com/sonde-io/sonde"
	agent   = root + "/agent"
	version = "v0.0.1"
)

func TestAgentRequiresNothing(t *testing.T) {
	out := run(t, filepath.Join(repository(t), "agent"), []string{"GOWORK=off"}, "go", "list", "-m", "all")
	if got := strings.TrimSpace(out); got != agent {
		t.Errorf("go list -m all in agent = %q, want only %q", got, agent)
	}
}

// TestInstall installs the command as a user does, from a proxy that serves both modules at a version.
func TestInstall(t *testing.T) {
	repo := repository(t)
	gobin := t.TempDir()
	env := append(proxy(t, repo), "GOBIN="+gobin, "GOWORK=off", "CGO_ENABLED=0")
	run(t, t.TempDir(), env, "go", "install", "-trimpath", root+"/cmd/sonde@"+version)
	bin := filepath.Join(gobin, "sonde")
	if out := run(t, t.TempDir(), nil, bin, "version"); !strings.Contains(out, version) {
		t.Errorf("sonde version = %q, want it to name %s", out, version)
	}
	static(t, bin)
}

var update = flag.Bool("update", false, "write the tidy go.mod and go.sum")

// TestModTidy runs go mod tidy where it can find the agent's version; in the working tree it could not, as no proxy serves it
// before it is released. go.sum is compared without the agent's lines, whose hashes change with every change of the agent.
func TestModTidy(t *testing.T) {
	repo := repository(t)
	dir := t.TempDir()
	export(t, repo, dir)
	run(t, dir, append(proxy(t, repo), "GOWORK=off"), "go", "mod", "tidy")
	for _, name := range []string{"go.mod", "go.sum"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want = withoutAgent(name, want)
		if *update {
			if err := os.WriteFile(filepath.Join(repo, name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(filepath.Join(repo, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not tidy: go test ./internal/release -run ModTidy -update writes it", name)
		}
	}
}

// withoutAgent drops the agent's lines from a go.sum.
func withoutAgent(name string, data []byte) []byte {
	if name != "go.sum" {
		return data
	}
	var kept []byte
	for line := range bytes.Lines(data) {
		if !bytes.HasPrefix(line, []byte(agent+" ")) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// static fails unless bin is an ELF file that needs no dynamic loader.
func static(t *testing.T, bin string) {
	t.Helper()
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s wants a dynamic loader, want a static binary", bin)
		}
	}
}

// proxy lays out a file module proxy with both modules as they stand in the working tree, and returns an environment that
// asks it first. The module cache of the test's own keeps the machine's free of versions that were never released; what
// the machine's has already is taken from there.
func proxy(t *testing.T, repo string) []string {
	t.Helper()
	dir := t.TempDir()
	tree := t.TempDir()
	export(t, repo, tree)
	writeModule(t, dir, root, tree)
	writeModule(t, dir, agent, filepath.Join(tree, "agent"))

	cache := strings.TrimSpace(run(t, repo, nil, "go", "env", "GOMODCACHE"))
	goproxy := strings.TrimSpace(run(t, repo, nil, "go", "env", "GOPROXY"))
	return []string{
		"GOPROXY=file://" + dir + ",file://" + cache + "/cache/download," + goproxy,
		"GOMODCACHE=" + t.TempDir(),
		"GOFLAGS=-modcacherw",
		"GONOSUMDB=" + root + "," + agent,
	}
}

// writeModule writes the four files of one module version that a proxy serves. Folders with a go.mod of their own are other modules and left out.
func writeModule(t *testing.T, dir, path, tree string) {
	t.Helper()
	at := filepath.Join(dir, filepath.FromSlash(path), "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(tree, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	all := files(t, tree)
	var nested []string
	for _, name := range all {
		if folder, ok := strings.CutSuffix(name, "/go.mod"); ok {
			nested = append(nested, folder+"/")
		}
	}
	for _, name := range all {
		if slices.ContainsFunc(nested, func(folder string) bool { return strings.HasPrefix(name, folder) }) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil {
			t.Fatal(err)
		}
		w, err := zw.Create(path + "@" + version + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"list":            []byte(version + "\n"),
		version + ".info": fmt.Appendf(nil, `{"Version":%q,"Time":"2026-01-01T00:00:00Z"}`, version),
		version + ".mod":  mod,
		version + ".zip":  buf.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(at, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// export copies the files that git tracks, or would, from repo to dir: what a clean clone has, plus what is not committed yet.
func export(t *testing.T, repo, dir string) {
	t.Helper()
	out := run(t, repo, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for _, name := range strings.Split(strings.TrimRight(out, "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(repo, name))
		if os.IsNotExist(err) {
			continue // deleted but not committed
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T, tree string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(tree, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(tree, p)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func repository(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}
