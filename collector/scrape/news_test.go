package scrape

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
)

// TestNews plays scans and says what Seen is told after each.
func TestNews(t *testing.T) {
	born := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	process := func(instance string, st discover.State, gatherer, reason string) discover.Process {
		return discover.Process{Instance: instance, Service: instance, State: st, Gatherer: gatherer, Reason: reason, Started: born, BuildID: "b1"}
	}
	cart := process("cart", discover.Profiling, "scrape", "")
	failing := process("job", discover.NoEndpoint, "", "no endpoint: it listens on no TCP port")
	denied := process("job", discover.Denied, "", "denied by port rule: 80")
	waiting := process("app", discover.Waiting, "", "has the agent built in")
	agent := process("app", discover.ByAgent, "agent", "")
	self := process("sonde", discover.SelfProcess, "", "is Sonde itself")
	m, err := New(Config{Sink: newMemory(), Host: "testhost"})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		at   time.Duration
		seen []discover.Process
		want []string
	}{
		{time.Second, []discover.Process{cart, failing, waiting, self}, []string{"cart running "}},
		{6 * time.Second, []discover.Process{cart, failing, agent, self}, nil},
		{11 * time.Second, []discover.Process{cart, failing, agent}, []string{"job running no endpoint: it listens on no TCP port"}},
		{16 * time.Second, []discover.Process{cart, denied, agent}, []string{"job running denied by port rule: 80"}},
		{70 * time.Second, []discover.Process{cart, denied, agent}, []string{"cart running "}},
		{75 * time.Second, []discover.Process{denied}, []string{"cart exited "}},
		{80 * time.Second, nil, []string{"job exited "}},
		{85 * time.Second, nil, nil},
	} {
		var got []string
		for _, p := range m.news(discover.Report{Time: born.Add(step.at), Processes: step.seen}) {
			got = append(got, p.Instance+" "+p.State+" "+p.Reason)
			if hidden := strings.HasPrefix(p.Reason, "denied"); hidden != (p.BuildID == "") && p.State == "running" {
				t.Errorf("after %v: %s %q has build %q", step.at, p.Instance, p.Reason, p.BuildID)
			}
			if p.Instance == "cart" && p.FirstSeen != born.Add(time.Second).UnixMilli() {
				t.Errorf("after %v: cart was first seen at %d", step.at, p.FirstSeen)
			}
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("after %v: told %q, want %q", step.at, got, step.want)
		}
	}
}
