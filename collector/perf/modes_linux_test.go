package perf

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-io/sonde/internal/testgo"
)

// cpuTime reads how much CPU a process and its dead threads have taken.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on every architecture that Go has
}

// TestTotalsWithThreadChurn compares the CPU time of the samples with the kernel's account while threads come and go.
func TestTotalsWithThreadChurn(t *testing.T) {
	for _, mode := range []Mode{ModeSystem, ModeProcess} {
		t.Run(string(mode), func(t *testing.T) {
			if mode == ModeSystem {
				needSystem(t)
			}
			needPerf(t)
			r := start(t, Config{Mode: mode, Hz: 499})
			cmd := run(t, busy(t, testgo.Local()), "threads", "60s")
			pid := cmd.Process.Pid
			r.SetTargets([]Target{target(pid, "churn")})
			r.until(60*time.Second, "watching", func() bool { return r.Stats().Watched == 1 })
			before := cpuTime(t, pid)
			after := before
			r.until(90*time.Second, "a second of CPU", func() bool {
				after = cpuTime(t, pid)
				return after-before >= time.Second
			})
			r.stop()
			end := cpuTime(t, pid)
			s := sumOf(r.sink.all(), "churn", "cpu")
			got := time.Duration(s.nanos)
			// What was sampled before and after the two looks is more than the difference and less than all.
			if low, high := (after-before)*85/100, (end-before)*115/100+200*time.Millisecond; got < low || got > high {
				t.Errorf("samples stand for %v, /proc/%d/stat says %v to %v; stats %+v", got, pid, after-before, end-before, r.Stats())
			}
			if s.share("main.(*worker).run") < 0.5 {
				t.Errorf("main.(*worker).run is in %.0f %% of the stacks\n%s", 100*s.share("main.(*worker).run"), s)
			}
			if st := r.Stats(); st.Lost != 0 || st.Malformed != 0 || mode == ModeProcess && st.Events > 200 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

// TestProcessChurn wants the profiles of processes that began after the last scan and lived for a fifth of a second.
func TestProcessChurn(t *testing.T) {
	for _, mode := range []Mode{ModeSystem, ModeProcess} {
		t.Run(string(mode), func(t *testing.T) {
			if mode == ModeSystem {
				needSystem(t)
			}
			needPerf(t)
			program := busy(t, testgo.Local())
			r := start(t, Config{Mode: mode, Describe: func(_ context.Context, pid int) (Target, bool) {
				if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe != program {
					return Target{}, false
				}
				return target(pid, fmt.Sprint("short ", pid)), true
			}})
			parent := run(t, program, "spawn", "300ms", "60s")
			r.SetTargets([]Target{target(parent.Process.Pid, "parent")})
			services := func() (all []string) {
				for _, p := range r.sink.all() {
					if s := p.Process.Service; strings.HasPrefix(s, "short") && !slices.Contains(all, s) {
						all = append(all, s)
					}
				}
				return all
			}
			r.until(60*time.Second, "five short-lived processes", func() bool { return len(services()) >= 5 })
			s := sumOf(r.sink.all(), services()[0], "cpu")
			for _, service := range services()[1:] {
				for _, p := range r.sink.all() {
					if p.Process.Service == service {
						s.add(p.Profiles[0].Data)
					}
				}
			}
			if s.share("main.(*worker).run") < 0.5 {
				t.Errorf("processes of 300 ms:\n%s", s)
			}
			exited := 0
			for _, p := range r.sink.all() {
				if p.Process.State == "exited" {
					exited++
				}
			}
			if exited == 0 {
				t.Error("no process is said to have exited")
			}
			if log := r.log.String(); !strings.Contains(log, "perf watches a process ") || !strings.Contains(log, "reason=exited") {
				t.Errorf("no audit lines:\n%s", log)
			}
		})
	}
}

// TestExecEndsAWatch follows a process that becomes another program.
func TestExecEndsAWatch(t *testing.T) {
	needPerf(t)
	program := busy(t, testgo.Local())
	r := start(t, Config{})
	cmd := run(t, program, "exec", "500ms", "60s")
	r.SetTargets([]Target{target(cmd.Process.Pid, "changes")})
	r.until(60*time.Second, "the end of the first watch", func() bool { return strings.Contains(r.log.String(), "became another program") })
	n := len(r.sink.all())
	r.until(60*time.Second, "a profile of the second", func() bool { return len(r.sink.all()) > n })
	windows := map[string]bool{}
	for _, p := range r.sink.all() {
		key := fmt.Sprint(p.Key.Instance, " ", p.Key.Window)
		if windows[key] {
			t.Errorf("the key %s came twice", key)
		}
		windows[key] = true
	}
}

// TestCgroup samples nothing but a cgroup of its own.
func TestCgroup(t *testing.T) {
	needSystem(t)
	mount := ""
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if _, point, ok := cgroupMount(string(b), "cgroup", "perf_event"); ok {
		mount = point
	} else if _, point, ok := cgroupMount(string(b), "cgroup2", ""); ok {
		mount = point
	} else {
		t.Skip("SKIPPED: " + errNoCgroup.Error())
	}
	dir := filepath.Join(mount, fmt.Sprintf("sonde-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("SKIPPED: no cgroup can be made: %v", err)
	}
	program := busy(t, testgo.Local())
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	inside := run(t, program, "run", "60s")
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(inside.Process.Pid)), 0); err != nil {
		t.Skipf("SKIPPED: no process can be moved into a cgroup: %v", err)
	}
	run(t, program, "run", "60s") // outside
	r := start(t, Config{Mode: ModeCgroup, Hz: 499})
	r.SetTargets([]Target{target(inside.Process.Pid, "inside")})
	r.untilHot("inside")
	if st := r.Stats(); st.Dropped > 5 {
		t.Errorf("%d of %d samples are of other processes", st.Dropped, st.Samples)
	}
	cpus, _ := onlineCPUs()
	if st := r.Stats(); st.Events != 2*len(cpus) {
		t.Errorf("%d events are open, want one and a ring's owner on each of %d CPUs", st.Events, len(cpus))
	}
	wantHot(t, sumOf(r.sink.all(), "inside", "cpu"))
	r.stop()
	_ = inside.Process.Kill()
	_ = inside.Wait()
}

// TestPIDNamespace watches a process that calls itself pid 1.
func TestPIDNamespace(t *testing.T) {
	needSystem(t)
	cmd := exec.Command(busy(t, testgo.Local()), "run", "60s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: making a pid namespace needs CAP_SYS_ADMIN")
	}
	runCommand(t, cmd)
	r := start(t, Config{Hz: 499})
	r.SetTargets([]Target{target(cmd.Process.Pid, "namespaced")})
	r.untilHot("namespaced")
	wantHot(t, sumOf(r.sink.all(), "namespaced", "cpu"))
}

// TestCgo names C functions, of the program and of the C library.
func TestCgo(t *testing.T) {
	needPerf(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("SKIPPED: there is no gcc")
	}
	for _, tc := range []struct {
		name, want string
		flags      []string
	}{
		{"with symbols", "native_spin", []string{"CGO_ENABLED=1"}},
		{"position-independent", "native_spin", []string{"CGO_ENABLED=1", "-buildmode=pie"}},
		{"stripped", "[program]", []string{"CGO_ENABLED=1", "-ldflags=-s -w"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Config{Hz: 499})
			cmd := run(t, busy(t, testgo.Local(), tc.flags...), "cgo", "60s")
			r.SetTargets([]Target{target(cmd.Process.Pid, "cgo")})
			r.until(60*time.Second, "50 samples", func() bool { return sumOf(r.sink.all(), "cgo", "cpu").total >= 50 })
			if s := sumOf(r.sink.all(), "cgo", "cpu"); float64(s.flat[tc.want]) < 0.6*float64(s.total) {
				t.Errorf("%s has %d of %d samples\n%s", tc.want, s.flat[tc.want], s.total, s)
			}
		})
	}
}

// TestOffCPU finds where a thread blocks.
func TestOffCPU(t *testing.T) {
	needSystem(t)
	for _, mode := range []Mode{ModeSystem, ModeProcess} {
		t.Run(string(mode), func(t *testing.T) {
			r := start(t, Config{Mode: mode, OffCPU: true})
			cmd := run(t, busy(t, testgo.Local()), "sleep", "60s")
			r.SetTargets([]Target{target(cmd.Process.Pid, "blocks")})
			r.until(60*time.Second, "three profiles", func() bool { return sumOf(r.sink.all(), "blocks", "offcpu").pushes >= 3 })
			s := sumOf(r.sink.all(), "blocks", "offcpu")
			blocked := int64(0)
			for _, push := range r.sink.all() {
				for _, p := range push.Profiles {
					if p.Type != "offcpu" {
						continue
					}
					one := sumOf(nil, "", "")
					one.add(p.Data)
					for i := range p.Data.Samples {
						x := sumOf(nil, "", "")
						q := *p.Data
						q.Samples, q.Values = q.Samples[i:i+1], q.Row(i)
						x.add(&q)
						if x.cum["main.blockingRead"] > 0 || strings.Contains(fmt.Sprint(x.stacks), "main.blockingRead") {
							blocked += x.nanos
						}
					}
				}
			}
			span := time.Duration(s.last-s.first) * time.Millisecond
			if got := time.Duration(blocked); got < span/2 || got > span*11/10 {
				t.Errorf("main.blockingRead was off the CPU for %v of %v\n%s", got, span, s)
			}
			if n := s.cum["main.blockingRead"]; float64(n) < span.Seconds()*5 {
				t.Errorf("main.blockingRead left the CPU %d times in %v, want some 50 a second\n%s", n, span, s)
			}
		})
	}
}

// TestKernelFrames names functions of the kernel.
func TestKernelFrames(t *testing.T) {
	needSystem(t)
	r := start(t, Config{Kernel: true, Hz: 999})
	if strings.Contains(r.Stats().Refused, "CAP_SYSLOG") {
		t.Skip("SKIPPED: " + r.Stats().Refused)
	}
	cmd := run(t, busy(t, testgo.Local()), "spawn", "1ms", "60s")
	r.SetTargets([]Target{target(cmd.Process.Pid, "kernel")})
	r.until(60*time.Second, "a fork in the kernel", func() bool {
		for name := range sumOf(r.sink.all(), "kernel", "cpu").cum {
			if strings.Contains(name, "do_syscall_64") || strings.Contains(name, "el0_svc") {
				return true
			}
		}
		return false
	})
}
