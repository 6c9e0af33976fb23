package catalog

import (
	"slices"
	"testing"
	"time"
)

// TestTheEventOfAnEndIsTheState: an agent says nothing when its process ends; who watches the process tells by an event.
func TestTheEventOfAnEndIsTheState(t *testing.T) {
	exit := func(at int64, attrs ...string) Event {
		e := Event{Time: at, Kind: "exit", Service: "cart", Text: "cart ended", Attrs: map[string]string{"instance": "a"}}
		for i := 0; i < len(attrs); i += 2 {
			e.Attrs[attrs[i]] = attrs[i+1]
		}
		return e
	}
	alive := func(at int64) Process {
		return Process{Instance: "a", Service: "cart", Gatherer: "agent", State: "running", LastSeen: at}
	}
	for _, tc := range []struct {
		name          string
		last          int64 // when it was heard of before
		event         Event
		after         []Process
		state, reason string
		seen          int64
	}{
		{"exit", 600_000, exit(601_000), nil, "exited", "", 601_000},
		{"exit with a code", 600_000, exit(601_000, "exit_code", "3"), nil, "exited", "exit status 3", 601_000},
		{"exit by a signal", 600_000, exit(601_000, "signal", "SIGKILL"), nil, "exited", "killed by SIGKILL", 601_000},
		{"killed for its memory", 600_000, Event{Time: 601_000, Kind: "oom_kill", Service: "cart", Text: "killed", Attrs: map[string]string{"instance": "a"}}, nil, "crashed", "killed", 601_000},
		{"its last window arrives late", 600_000, exit(601_000), []Process{alive(600_900)}, "exited", "", 601_000},
		{"others see that it is gone", 600_000, exit(601_000, "exit_code", "3"), []Process{{Instance: "a", State: "exited", LastSeen: 600_000}}, "exited", "exit status 3", 601_000},
		{"it is heard of later", 600_000, exit(601_000), []Process{alive(630_000)}, "running", "", 630_000},
		{"it was heard of later", 630_000, exit(601_000), nil, "running", "", 630_000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := open(t)
			first := at("a", "n1", 1)
			first.Gatherer, first.State, first.LastSeen = "agent", "running", tc.last
			must(t, db.PutProcesses(t.Context(), []Process{first}))
			must(t, db.AddEvents(t.Context(), []Event{tc.event}))
			must(t, db.PutProcesses(t.Context(), tc.after))
			p, err := db.Process(t.Context(), "a")
			must(t, err)
			if p.State != tc.state || p.Reason != tc.reason || p.LastSeen != tc.seen {
				t.Errorf("%s %q, last seen %d; want %s %q, %d", p.State, p.Reason, p.LastSeen, tc.state, tc.reason, tc.seen)
			}
		})
	}
}

