package discover_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
)

func TestLookDescribesWhatAScanFinds(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{Env: []string{"OTEL_SERVICE_NAME=cart"}})
	s := scanner(t, nil)
	got, err := s.Look(context.Background(), proc.PID)
	if err != nil {
		t.Fatal(err)
	}
	want := find(t, scan(t, s), proc.PID)
	if got.Instance != want.Instance || got.Service != "cart" || got.BuildID != want.BuildID || got.BuildID == "" || got.Cgroup != want.Cgroup || !got.Started.Equal(want.Started) {
		t.Errorf("looked at %+v, scanned %+v", got, want)
	}
	if got.State != discover.NotProbed {
		t.Errorf("state %q", got.State)
	}
	if _, err := s.Look(context.Background(), 1<<22+1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a process that is not there: %v", err)
	}
	if got, err := s.Look(context.Background(), os.Getpid()); err != nil || got.State != discover.SelfProcess {
		t.Errorf("of itself: state %q, %v", got.State, err)
	}
}

// TestLookDoesNotWaitForProbes looks while a scan waits for a port that does not answer.
func TestLookDoesNotWaitForProbes(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-mute=127.0.0.1:0")
	probing := make(chan struct{})
	s := scanner(t, func(c *discover.Config) {
		c.ProbeTimeout = time.Hour
		c.AgentSeen = func(_ string, _, _ uint64, pids []int) bool {
			if pids[0] == proc.PID {
				select {
				case probing <- struct{}{}:
				default:
				}
			}
			return false
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := s.Scan(ctx)
		done <- err
	}()
	<-probing // the scan holds on to the mute port from here on, until it is cancelled
	if _, err := s.Look(context.Background(), os.Getpid()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the scan ended before it was cancelled: %v", err)
	}
}

func TestSampledIsAskedForWhatNothingElseGathersFrom(t *testing.T) {
	file := discovertest.Build(t)
	endpoint := discovertest.Start(t, file, discovertest.Options{}, "-pprof=127.0.0.1:0")
	watched := discovertest.Start(t, file, discovertest.Options{})
	refused := discovertest.Start(t, file, discovertest.Options{}, "-http=127.0.0.1:0")
	off := discovertest.Start(t, file, discovertest.Options{Env: []string{"SONDE_DISABLED=1"}})
	asked := map[int]int{}
	s := scanner(t, func(c *discover.Config) {
		c.Sampled = func(p *discover.Process) (string, string) {
			asked[p.PID]++
			if p.PID == watched.PID {
				return "perf", "without kernel frames"
			}
			return "", "perf needs CAP_PERFMON"
		}
	})
	r := scan(t, s)
	if p := find(t, r, watched.PID); p.State != discover.Profiling || p.Gatherer != "perf" || p.Reason != "without kernel frames" {
		t.Errorf("watched: state %q by %q: %s", p.State, p.Gatherer, p.Reason)
	}
	if p := find(t, r, refused.PID); p.State != discover.NoEndpoint || p.Gatherer != "" || !strings.HasSuffix(p.Reason, "; perf needs CAP_PERFMON") || !strings.HasPrefix(p.Reason, "no endpoint: ") {
		t.Errorf("refused: state %q by %q: %s", p.State, p.Gatherer, p.Reason)
	}
	if p := find(t, r, off.PID); p.State != discover.Denied || asked[off.PID] != 0 {
		t.Errorf("turned off by its owner: state %q, asked %d times", p.State, asked[off.PID])
	}
	if asked[endpoint.PID] != 0 || asked[watched.PID] != 1 {
		t.Errorf("asked %d times for one with an endpoint, %d times for one without", asked[endpoint.PID], asked[watched.PID])
	}
	if p := find(t, scan(t, s), watched.PID); p.Gatherer != "perf" || asked[watched.PID] != 2 {
		t.Errorf("second scan: by %q, asked %d times", p.Gatherer, asked[watched.PID])
	}
}

// TestConditionsOfARealProcess: what it was started with is read where the kernel keeps it.
func TestConditionsOfARealProcess(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{Env: []string{"GOGC=70", "FEATURE_X=on", "DB_PASSWORD=hunter2"}}, "-mute=127.0.0.1:0")
	s := scanner(t, func(c *discover.Config) { c.Env = []string{"FEATURE_*"} })
	got, err := s.Look(context.Background(), proc.PID)
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Conditions; c["env_GOGC"] != "70" || c["env_FEATURE_X"] != "on" || c["env_DB_PASSWORD"] != "" || c["args"] != "-mute=127.0.0.1:0" || c["node_kind"] == "" {
		t.Errorf("conditions %q", c)
	}
	if got.Build.Size == 0 || got.Build.Stripped == "" {
		t.Errorf("build %+v", got.Build)
	}
}
