package testgo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// AllVersions is the environment variable that makes Toolchains return every known version when it is "all".
const AllVersions = "SONDE_TEST_GO"

// toolchains is a patch release of each Go version from 1.18 on but the one that runs the tests.
var toolchains = []string{"go1.18.10", "go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.4", "go1.25.5"}

// usual are those that are tested without AllVersions: each change of layout that matters, oldest and newest.
var usual = []string{"go1.18.10", "go1.21.13", "go1.23.12", "go1.25.5"}

// Local returns the version of Go that the test runs with.
func Local() string { return strings.Fields(runtime.Version())[0] }

// Toolchains returns the Go versions to test on, oldest first, the local one last: five, or all nine with SONDE_TEST_GO=all.
func Toolchains() []string {
	list := usual
	if os.Getenv(AllVersions) == "all" {
		list = toolchains
	}
	return append(append([]string(nil), list...), Local())
}

// Build compiles the main package in dir, which needs no module but the standard library, with a Go version such as "go1.21.13" and returns the
// path of the program. flags are those of go build; an item NAME=value is set in the environment instead ("CGO_ENABLED=1", which is 0
// otherwise). The program is shared: it must not be changed. Where the version cannot be had the test is skipped.
func Build(tb testing.TB, toolchain string, flags []string, dir string) string {
	tb.Helper()
	need(tb, toolchain)
	sum := sha256.New()
	fmt.Fprintf(sum, "1 %s %s %s %q\n", toolchain, runtime.GOOS, runtime.GOARCH, flags)
	if err := hashDir(sum, dir); err != nil {
		tb.Fatalf("hash %s: %v", dir, err)
	}
	cache, err := cacheDir()
	if err != nil {
		tb.Fatalf("find the user's cache directory: %v", err)
	}
	entry := filepath.Join(cache, hex.EncodeToString(sum.Sum(nil))[:32])
	program := filepath.Join(entry, "program")
	if _, err := os.Stat(program); err == nil {
		now := time.Now()
		_ = os.Chtimes(entry, now, now) // only puts off its removal
		return program
	}
	work, err := os.MkdirTemp(cache, "work-")
	if err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(work)
	if err := compile(tb, toolchain, flags, dir, filepath.Join(work, "program")); err != nil {
		tb.Fatalf("compile %s with %s %v: %v", dir, toolchain, flags, err)
	}
	if err := os.Chmod(work, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(work, entry); err != nil {
		if _, raced := os.Stat(program); raced != nil {
			tb.Fatal(err)
		}
	}
	return program
}

// BuildSource is Build for a program of one file.
func BuildSource(tb testing.TB, toolchain string, flags []string, source string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/fixture\n\ngo 1.18\n", "main.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return Build(tb, toolchain, flags, dir)
}

// BuildOldText compiles a program of one file, which may import golang.org/x/text v0.3.5, to path. That module's language.Parse is vulnerable (GO-2021-0113), its unicode/norm is not. Where the module
// cannot be had the test is skipped.
func BuildOldText(tb testing.TB, path, source string, flags ...string) {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range map[string]string{
		"main.go": source,
		"go.mod":  "module example.com/oldtext\n\ngo 1.23\n\nrequire golang.org/x/text v0.3.5\n",
		"go.sum": "golang.org/x/text v0.3.5 h1:i6eZZ+zk0SOf0xgBpEpPD18qWcJda6q1sxt3S0kzyUQ=\ngolang.org/x/text v0.3.5/go.mod h1:5Zoc/QRtKVWzQhOtBMvqHzDpF6irO9z98xDceosuGiQ=\n" +
			"golang.org/x/tools v0.0.0-20180917221912-90fa682c2a6e/go.mod h1:n7NCudcB/nEzxVGmLbDWY5pfWTLqBcC2KZ6jyYvM4mQ=\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	download := goCommand(tb.Context(), Local(), "mod", "download", "golang.org/x/text")
	download.Dir = dir
	if out, err := download.CombinedOutput(); err != nil {
		tb.Skipf("SKIPPED: golang.org/x/text v0.3.5 cannot be had on this machine: %v\n%s", err, out)
	}
	if err := compile(tb, Local(), flags, dir, path); err != nil {
		tb.Fatalf("go build: %v", err)
	}
}

func compile(tb testing.TB, toolchain string, flags []string, dir, out string) error {
	args := []string{"build", "-o", out}
	env := []string{"CGO_ENABLED=0"}
	for _, f := range flags {
		if name, _, ok := strings.Cut(f, "="); ok && !strings.HasPrefix(f, "-") && strings.ToUpper(name) == name {
			env = append(env, f)
		} else {
			args = append(args, f)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := goCommand(ctx, toolchain, append(args, ".")...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, env...)
	start := time.Now()
	b, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(b))
	}
	tb.Logf("compiled with %s %v in %.1f s", toolchain, flags, time.Since(start).Seconds())
	return nil
}

// goCommand is the go command of a version. A cross-compiling or workspace environment of the caller does not reach it.
func goCommand(ctx context.Context, toolchain string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	if toolchain == Local() {
		toolchain = "local"
	}
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+toolchain, "GOWORK=off", "GOFLAGS=-buildvcs=false", "GOOS=", "GOARCH=", "GOEXPERIMENT=")
	return cmd
}

var had sync.Map // version → func() error

// need skips the test where the version cannot be had.
func need(tb testing.TB, toolchain string) {
	tb.Helper()
	once, _ := had.LoadOrStore(toolchain, sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		b, err := goCommand(ctx, toolchain, "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(b))
		}
		if fields := strings.Fields(string(b)); len(fields) < 3 || fields[2] != toolchain {
			return fmt.Errorf("go version says %q", bytes.TrimSpace(b))
		}
		return nil
	}))
	if err := once.(func() error)(); err != nil {
		tb.Skipf("SKIPPED: %s cannot be had on this machine: %v", toolchain, err)
	}
}

func hashDir(w io.Writer, dir string) error {
	return fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s %x\n", path, sha256.Sum256(b))
		return err
	})
}

// cacheDir returns the directory of what was compiled, without what was not used for two weeks.
var cacheDir = sync.OnceValues(func() (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(user, "sonde-testgo")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Programs are run as other users too.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > 14*24*time.Hour {
			_ = os.RemoveAll(filepath.Join(dir, e.Name())) // another process may be at it too
		}
	}
	return dir, nil
})
