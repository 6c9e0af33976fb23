package perf

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/testgo"
)

// TestHotFunctionsOfEachVersion wants the hot functions by name, the inlined one too, from stripped and position-independent programs.
func TestHotFunctionsOfEachVersion(t *testing.T) {
	needPerf(t)
	outer := t
	r := start(t, Config{Hz: 499})
	shapes := []struct {
		name  string
		flags []string
	}{{"plain", nil}, {"stripped", []string{"-ldflags=-s -w", "-trimpath"}}, {"pie", []string{"-buildmode=pie", "-ldflags=-s -w"}}}
	var ts []Target
	for _, version := range testgo.Toolchains() {
		for _, shape := range shapes {
			service := version + " " + shape.name
			t.Run("start "+service, func(t *testing.T) {
				program := busy(t, version, shape.flags...)
				cmd := run(outer, program, "run", "60s")
				ts = append(ts, target(cmd.Process.Pid, service))
			})
		}
	}
	r.SetTargets(ts)
	for _, target := range ts {
		service := target.Process.Service
		t.Run(service, func(t *testing.T) {
			r.t = t
			r.untilHot(service)
			_ = syscall.Kill(target.PID, syscall.SIGKILL) // the others shall have its CPU
			wantHot(t, sumOf(r.sink.all(), service, "cpu"))
		})
	}
}

// untilHot waits until the profiles of "busy run" have what wantHot counts: how long that takes depends on what else the machine does.
func (r *rig) untilHot(service string) {
	r.t.Helper()
	r.until(60*time.Second, "samples of "+service, func() bool {
		s := sumOf(r.sink.all(), service, "cpu")
		whole, _ := leafStacks(s)
		return s.total >= 50 && s.flat["main.mix"] >= 3 && whole >= 3
	})
}

// wantHot checks a profile of "busy run". The rest of the samples are the runtime's own threads, of which there are more where CPUs are scarce.
func wantHot(t *testing.T, s *sum) {
	t.Helper()
	hot := s.flat["main.mix"] + s.flat["main.hotLoop"] + s.flat["main.leaf"] + s.flat["main.callsLeaf"]
	if float64(hot) < 0.6*float64(s.total) {
		t.Errorf("the hot functions have %d of %d samples\n%s", hot, s.total, s)
	}
	if !s.inlined["main.mix"] || s.flat["main.mix"] == 0 {
		t.Errorf("main.mix was not seen inlined into main.hotLoop\n%s", s)
	}
	for _, name := range []string{"main.(*worker).run", "main.main", "runtime.main"} {
		if s.share(name) < 0.6 {
			t.Errorf("%s is in %.0f %% of the stacks\n%s", name, 100*s.share(name), s)
		}
	}
	// leaf has no frame of its own: without repair its caller is missing from all of them.
	if whole, broken := leafStacks(s); whole == 0 || broken > whole/3+1 {
		t.Errorf("of the samples in main.leaf %d name its caller and %d do not\n%s", whole, broken, s)
	}
}

// leafStacks counts the samples in main.leaf that name its caller, and those that do not.
func leafStacks(s *sum) (whole, broken int64) {
	for stack, n := range s.stacks {
		switch {
		case strings.HasPrefix(stack, "main.leaf < main.callsLeaf < main.(*worker).run"):
			whole += n
		case strings.HasPrefix(stack, "main.leaf"):
			broken += n
		}
	}
	return whole, broken
}
