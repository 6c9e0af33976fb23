package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// oldest is the oldest Go release that the agent supports.
const oldest = "go1.23.12"

// command runs the go command of a toolchain on the agent's module alone.
func command(dir, toolchain string, env []string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off", "GOTOOLCHAIN="+toolchain), env...)
	return cmd.CombinedOutput()
}

// toolchains calls fn with the running release and, where it can be had, the oldest.
func toolchains(t *testing.T, fn func(t *testing.T, toolchain string)) {
	for _, tc := range []string{"local", oldest} {
		t.Run(tc, func(t *testing.T) {
			if out, err := command(".", tc, nil, "version"); err != nil {
				t.Skipf("SKIPPED: toolchain %s is not to be had here, so the agent is NOT tested with it: %v\n%s", tc, err, out)
			}
			fn(t, tc)
		})
	}
}

// TestRealProgram compiles a program that imports the agent, as a user would, and reads what it sent.
func TestRealProgram(t *testing.T) {
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	toolchains(t, func(t *testing.T, toolchain string) {
		dir := t.TempDir()
		src, err := os.ReadFile("testdata/program/main.go")
		if err != nil {
			t.Fatal(err)
		}
		mod := "module example.com/program\n\ngo 1.23\n\nrequire github.com/sonde-io/sonde/agent v0.0.1\n\nreplace github.com/sonde-io/sonde/agent => " + root + "\n"
		for name, data := range map[string]string{"main.go": string(src), "go.mod": mod} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := command(dir, toolchain, nil, "build", "-o", "program", "."); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		c := newCollector(t)
		cmd := exec.Command(filepath.Join(dir, "program"))
		cmd.Env = append(os.Environ(), "SONDE_URL="+c.URL, "OTEL_RESOURCE_ATTRIBUTES=team.name=blue", "GOGC=150", instanceVariable+"="+goldenInstance+":"+strconv.Itoa(os.Getpid()))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("run: %v\n%s", err, out)
		}
		// Two of the agent's own and the one of runtime/pprof: nothing is sent yet, so there is no connection.
		if got := strings.TrimSpace(string(out)); got != "goroutines 3" {
			t.Errorf("the program says %q, want 3 goroutines and not a word more", got)
		}
		checkProgramPush(t, c.stored(), toolchain)
	})
}

func checkProgramPush(t *testing.T, pushes []push, toolchain string) {
	t.Helper()
	if len(pushes) != 1 {
		t.Fatalf("%d pushes, want the one of Close", len(pushes))
	}
	p := pushes[0]
	for typ, function := range map[Type]string{CPU: "main.hotLoop", Heap: "main.keepMemory", Goroutine: "main.waitForever", Mutex: "main.fightForLock", Block: "main.fightForLock"} {
		if !hasString(p.data[typ], function) {
			t.Errorf("%s profile (%d bytes) does not show %s; skipped: %v", typ, len(p.data[typ]), function, p.meta.Stats.Skipped)
		}
	}
	if p.meta.Instance != goldenInstance {
		t.Errorf("instance %s, want the one that its launcher chose", p.meta.Instance)
	}
	got := readSeries(t, p.data[metricsPart])
	for _, name := range []string{"go_goroutines", "go_gc_heap_live_bytes", "go_memstats_alloc_bytes", "process_cpu_seconds_total"} {
		if s := got[name].Samples; len(s) != 2 || s[1].V <= 0 {
			t.Errorf("%s is %v, want a reading of the start and one of Close", name, s)
		}
	}
	if s := got["go_gc_pauses_seconds"].Histograms; len(s) != 2 || s[1].Count <= s[0].Count {
		t.Errorf("the pauses of the program's collections: %+v", s)
	}
	proc := p.process
	if proc.Conditions["gogc"] != "150" || proc.Conditions["env_GOGC"] != "150" || proc.Conditions["args"] != "" {
		t.Errorf("conditions %v", proc.Conditions)
	}
	if toolchain != "local" && proc.GoVersion != toolchain {
		t.Errorf("built with %s, want %s", proc.GoVersion, toolchain)
	}
	if proc.Labels["service_name"] != "program" || proc.Labels["team_name"] != "blue" || !strings.Contains(proc.BuildInfo, "example.com/program") || strings.Count(proc.GoBuildID, "/") != 3 {
		t.Errorf("process %+v", proc)
	}
}

// TestOldestGoVets vets the agent and its tests on this system with the oldest Go. The tests themselves run there with
// GOWORK=off GOTOOLCHAIN=go1.23.12 go test -short ./...
func TestOldestGoVets(t *testing.T) {
	if out, err := command(".", oldest, nil, "version"); err != nil {
		t.Skipf("SKIPPED: toolchain %s is not to be had here, so the agent is NOT vetted with it: %v\n%s", oldest, err, out)
	}
	if out, err := command(".", oldest, nil, "vet", "./..."); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestEverySystemBuilds takes minutes on a cold build cache; -short leaves it out. It vets the agent and its tests for each supported system with the newest and the oldest Go.
func TestEverySystemBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED by -short: the agent is NOT built for other systems")
	}
	toolchains(t, func(t *testing.T, toolchain string) {
		targets := []string{"darwin/arm64", "windows/amd64"}
		if toolchain != "local" {
			targets = []string{"linux/386"} // each further system compiles the standard library once more
		}
		for _, target := range targets {
			goos, goarch, _ := strings.Cut(target, "/")
			if out, err := command(".", toolchain, []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"}, "vet", "./..."); err != nil {
				t.Errorf("%s: %v\n%s", target, err, out)
			}
		}
	})
}

// TestNoRequirements keeps the promise that importing the agent moves no version in a user's go.mod.
func TestNoRequirements(t *testing.T) {
	out, err := command(".", "local", nil, "list", "-m", "all")
	if err != nil || strings.TrimSpace(string(out)) != "github.com/sonde-io/sonde/agent" {
		t.Errorf("modules: %v\n%s", err, out)
	}
	out, err = command(".", "local", nil, "list", "-deps", "-test", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...")
	if err != nil {
		t.Fatalf("list imports: %v\n%s", err, out)
	}
	for _, path := range strings.Fields(string(out)) {
		if !strings.HasPrefix(path, "github.com/sonde-io/sonde/agent") && !strings.HasPrefix(path, "[") {
			t.Errorf("imports %s", path)
		}
	}
}
