package inspect

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/testgo"
)

// calls are who may call the functions of the program that churn; "" is nobody: a goroutine begins with it.
var calls = compileCalls(map[string]string{
	`main\.churnDeep`:              `main\.churnDeep|main\.churn\.func1\.1`,
	`main\.churn\.func1\.1`:        `|main\.churn\.func1\.\d+`, // before Go 1.22 a wrapper with such a name calls it
	`main\.churnDeep\.func1`:       `|main\.churnDeep\.func\d+`,
	`main\.churn\.func[12]`:        `|main\.churn\.func\d+`,
	`main\.inlinedDeeper`:          `main\.inlinedReceive`,
	`main\.inlinedReceive`:         `main\.receive`,
	`main\.(receive|selects|send)`: ``,
})

type call struct{ callee, caller *regexp.Regexp }

func compileCalls(m map[string]string) (out []call) {
	for callee, caller := range m {
		out = append(out, call{regexp.MustCompile("^(?:" + callee + ")$"), regexp.MustCompile("^(?:" + caller + ")$")})
	}
	return out
}

// A program that starts and ends goroutines of all depths, collects garbage and moves stacks all the time: what is read of it may be incomplete, but no stack may
// hold a call that the program does not have, and what stands still must be there every time.
func TestChurn(t *testing.T) {
	for _, version := range testgo.Toolchains() {
		t.Run(version, func(t *testing.T) {
			p := start(t, version, []string{"-ldflags=-s -w"}, "TARGET_RATE=4096")
			p.do("goroutines", "allocate")
			v := attach(t, p.pid)
			settle(t, v, 30)
			p.do("churn")
			var rounds, seen, unknown, cut int
			for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end) || rounds < 20; rounds++ {
				v.r = newReader(v.r.mem)
				selects := 0
				st, err := v.goroutines(func(g *goroutine) {
					if v.system(g) || !g.known {
						return
					}
					if !g.whole {
						cut++
					}
					names := namesOf(v, g)
					if len(names) > 0 && strings.Contains(strings.Join(names, " "), "main.selects") {
						selects++
					}
					if wrong := wrongCall(names); wrong != "" {
						t.Errorf("%s in goroutine %d, %s %s:\n%s", wrong, g.id, statusNames[g.status], g.reason, strings.Join(names, "\n"))
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if selects != 3 {
					t.Errorf("%d of 3 goroutines that stand still", selects)
				}
				seen, unknown = seen+st.seen, unknown+st.unknown
				if _, _, err := v.heapProfile(); err != nil {
					t.Fatal(err)
				}
				if t.Failed() {
					return
				}
			}
			t.Logf("%d snapshots of %d goroutines, %d without a stack, %d cut", rounds, seen, unknown, cut)
			if cut > seen/100 {
				t.Errorf("%d of %d stacks do not reach to where the goroutine began", cut, seen)
			}
			// What never gives anything back is not kept either.
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > 64<<20 {
				t.Errorf("%d MiB in use after it", m.HeapAlloc>>20)
			}
		})
	}
}

// namesOf returns the functions of a goroutine, innermost first.
func namesOf(v *view, g *goroutine) (names []string) {
	for _, f := range g.frames {
		s := v.im.siteAt(f.pc-v.bias, f.ret)
		if s == nil {
			names = append(names, fmt.Sprintf("%#x", f.pc))
			continue
		}
		for _, fr := range s.frames {
			names = append(names, fr.Func)
		}
	}
	return names
}

// wrongCall returns the first call that the program does not have.
func wrongCall(names []string) string {
	for i, name := range names {
		caller := ""
		if i+1 < len(names) {
			caller = names[i+1]
		}
		if !strings.HasPrefix(name, "main.") {
			continue
		}
		for _, c := range calls {
			if c.callee.MatchString(name) && !c.caller.MatchString(caller) {
				return fmt.Sprintf("%q calls %s", caller, name)
			}
		}
	}
	return ""
}

// BenchmarkSnapshot reads a process with many parked goroutines: CPU time of one snapshot, of the profile and of its bytes.
func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := start(b, testgo.Local(), []string{"-ldflags=-s -w"})
			p.do(fmt.Sprintf("park %d", n))
			v := attach(b, p.pid)
			b.ReportAllocs()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			began := threadCPU()
			for b.Loop() {
				v.r = newReader(v.r.mem)
				got, st, err := v.goroutineProfile()
				if err != nil || st.seen < n || len(got.Samples) == 0 {
					b.Fatal(st, err)
				}
			}
			b.ReportMetric(float64((threadCPU()-began).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
		})
	}
	b.Run("heap", func(b *testing.B) {
		p := start(b, testgo.Local(), []string{"-ldflags=-s -w"}, "TARGET_RATE=4096")
		p.do("allocate", "gc")
		v := attach(b, p.pid)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		began := threadCPU()
		for b.Loop() {
			v.r = newReader(v.r.mem)
			if _, _, err := v.heapProfile(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((threadCPU()-began).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
	})
}
