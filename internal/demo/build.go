package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/sonde-io/sonde/internal/demo/checkout"
	"github.com/sonde-io/sonde/internal/demo/service"
)

// ErrNoGo says that there is no go command to build the second version with.
var ErrNoGo = errors.New("no go command")

const modulePath = "github.com/sonde-io/sonde"

// v2Main is the program around checkout's second version.
const v2Main = `// Command checkout is the second version of the demo's service checkout.
package main

import (
	"fmt"
	"os"

	"` + modulePath + `/internal/demo/checkout"
	"` + modulePath + `/internal/demo/service"
)

func main() {
	if err := service.Main(os.Args[1], checkout.Handler()); err != nil {
		fmt.Fprintln(os.Stderr, "checkout:", err)
		os.Exit(1)
	}
}
`

// BuildCheckout builds the second version of checkout in dir, on one processor and at the lowest priority, and returns the
// path of the program. Its only argument is the address to listen on. The error wraps ErrNoGo where no go command is in PATH.
//
// The sources go into a module of the same path as the first version's, and the compiler is told to record the first version's
// file names, so that a diff of both compares the same functions in the same files.
func BuildCheckout(ctx context.Context, dir string) (exe string, err error) {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("build checkout v2: %w", ErrNoGo)
	}
	if err := writeModule(dir); err != nil {
		return "", fmt.Errorf("build checkout v2: %w", err)
	}
	exe = filepath.Join(dir, "checkout-v2")
	if runtime.GOOS == "windows" {
		exe += ".exe"
	}
	root, trimmed := sourceRoot()
	args := []string{"build", "-p=1", "-tags=checkout_v2", "-buildvcs=false", "-o", exe,
		"-gcflags=" + modulePath + "/...=-trimpath=" + dir + "=>" + root}
	if trimmed {
		args = append(args, "-trimpath")
	}
	cmd := exec.CommandContext(ctx, gocmd, append(args, "./cmd/checkout")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "GOTOOLCHAIN=local", "GOMAXPROCS=1", "CGO_ENABLED=0")
	cmd.SysProcAttr = childAttr()
	cmd.Cancel = func() error { killGroup(cmd.Process); return nil }
	cmd.WaitDelay = time.Second // a compiler that outlives the go command must not hold the pipe
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("build checkout v2: %w", err)
	}
	lowerPriority(cmd.Process)
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("build checkout v2: go build: %w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	return exe, nil
}

func writeModule(dir string) error {
	files := map[string][]byte{
		"go.mod":                           []byte("module " + modulePath + "\n\ngo 1.22\n"),
		"cmd/checkout/main.go":             []byte(v2Main),
		"internal/demo/service/service.go": service.Source,
	}
	entries, err := checkout.Sources.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := checkout.Sources.ReadFile(e.Name())
		if err != nil {
			return err
		}
		files["internal/demo/checkout/"+e.Name()] = data
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// sourceRoot returns the directory that this binary records for its own sources, and whether it was built with -trimpath.
func sourceRoot() (root string, trimmed bool) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return modulePath, true
	}
	return strings.TrimSuffix(file, "/internal/demo/build.go"), !filepath.IsAbs(file)
}
