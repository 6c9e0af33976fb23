// Package testcorpus finds the corpus of real profiles that the tests of several packages read. Only tests import it.
//
// The corpus is not part of the repository: it is a folder of SERVICE/TYPE/UNIXSECONDS.pb.gz as /debug/pprof of real programs
// served them. Its place is the environment variable SONDE_CORPUS, else ../shared/corpus beside the repository. Where there is
// neither, tests that need it are skipped, with a message that names both.
package testcorpus

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Env names the environment variable that holds the corpus' folder.
const Env = "SONDE_CORPUS"

// File is one profile of the corpus.
type File struct {
	Service string // the folder's name: etcd-go126
	Type    string // cpu, heap, allocs, goroutine, mutex, block
	Path    string
	Seconds int64 // Unix time of the capture, from the file's name
}

// Dir returns the corpus' folder. A set but wrong SONDE_CORPUS fails the test; no corpus at all skips it.
func Dir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(Env); dir != "" {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			t.Fatalf("read corpus: %s=%s is not a folder: %v", Env, dir, err)
		}
		return dir
	}
	root, err := moduleRoot()
	if err != nil {
		t.Fatalf("find repository root: %v", err)
	}
	for {
		dir := filepath.Join(filepath.Dir(root), "shared", "corpus")
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
		// A nested module has its own go.mod: the corpus lies beside the outermost one.
		outer, err := goModAbove(filepath.Dir(root))
		if err != nil {
			break
		}
		root = outer
	}
	t.Skipf("SKIPPED, NOT TESTED: no corpus of real profiles: set %s to its folder, or put it at ../shared/corpus beside the repository", Env)
	return ""
}

// Files returns the profiles of the corpus, ordered by service, type and time.
func Files(t testing.TB) []File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(Dir(t), "*", "*", "*.pb.gz"))
	if err != nil {
		t.Fatalf("list corpus: %v", err)
	}
	var files []File
	for _, p := range paths {
		typeDir := filepath.Dir(p)
		sec, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(p), ".pb.gz"), 10, 64)
		if err != nil {
			continue // SERVICE/other holds single files with names instead of times
		}
		files = append(files, File{Service: filepath.Base(filepath.Dir(typeDir)), Type: filepath.Base(typeDir), Path: p, Seconds: sec})
	}
	if len(files) == 0 {
		t.Fatalf("list corpus: %s holds no SERVICE/TYPE/UNIXSECONDS.pb.gz", Dir(t))
	}
	slices.SortFunc(files, func(a, b File) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Type, b.Type), cmp.Compare(a.Seconds, b.Seconds))
	})
	return files
}

// moduleRoot returns the folder of the go.mod above the working directory, which go test sets to the tested package's.
func moduleRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	return goModAbove(wd)
}

func goModAbove(dir string) (string, error) {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", os.ErrNotExist
		}
		dir = up
	}
}
