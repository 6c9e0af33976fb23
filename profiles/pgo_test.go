package profiles

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// busyProgram is pgoProgram, which profiles itself for 0.4 s of CPU time.
var busyProgram = strings.NewReplacer(`import "os"`, `import (
	"os"
	"runtime/pprof"
	"syscall"
)

func used() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano()
}`, "func main() { println(hot(1000)) }", `func main() {
	if err := pprof.StartCPUProfile(os.Stdout); err != nil {
		panic(err)
	}
	for end := used() + 400e6; used() < end; {
		hot(100_000)
	}
	pprof.StopCPUProfile()
}`).Replace(pgoProgram)

// TestRealProfileChangesInlining merges what two runs of a program say of themselves, and shows by the compiler's own output that it knows the hot call from it, and inlines it, which it does not
// without. (Only the program's own package is compiled with the profile: with go build -pgo the standard library would be too.)
func TestRealProfileChangesInlining(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: the program asks for its CPU time as Unix does")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": busyProgram, "go.mod": "module pgo.test\n\ngo 1.24\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) (stdout []byte, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0"), &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
		}
		return out.Bytes(), errs.String()
	}
	program := filepath.Join(dir, "program")
	_, without := run("go", "build", "-pgo=off", "-gcflags=-m", "-o", program, ".")
	b := NewBuilder(Type{Profile: "cpu", Sample: "cpu"}, 0, 1000)
	for range 2 {
		raw, _ := run(program)
		p, err := Parse(raw, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(p, p.Column("cpu"), 500); err != nil {
			t.Fatal(err)
		}
	}
	var pgo bytes.Buffer
	if err := WritePGO(&pgo, b.Stacks()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cpu.pgo"), pgo.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	prepared := filepath.Join(dir, "prepared")
	run("go", "tool", "preprofile", "-i", "cpu.pgo", "-o", prepared)
	_, with := run("go", "build", "-pgo=off", "-gcflags=-m=2 -d=pgodebug=1 -pgoprofile="+prepared, "-o", program, ".")
	const inlined = "inlining call to step"
	if strings.Contains(without, inlined) {
		t.Fatalf("step is inlined without a profile: the test proves nothing\n%s", without)
	}
	if !strings.Contains(with, inlined) || !strings.Contains(with, "hot-callsite") {
		t.Errorf("the compiler does not know the hot call, or does not inline it\n%s", with)
	}
	for line := range strings.Lines(with) {
		if strings.Contains(line, "hot") || strings.Contains(line, inlined) {
			t.Log(strings.TrimSpace(line))
		}
	}
}
