package inspect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/profiles"
)

// target is a running test program.
type target struct {
	t   testing.TB
	pid int
	in  io.WriteCloser
	out *bufio.Scanner
	url string
}

// start compiles and starts the test program, in the style of build that flags say.
func start(t testing.TB, version string, flags []string, env ...string) *target {
	t.Helper()
	return startProgram(t, testgo.Build(t, version, flags, "testdata/target"), env...)
}

func startProgram(t testing.TB, program string, env ...string) *target {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append([]string{"GOMEMLIMIT=2GiB"}, env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &target{t: t, pid: cmd.Process.Pid, in: in, out: bufio.NewScanner(out)}
}

// do sends commands and waits until they are done.
func (p *target) do(commands ...string) {
	p.t.Helper()
	for _, c := range commands {
		fmt.Fprintln(p.in, c)
		if !p.out.Scan() {
			p.t.Fatalf("the target did not do %q: %v", c, p.out.Err())
		}
		if c == "serve" {
			p.url = "http://" + p.out.Text() + "/debug/pprof/"
		}
	}
}

// get asks the target's own endpoint.
func (p *target) get(path string) []byte {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(p.url + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		p.t.Fatalf("GET %s: %s, %v", path, resp.Status, err)
	}
	return b
}

// profile is a profile that the target's own endpoint answers.
func (p *target) profile(path string) *profiles.Profile {
	p.t.Helper()
	raw := p.get(path)
	raw, err := profiles.Gunzip(nil, raw, 64<<20)
	if err != nil {
		p.t.Fatal(err)
	}
	pr, err := new(profiles.Decoder).Decode(raw, profiles.Limits{})
	if err != nil {
		p.t.Fatal(err)
	}
	return pr
}

// attach opens the target for reading.
func attach(t testing.TB, pid int) *view {
	t.Helper()
	p, err := openProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	id, err := p.exe()
	if err != nil {
		t.Fatal(err)
	}
	im, err := openImage(p, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { im.file.Close() })
	entry, err := p.entry()
	for ; errors.Is(err, errStarting); entry, err = p.entry() {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &view{r: newReader(p), im: im, bias: entry - im.start}
}

// stacks returns the values of a profile by stack, written as functions with lines, innermost first, at most max of them, and numeric labels.
func stacks(p *profiles.Profile, max int) map[string][]int64 {
	out := map[string][]int64{}
	for i, s := range p.Samples {
		var sb strings.Builder
		left := max
		for _, id := range p.LocationIDs[s.Locations.Lo:s.Locations.Hi] {
			l := p.Locations[id]
			for _, ln := range p.Lines[l.Lines.Lo:l.Lines.Hi] {
				if left--; left < 0 {
					break
				}
				f := p.Functions[ln.Function]
				fmt.Fprintf(&sb, "%s:%d\n", f.Name, ln.Line)
			}
		}
		for _, l := range p.Labels[s.Labels.Lo:s.Labels.Hi] {
			if l.Numeric {
				fmt.Fprintf(&sb, "%s=%d", l.Key, l.Num)
			}
		}
		row := out[sb.String()]
		if row == nil {
			row = make([]int64, p.Columns())
			out[sb.String()] = row
		}
		for c, v := range p.Row(i) {
			row[c] += v
		}
	}
	return out
}

// depth is how many frames runtime/pprof keeps of a stack.
func depth(minor uint16) int {
	if minor < 23 {
		return 32
	}
	return 128
}

// wrapper is a function that a go statement or the unwinding of defers puts into stacks, and that tracebacks leave out: before Go 1.22 the compiler
// gives these no telling name.
var wrapper = regexp.MustCompile(`(?m)^(main\.goroutines\.func\d+:\d+\n\z|runtime\.(deferCallSave|runOpenDeferFrame):\d+\n)`)

// withoutWrappersOf returns the stacks without what cannot be told to be a wrapper in that version.
func withoutWrappersOf(minor uint16, m map[string][]int64) map[string][]int64 {
	if minor >= 22 {
		return m
	}
	out := map[string][]int64{}
	for k, v := range m {
		k = wrapper.ReplaceAllString(k, "")
		if out[k] == nil {
			out[k] = make([]int64, len(v))
		}
		for i := range v {
			out[k][i] += v[i]
		}
	}
	return out
}

// of returns the stacks that hold the word.
func of(m map[string][]int64, word string) map[string][]int64 {
	out := map[string][]int64{}
	for k, v := range m {
		if strings.Contains(k, word) {
			out[k] = v
		}
	}
	return out
}

// without returns the stacks that hold none of the words.
func without(m map[string][]int64, words ...string) map[string][]int64 {
	out := map[string][]int64{}
	for k, v := range m {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(k, w) }) {
			out[k] = v
		}
	}
	return out
}

// difference says where two profiles by stack differ, "" where they do not.
func difference(got, want map[string][]int64, equal func(got, want []int64) bool) string {
	var out strings.Builder
	bad := 0
	for k, w := range want {
		if g := got[k]; g == nil || !equal(g, w) {
			if bad++; bad <= 5 {
				fmt.Fprintf(&out, "got %v, the process itself says %v:\n%s\n", g, w, k)
			}
		}
	}
	for k, g := range got {
		if want[k] == nil {
			if bad++; bad <= 5 {
				fmt.Fprintf(&out, "got %v, the process itself says nothing of it:\n%s\n", g, k)
			}
		}
	}
	if bad > 5 {
		fmt.Fprintf(&out, "%d stacks differ of %d", bad, len(want))
	}
	return out.String()
}

// agree calls f until it says that there is no difference: two looks at a process that runs are never at the same moment. What always differs is an error.
func agree(t *testing.T, f func() string) {
	t.Helper()
	diff := ""
	for range 20 {
		if diff = f(); diff == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error(diff)
}

// settle waits until every goroutine that the target started stands where it stays.
func settle(t testing.TB, v *view, want int) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		own, moving := 0, 0
		_, err := v.goroutines(func(g *goroutine) {
			if v.system(g) {
				return
			}
			own++
			if g.status != statusWaiting && g.status != statusSyscall {
				moving++
			}
		})
		if err == nil && own >= want && moving == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d of them moving, %v", own, moving, err)
		}
	}
}

func exactly(got, want []int64) bool { return slices.Equal(got, want) }

// style is a way to build a program that moves or removes what is looked for.
type style struct {
	name  string
	flags []string
}

// styles returns the styles in which a version is tested: position-independent programs, for which the standard library is compiled anew, with the oldest and
// the newest version only, unless all is asked for.
func styles(version string) []style {
	out := []style{{"plain", nil}, {"stripped", []string{"-ldflags=-s -w"}}}
	all := testgo.Toolchains()
	if version == all[0] || version == testgo.Local() || os.Getenv(testgo.AllVersions) == "all" {
		out = append(out, style{"pie", []string{"-buildmode=pie", "-ldflags=-s -w"}})
	}
	if _, err := exec.LookPath("gcc"); err == nil && version == testgo.Local() {
		out = append(out, style{"cgo", []string{"CGO_ENABLED=1", "-ldflags=-s -w"}})
	}
	return out
}

// eachTarget runs a test with each version of Go and style of build.
func eachTarget(t *testing.T, f func(t *testing.T, version string, flags []string)) {
	for _, version := range testgo.Toolchains() {
		for _, s := range styles(version) {
			t.Run(version+"/"+s.name, func(t *testing.T) { f(t, version, s.flags) })
		}
	}
}