// TestOneEventOfAnEnd: who waits for a process and who watches it tell of the same end.
func TestOneEventOfAnEnd(t *testing.T) {
	watched := Event{Time: 605_000, Kind: "exit", Service: "cart", Text: "cart ended after about 15s", Attrs: map[string]string{"instance": "a", "ran_ms": "10000"}}
	waited := Event{Time: 600_000, Kind: "exit", Service: "cart", Text: "cart ended after 10s, exit status 3", Attrs: map[string]string{"instance": "a", "exit_code": "3"}}
	killed := Event{Time: 602_000, Kind: "oom_kill", Service: "cart", Text: "cart was killed for its memory", Attrs: map[string]string{"instance": "a"}}
	signal := Event{Time: 600_000, Kind: "exit", Service: "cart", Text: "cart was killed by SIGKILL after 10s", Attrs: map[string]string{"instance": "a", "signal": "SIGKILL"}}
	other := Event{Time: 600_000, Kind: "exit", Service: "cart", Text: "another ended", Attrs: map[string]string{"instance": "b"}}
	agents := Event{Time: 599_000, Kind: "exit", Service: "cart", Text: "cart closed its agent after 10s", Attrs: map[string]string{"instance": "a", "by": "agent", "ran_ms": "10000"}}
	later := Event{Time: 900_000, Kind: "exit", Service: "cart", Text: "much later", Attrs: map[string]string{"instance": "a"}}
	for _, tc := range []struct {
		name string
		es   []Event
		want []string
	}{
		{"the better first", []Event{waited, watched}, []string{waited.Text}},
		{"the better last", []Event{watched, waited}, []string{waited.Text}},
		{"its agent's first", []Event{agents, watched}, []string{watched.Text}},
		{"its agent's last", []Event{watched, agents}, []string{watched.Text}},
		{"its agent's alone", []Event{agents, agents}, []string{agents.Text}},
		{"for its memory", []Event{signal, killed}, []string{killed.Text}},
		{"for its memory first", []Event{killed, signal, watched}, []string{killed.Text}},
		{"of two", []Event{watched, other}, []string{watched.Text, other.Text}},
		{"of two times", []Event{watched, later}, []string{later.Text, watched.Text}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := open(t)
			for _, e := range tc.es {
				must(t, db.AddEvents(t.Context(), []Event{e}))
			}
			es, err := db.Events(t.Context(), EventFilter{})
			must(t, err)
			var got []string
			for _, e := range es {
				got = append(got, e.Text)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestWhatRunStartedIsKept: a process that is known from who started it only is kept as long as those that are profiled, and whoever profiles it counts before.
func TestWhatRunStartedIsKept(t *testing.T) {
	db := open(t)
	long := time.Now().UnixMilli() - 2*glimpsed
	run := at("a", "n1", 1)
	run.Gatherer, run.State, run.LastSeen = GathererRun, "running", long
	glimpse := at("b", "n1", 1)
	glimpse.Gatherer, glimpse.State, glimpse.LastSeen = "", "running", long
	must(t, db.PutProcesses(t.Context(), []Process{run, glimpse}))
	must(t, db.Expire(t.Context(), 0, 0, 0))
	ps, err := db.Processes(t.Context(), ProcessFilter{})
	must(t, err)
	if len(ps) != 1 || ps[0].Instance != "a" || ps[0].Gatherer != GathererRun {
		t.Fatalf("kept %+v", ps)
	}
	if n, err := db.AliveByService(t.Context(), 0); err != nil || len(n) != 0 {
		t.Errorf("counted as profiled: %v, %v", n, err)
	}
	for _, step := range []struct {
		name             string
		p                Process
		gatherer, reason string
	}{
		{"discovery looks at it", Process{Instance: "a", State: "running", Reason: "no endpoint", LastSeen: long + 1}, GathererRun, "no endpoint"},
		{"run tells of it again", Process{Instance: "a", State: "running", Gatherer: GathererRun, LastSeen: long + 2}, GathererRun, "no endpoint"},
		{"it is profiled", Process{Instance: "a", State: "running", Gatherer: "perf", LastSeen: long + 3}, "perf", ""},
		{"run tells of it once more", Process{Instance: "a", State: "running", Gatherer: GathererRun, LastSeen: long + 4}, "perf", ""},
		{"it ends", Process{Instance: "a", State: "exited", Gatherer: GathererRun, Reason: "exit status 3", LastSeen: long + 5}, "perf", "exit status 3"},
		{"others see that it is gone", Process{Instance: "a", State: "exited", Gatherer: "perf", LastSeen: long + 6}, "perf", "exit status 3"},
	} {
		must(t, db.PutProcesses(t.Context(), []Process{step.p}))
		p, err := db.Process(t.Context(), "a")
		must(t, err)
		if p.Gatherer != step.gatherer || p.Reason != step.reason {
			t.Errorf("%s: gathered by %q, reason %q; want %q, %q", step.name, p.Gatherer, p.Reason, step.gatherer, step.reason)
		}
	}
}
