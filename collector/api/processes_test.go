package api

import (
	"maps"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

type scan struct{ ps []catalog.Process }

func (s scan) Processes() []catalog.Process { return s.ps }
func (s scan) Summary() string              { return "2 Go processes, profiling 1, 1 has no endpoint" }

// TestProcesses lists what the catalogue and discovery know together, in the states that they are in by now.
func TestProcesses(t *testing.T) {
	const ns = 4026531836
	seen := scan{[]catalog.Process{
		{Instance: "node-view-of-i4", Service: "api", PID: 4000, BootID: "b", PIDNS: ns, StartTicks: 7, NSPIDs: []int{4000, 1}, State: "running", Gatherer: "agent", LastSeen: ms(0)},
		{Instance: "n2", Service: "billing", PID: 12, BootID: "b", PIDNS: ns, StartTicks: 9, State: "running", Reason: "no endpoint", LastSeen: ms(0)},
		{Instance: "i5", Service: "api", PID: 13, State: "running", Reason: "denied", LastSeen: ms(0)},
	}}
	f := filled(t, func(c *Config) { c.Discovery = seen })
	at := func(instance, gatherer, state, reason string, ago time.Duration) catalog.Process {
		return catalog.Process{Instance: instance, Service: "batch", State: state, Reason: reason, Gatherer: gatherer, FirstSeen: ms(ago), LastSeen: ms(ago)}
	}
	here := func(p catalog.Process, ticks uint64) catalog.Process {
		p.BootID, p.PIDNS, p.StartTicks, p.PID = "b", ns, ticks, int(ticks)
		return p
	}
	err := f.cat.PutProcesses(t.Context(), []catalog.Process{
		// The same process, as its own agent in a container tells it.
		{Instance: "i4", Service: "api", PID: 1, BootID: "b", StartTicks: 7, NSPIDs: []int{1}, LabelsHash: "h", State: "running", Gatherer: "agent", FirstSeen: ms(time.Minute), LastSeen: ms(time.Minute)},
		// Written by discovery before the agent's first push.
		{Instance: "node-view-of-i4", Service: "api", PID: 4000, BootID: "b", PIDNS: ns, StartTicks: 7, NSPIDs: []int{4000, 1}, State: "running", FirstSeen: ms(time.Minute), LastSeen: ms(time.Minute)},
		{Instance: "i5", Service: "api", PID: 13, State: "running", Gatherer: "scrape", FirstSeen: ms(time.Minute), LastSeen: ms(time.Minute)},
		{Instance: "old", Service: "api", State: "exited", Gatherer: "agent", FirstSeen: ms(50 * time.Hour), LastSeen: ms(49 * time.Hour)},
		at("done", "agent", "exited", "", 4*time.Minute), at("longdone", "agent", "exited", "", 6*time.Minute),
		at("vet", "", "exited", "", time.Minute),
		at("mute", "agent", "running", "", 11*time.Minute),
		here(at("pushing", "agent", "running", "", 50*time.Second), 21), // hidden from discovery, say
		here(at("missed", "scrape", "running", "", 2*time.Minute), 22),  // ended while the collector was down
		here(at("missedjob", "", "running", "no endpoint", 2*time.Minute), 23),
	})
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Processes []processJSON
		Summary   string
	}
	type row struct{ service, gatherer, state, reason string }
	always := map[string]row{
		"i2": {"cart", "agent", "running", ""}, "i3": {"web", "agent", "running", ""}, "i4": {"api", "agent", "running", ""},
		"n2": {"billing", "", "running", "no endpoint"}, "i5": {"api", "scrape", "running", "denied"}, "pushing": {"batch", "agent", "running", ""},
	}
	with := func(base, more map[string]row) map[string]row {
		m := maps.Clone(base)
		maps.Copy(m, more)
		return m
	}
	recent := with(always, map[string]row{
		"i1":   {"cart", "agent", "lost", "silent since 11:52:15 UTC, and nobody who can tell saw it end"}, // said nothing for 8 minutes
		"done": {"batch", "agent", "exited", ""}, "missed": {"batch", "scrape", "exited", ""},
	})
	for _, tt := range []struct {
		name string
		kv   []string
		want map[string]row
	}{
		{"recent", nil, recent},
		{"recent by name", []string{"state", "recent"}, recent},
		{"running", []string{"state", "running"}, always},
		{"all", []string{"state", "all"}, with(recent, map[string]row{
			"longdone": {"batch", "agent", "exited", ""}, "vet": {"batch", "", "exited", ""}, "mute": {"batch", "agent", "lost", "silent since 11:49:00 UTC, and nobody who can tell saw it end"}, "missedjob": {"batch", "", "exited", ""},
		})},
		{"one service", []string{"service", "billing"}, map[string]row{"n2": {"billing", "", "running", "no endpoint"}}},
		{"long ago", []string{"service", "api", "since", "now-3d", "state", "all"}, map[string]row{
			"i4": {"api", "agent", "running", ""}, "i5": {"api", "scrape", "running", "denied"}, "old": {"api", "agent", "exited", ""},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var a answer
			f.decode(t, &a, "processes", tt.kv...)
			if a.Summary != seen.Summary() {
				t.Errorf("summary %q", a.Summary)
			}
			got := map[string]row{}
			for _, p := range a.Processes {
				got[p.Instance] = row{p.Service, p.Gatherer, p.State, p.Reason}
			}
			if len(got) != len(a.Processes) || len(got) != len(tt.want) {
				t.Errorf("%d processes, want %d: %+v", len(a.Processes), len(tt.want), got)
			}
			for i, w := range tt.want {
				if got[i] != w {
					t.Errorf("%s: %+v, want %+v", i, got[i], w)
				}
			}
		})
	}
}
