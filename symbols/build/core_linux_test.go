package build

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// crashing is a program that the kernel writes a core of.
const crashing = `package main

func main() { panic("as asked") }
`

// TestReadCore reads the build of programs out of the cores that they leave, and finds what is in their files.
func TestReadCore(t *testing.T) {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || strings.HasPrefix(string(pattern), "|") || strings.Contains(string(pattern), "/") {
		t.Skipf("SKIPPED: cores do not come to the directory of the process: core_pattern is %q, %v", pattern, err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(crashing), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{"plain": nil, "stripped": {"-ldflags=-s -w"}, "pie": {"-buildmode=pie"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			exe := filepath.Join(dir, "crashing")
			build := exec.Command("go", append(append([]string{"build", "-o", exe}, flags...), source)...)
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			crash := exec.Command("sh", "-c", "ulimit -c unlimited && exec ./crashing")
			crash.Dir, crash.Env = dir, append(os.Environ(), "GOTRACEBACK=crash")
			if out, err := crash.CombinedOutput(); err == nil || !strings.Contains(string(out), "as asked") {
				t.Fatalf("the program ended with %v:\n%s", err, out)
			}
			cores, err := filepath.Glob(filepath.Join(dir, "core*"))
			if err != nil || len(cores) != 1 {
				t.Skipf("SKIPPED: the kernel wrote no core (a container may not allow it), so none is read: %v, %v", cores, err)
			}
			want, err := ReadFile(exe)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ReadFile(cores[0])
			if err != nil {
				t.Fatal(err)
			}
			if !got.Core || got.Key() != want.Key() || got.GoBuildID != want.GoBuildID || got.GNUBuildID != want.GNUBuildID || got.GoVersion != want.GoVersion || got.Mod.String() != want.Mod.String() {
				t.Errorf("of the core %+v\nof the file %+v", got, want)
			}
			if got.Size != 0 || got.Stripped != "" {
				t.Errorf("size %d and stripped %q of a file that is not there", got.Size, got.Stripped)
			}
		})
	}
}
