package perf

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// memory is a Sink that keeps what it is given by instance and type.
type memory struct {
	mu     sync.Mutex
	pushes []store.Push
	came   chan struct{}
	refuse func(store.Push) error
}

func (m *memory) Append(_ context.Context, p store.Push) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		if err := m.refuse(p); err != nil {
			return err
		}
	}
	m.pushes = append(m.pushes, p)
	select {
	case m.came <- struct{}{}:
	default:
	}
	return nil
}

func (m *memory) all() []store.Push {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.pushes)
}

// logBuffer is a log that tests may read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a sampler that runs.
type rig struct {
	*Sampler
	t    *testing.T
	sink *memory
	log  *logBuffer
	stop func()
}

// start runs a sampler until the test ends.
func start(t *testing.T, cfg Config) *rig {
	t.Helper()
	return startWith(t, cfg, func(*Sampler) {})
}

// startWith lets change alter the sampler before it runs.
func startWith(t *testing.T, cfg Config, change func(*Sampler)) *rig {
	t.Helper()
	r := &rig{t: t, sink: &memory{came: make(chan struct{}, 1)}, log: &logBuffer{}}
	if cfg.Sink == nil {
		cfg.Sink = r.sink
	}
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	if cfg.Window == 0 {
		cfg.Window = 300 * time.Millisecond
	}
	if cfg.CPULimit == 0 {
		cfg.CPULimit = -1 // the machine that tests run on is shared
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Sampler = s
	change(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(r.stop)
	return r
}

// needSystem skips the test where system-wide events are refused.
func needSystem(t *testing.T) {
	t.Helper()
	if r := readRights(); !r.system {
		t.Skip("SKIPPED: " + r.text())
	}
}

// needPerf skips the test where no events are allowed.
func needPerf(t *testing.T) {
	t.Helper()
	if r := readRights(); !r.own {
		t.Skip("SKIPPED: " + r.text())
	}
}

// busy compiles the program that is watched.
func busy(t *testing.T, toolchain string, flags ...string) string {
	t.Helper()
	return testgo.Build(t, toolchain, flags, "testdata/busy")
}

// run starts a program and waits until it says that it is ready. It is killed when the test ends.
func run(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	return runCommand(t, exec.Command(program, args...))
}

func runCommand(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready") {
		t.Fatalf("%v says %q, %v", cmd.Args, line, err)
	}
	return cmd
}

// target is the target of a process.
func target(pid int, service string) Target {
	instance := fmt.Sprintf("%032x", pid)
	return Target{PID: pid, Process: catalog.Process{Instance: instance, Service: service, PID: pid, StartTicks: startTicks(pid),
		Labels: labels.FromStrings("service_name", service, "service_instance_id", instance)}}
}

// until waits until ok, which is asked again after each push, and every 50 ms.
func (r *rig) until(d time.Duration, what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(d)
	for !ok() {
		select {
		case <-r.sink.came:
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			r.t.Fatalf("%s: not within %v\nstatus %+v\nstats %+v\nlog:\n%s", what, d, r.Status(), r.Stats(), r.log)
		}
	}
}

// sum adds up what came of a service and type.
type sum struct {
	pushes      int
	flat, cum   map[string]int64 // by function, in the first column
	inlined     map[string]bool  // functions that were seen inlined
	total       int64            // first column
	nanos       int64            // second
	stacks      map[string]int64
	buildIDs    map[string]bool
	first, last int64
}

func sumOf(pushes []store.Push, service, kind string) *sum {
	s := &sum{flat: map[string]int64{}, cum: map[string]int64{}, inlined: map[string]bool{}, stacks: map[string]int64{}, buildIDs: map[string]bool{}}
	for _, push := range pushes {
		if push.Process.Service != service {
			continue
		}
		for _, p := range push.Profiles {
			if p.Type == kind {
				s.pushes++
				s.add(p.Data)
				if s.first == 0 {
					s.first = p.Start
				}
				s.last = p.End
			}
		}
	}
	return s
}

func (s *sum) add(p *profiles.Profile) {
	for _, m := range p.Mappings {
		s.buildIDs[m.BuildID] = true
	}
	for i, sample := range p.Samples {
		v := p.Row(i)
		s.total += v[0]
		s.nanos += v[1]
		seen := map[string]bool{}
		var stack []string
		for j, id := range p.LocationIDs[sample.Locations.Lo:sample.Locations.Hi] {
			l := p.Locations[id]
			for k, line := range p.Lines[l.Lines.Lo:l.Lines.Hi] {
				name := p.Functions[line.Function].Name
				if j == 0 && k == 0 {
					s.flat[name] += v[0]
				}
				if k < l.Lines.Len()-1 {
					s.inlined[name] = true
				}
				seen[name] = true
				stack = append(stack, name)
			}
		}
		for name := range seen {
			s.cum[name] += v[0]
		}
		s.stacks[strings.Join(stack, " < ")] += v[0]
	}
}

func (s *sum) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d pushes, %d samples, %.2f s\n", s.pushes, s.total, float64(s.nanos)/1e9)
	names := slices.SortedFunc(maps.Keys(s.stacks), func(x, y string) int { return int(s.stacks[y] - s.stacks[x]) })
	for _, n := range names[:min(len(names), 15)] {
		fmt.Fprintf(&b, "%6d %s\n", s.stacks[n], n)
	}
	return b.String()
}

// share is the part of all samples that have the function anywhere.
func (s *sum) share(name string) float64 { return float64(s.cum[name]) / float64(max(s.total, 1)) }
