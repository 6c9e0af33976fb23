package collector

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/audit"
	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/symbols/build"
)

// A program with an old golang.org/x/text, which calls something of it only if it is told to.
const oldText = `package main

import (
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"

	"golang.org/x/text/%s"
)

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	if os.Getenv("CALL") != "" {
		fmt.Println(call())
	}
	fmt.Println("ready")
	panic(http.Serve(ln, nil))
}

func call() int { %s }
`

// buildOldText compiles the program with a package of x/text to path.
func buildOldText(t *testing.T, path, pkg, call string) *build.Info {
	t.Helper()
	testgo.BuildOldText(t, path, fmt.Sprintf(oldText, pkg, call), "-ldflags=-s -w")
	info, err := build.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// runProgram runs a program until the test ends, and returns once it listens.
func runProgram(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command(path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

// startSidecar runs a sidecar in this process until the function that it returns is called.
func startSidecar(t *testing.T, cfg Config, spread time.Duration) (stop func()) {
	t.Helper()
	log := new(syncBuffer)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- RunSidecar(ctx, cfg, Options{Version: "v9", Ready: func(a string) { ready <- a }, Stdout: log, Stderr: log, functionsSpread: spread})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("sidecar ended: %v\n%s", err, log)
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("sidecar: %v\n%s", err, log)
		}
	}
}

// TestFunctionsOfASidecar has two programs with an old golang.org/x/text run beside a sidecar, one of which has the vulnerable function linked: the collector, which has the binary of
// neither, does not know at first whether it is there, and does once the sidecar has sent what functions they have.
func TestFunctionsOfASidecar(t *testing.T) {
	bins := t.TempDir()
	has := buildOldText(t, filepath.Join(bins, "has"), "language", `t, _ := language.Parse("en"); return len(t.String())`)
	lacks := buildOldText(t, filepath.Join(bins, "lacks"), "unicode/norm", `return len(norm.NFC.String("e"))`)
	db, err := filepath.Abs("../symbols/vulns/testdata/vulndb")
	if err != nil {
		t.Fatal(err)
	}
	runProgram(t, filepath.Join(bins, "has"))
	runProgram(t, filepath.Join(bins, "lacks"))
	checkGoroutines(t, func() {
		cfg := testConfig(t.TempDir())
		cfg.Builds.Database = db
		r := start(t, cfg, nil)

		side := DefaultConfig()
		side.Listen, side.Data, side.Upstream = "127.0.0.1:0", t.TempDir(), r.url
		side.Allow, side.Gather = []string{"path:" + bins + "/*"}, []string{GatherScrape}
		side.ScrapePeriod, side.CPUDuration = Duration(time.Second), 0
		want := func(hasIt, lacksIt string) {
			t.Helper()
			hours, got := 0, map[string]string{}
			for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
				hours++ // a report is kept for half a minute: each is about another time
				var report audit.Report
				r.get(t, fmt.Sprintf("/api/v1/vulns?since=now-%dm", 60+hours), &report)
				for _, v := range report.Vulns {
					if v.ID == "GO-2021-0113" {
						got[v.Build] = v.InBinary + strings.Repeat(" seen", len(v.Seen))
					}
				}
				if got[has.Key()] == hasIt && got[lacks.Key()] == lacksIt {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("in the binaries: %v, want %s of %s and %s of %s\n%s", got, hasIt, has.Key(), lacksIt, lacks.Key(), r.log)
				}
			}
		}
		stop := startSidecar(t, side, 100_000*time.Hour) // it does not come to it
		want("unknown", "unknown")
		stop()
		stop = startSidecar(t, side, time.Millisecond)
		want("yes", "no")
		stop()
		// What a collector was told it knows when it was started again, without the sidecar.
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r = start(t, cfg, nil)
		want("yes", "no")
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
