package binaries

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sonde-io/sonde/symbols/build"
)

func TestFunctions(t *testing.T) {
	s := open(t, Config{})
	path := compile(t, "-ldflags=-s -w")
	info, err := build.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	has := func(when string) {
		t.Helper()
		table, err := s.Functions(info.Key())
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer table.Close()
		found := false
		table.EachName(func(name string) bool { found = name == "main.inlined"; return !found })
		if !found {
			t.Errorf("%s: main.inlined is not there", when)
		}
	}
	if _, err := s.Functions(info.Key()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a binary that nobody has: %v", err)
	}
	if s.Wanted() != 0 {
		t.Error("the question made a binary wanted")
	}
	local := filepath.Join(t.TempDir(), "local")
	if err := os.Link(path, local); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), local); err != nil {
		t.Fatal(err)
	}
	has("a local process's file")
	// The next process of that id is another program.
	if err := errors.Join(os.Remove(local), os.WriteFile(local, []byte("\x7fELF no more"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Functions(info.Key()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of another file at that path: %v", err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := s.Put(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	has("a copy")
}
