package scrape

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

func TestMain(m *testing.M) { os.Exit(discovertest.Main(m)) }

// stored is what a test keeps of a profile: the profile itself is not the sink's to keep.
type stored struct {
	key        catalog.Key
	process    catalog.Process
	typ        string
	labels     map[string]string
	start, end int64
	sums       map[string]int64 // per column
	funcs      []string
}

// memory is a Sink that fails as often as it is told to.
type memory struct {
	mu    sync.Mutex
	got   []stored
	keys  []catalog.Key // of every attempt
	fail  func(try int, key catalog.Key) error
	tries int
}

func newMemory() *memory { return &memory{} }

func (m *memory) Append(_ context.Context, p store.Push) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries++
	m.keys = append(m.keys, p.Key)
	if m.fail != nil {
		if err := m.fail(m.tries, p.Key); err != nil {
			return err
		}
	}
	for _, pr := range p.Profiles {
		s := stored{key: p.Key, process: *p.Process, typ: pr.Type, labels: pr.Labels.Map(), start: pr.Start, end: pr.End, sums: map[string]int64{}}
		for i := range pr.Data.Samples {
			for c, v := range pr.Data.Row(i) {
				s.sums[strings.Clone(pr.Data.SampleTypes[c].Type)] += v
			}
		}
		for _, f := range pr.Data.Functions {
			s.funcs = append(s.funcs, strings.Clone(f.Name))
		}
		m.got = append(m.got, s)
	}
	return nil
}

func (m *memory) of(typ string) []stored {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []stored
	for _, s := range m.got {
		if s.typ == typ {
			out = append(out, s)
		}
	}
	return out
}

// until waits until ok says that something is so. The limit only ends a test that would hang.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// quick is a configuration with periods that a test can wait for.
func quick(sink Sink) Config {
	return Config{
		Sink: sink, Version: "1.2.3", Host: "testhost", ScanPeriod: 50 * time.Millisecond, CPUPeriod: 2 * time.Second,
		CPUDuration: time.Second, Period: 200 * time.Millisecond, Timeout: 5 * time.Second,
	}
}

// run starts a manager; the end of the test, or stop, ends it and checks that nothing is left of it.
func run(t *testing.T, cfg Config, targets ...Target) (m *Manager, stop func()) {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetTargets(targets); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if stacks := discovertest.Leaked("collector/scrape"); stacks != "" {
			t.Errorf("goroutines left behind:\n%s", stacks)
		}
	})
	t.Cleanup(stop)
	return m, stop
}

// scanner sees the targets of these tests and nothing else that runs on the machine.
func scanner(t *testing.T, only *discovertest.Process, seen func() bool) *discover.Scanner {
	t.Helper()
	s, err := discover.New(discover.Config{
		Host:  "testhost",
		Rules: discover.Rules{AllowExes: []string{os.TempDir() + "/sonde-target*/target"}},
		AgentSeen: func(_ string, _, _ uint64, pids []int) bool {
			return pids[0] != only.PID || seen != nil && seen() // other tests' processes are not ours
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func statusOf(m *Manager, pid int) Status {
	i := slices.IndexFunc(m.Status(), func(s Status) bool { return s.PID == pid })
	if i < 0 {
		return Status{}
	}
	return m.Status()[i]
}

func only(m *Manager) Status {
	if st := m.Status(); len(st) > 0 {
		return st[0]
	}
	return Status{}
}
