package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// at is a process of service cart, build b1, that starts on a host and is first seen at second at, as discovery sees it.
func at(instance, host string, at int64, conditions ...string) Process {
	p := Process{Instance: instance, Service: "cart", BuildID: "b1", Host: host, BootID: "boot-" + host, StartTicks: uint64(at * 100), PID: 10 + int(at%1000), Gatherer: "perf", State: "running",
		Started: at * 1000, FirstSeen: at*1000 + 500, LastSeen: at*1000 + 500}
	for i := 0; i < len(conditions); i += 2 {
		if p.Conditions == nil {
			p.Conditions = map[string]string{}
		}
		p.Conditions[conditions[i]] = conditions[i+1]
	}
	return p
}

func in(pod string, p Process) Process {
	p.Labels = labels.FromStrings("service_name", p.Service, "k8s_namespace_name", "shop", "k8s_pod_name", pod)
	return p
}

func gone(instance string, at int64) Process {
	return Process{Instance: instance, State: "exited", LastSeen: at * 1000}
}
func crash(instance string, at int64) Process {
	return Process{Instance: instance, State: "crashed", LastSeen: at * 1000}
}

// told are the events of a kind, oldest first: second, text.
func told(t *testing.T, db *DB, kind string) (out []string) {
	t.Helper()
	es, err := db.Events(t.Context(), EventFilter{Kind: kind})
	must(t, err)
	for _, e := range slices.Backward(es) {
		out = append(out, fmt.Sprintf("%d %s", e.Time/1000, e.Text))
	}
	return out
}

func TestRestarts(t *testing.T) {
	for _, tc := range []struct {
		name string
		ps   []Process
		want []string
	}{
		{"on the same host", []Process{at("a", "n1", 1), gone("a", 600), at("b", "n1", 601)}, []string{"601 cart was restarted on n1"}},
		{"after minutes on the same host", []Process{at("a", "n1", 1), gone("a", 600), at("b", "n1", 900)}, []string{"900 cart was restarted on n1"}},
		{"after minutes elsewhere is none", []Process{at("a", "n1", 1), gone("a", 600), at("b", "n2", 900)}, nil},
		{"a pod that another one replaces", []Process{in("cart-1", at("a", "n1", 1)), gone("a", 600), in("cart-2", at("b", "n2", 610))}, []string{"610 cart was restarted on n2"}},
		{"the new pod first", []Process{in("cart-1", at("a", "n1", 1)), in("cart-2", at("b", "n2", 590)), gone("a", 600)}, []string{"590 cart was restarted on n2"}},
		{"another replica is none", []Process{at("a", "n1", 1), at("b", "n1", 600), at("c", "n2", 601)}, nil},
		{"fewer replicas are none", []Process{at("a", "n1", 1), at("b", "n1", 2), gone("a", 600)}, nil},
		{"another build is none", []Process{at("a", "n1", 1), gone("a", 600), func() Process { p := at("b", "n1", 601); p.BuildID = "b2"; return p }()}, nil},
		{"after a crash", []Process{at("a", "n1", 1), crash("a", 600), at("b", "n1", 601)}, []string{"601 cart was restarted on n1, after a crash"}},
		{"a crash loop is one event", []Process{at("a", "n1", 1), crash("a", 600), at("b", "n1", 601), crash("b", 610), at("c", "n1", 620), crash("c", 640), at("d", "n1", 680)},
			[]string{"601 cart was restarted 3 times on n1, after 3 crashes"}},
		{"a roll-out is one event", []Process{at("a", "n1", 1), at("b", "n2", 1), gone("a", 600), at("c", "n1", 601), gone("b", 700), at("d", "n2", 701)},
			[]string{"601 cart was restarted 2 times"}},
		{"what comes and goes is none", []Process{at("a", "n1", 1), gone("a", 20), at("b", "n1", 21)}, nil},
		{"a new build that ends again and again", []Process{at("a", "n1", 1), gone("a", 600), build2(at("b", "n1", 601)), gone("b", 606), build2(at("c", "n1", 607)), gone("c", 612), build2(at("d", "n1", 613)), gone("d", 618), build2(at("e", "n1", 620))},
			[]string{"613 cart was restarted 2 times on n1"}},
		{"the next day's is another", []Process{at("a", "n1", 1), gone("a", 600), at("b", "n1", 601), gone("b", 87000), at("c", "n1", 87001)},
			[]string{"601 cart was restarted on n1", "87001 cart was restarted on n1"}},
		{"one process that two see", []Process{at("a", "n1", 1), as("a2", at("a", "n1", 1)), gone("a", 600), gone("a2", 600), at("b", "n1", 601), as("b2", at("b", "n1", 601))},
			[]string{"601 cart was restarted on n1"}},
		{"one that was found long after its start is none", []Process{at("a", "n1", 1), gone("a", 600), func() Process { p := at("b", "n1", 601); p.FirstSeen = 9e6; return p }()}, nil},
		{"told as ended at once", []Process{at("a", "n1", 1), func() Process { p := at("b", "n1", 2); p.State = "exited"; return p }(), at("c", "n1", 3)}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db, once := open(t), open(t)
			for _, p := range tc.ps {
				must(t, db.Register(t.Context(), Registration{Processes: []Process{p}}))
			}
			must(t, once.PutProcesses(t.Context(), tc.ps))
			for name, db := range map[string]*DB{"one by one": db, "at once": once} {
				if got := told(t, db, "restart"); !slices.Equal(got, tc.want) {
					t.Errorf("%s: %q, want %q", name, got, tc.want)
				}
			}
		})
	}
}

func as(instance string, p Process) Process { p.Instance = instance; return p }

// TestRestartOfAnAgentsProcess: nobody but the event of its end tells that it has ended.
func TestRestartOfAnAgentsProcess(t *testing.T) {
	db := open(t)
	must(t, db.PutProcesses(t.Context(), []Process{at("a", "n1", 1)}))
	must(t, db.AddEvents(t.Context(), []Event{{Time: 600_000, Kind: "oom_kill", Service: "cart", Attrs: map[string]string{"instance": "a"}}}))
	must(t, db.PutProcesses(t.Context(), []Process{at("b", "n1", 601)}))
	must(t, db.AddEvents(t.Context(), []Event{{Time: 602_000, Kind: "exit", Service: "cart", Attrs: map[string]string{"instance": "nobody"}}}))
	if got, want := told(t, db, "restart"), []string{"601 cart was restarted on n1, after a crash"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRestartThatNobodySaw: where an agent fell silent and another process of its kind has come in its place, that was a restart.
func TestRestartThatNobodySaw(t *testing.T) {
	agents := func(p Process, ago, seen int64) Process {
		now := time.Now().UnixMilli()
		p.Gatherer, p.Started, p.FirstSeen, p.LastSeen = "agent", now-ago*1000, now-ago*1000+500, now-seen*1000
		p.StartTicks = uint64(p.Started / 10)
		return p
	}
	for _, tc := range []struct {
		name string
		ps   []Process
		want string
	}{
		{"in the same pod", []Process{in("cart-1", agents(at("a", "n1", 1), 3600, 300)), in("cart-1", agents(at("b", "n1", 2), 290, 1))}, "cart was restarted on n1"},
		{"on the same host", []Process{agents(at("a", "n1", 1), 3600, 300), agents(at("b", "n1", 2), 200, 1)}, "cart was restarted on n1"},
		{"a crash loop", []Process{in("cart-1", agents(at("a", "n1", 1), 3600, 500)), in("cart-1", agents(at("b", "n1", 2), 490, 470)), in("cart-1", agents(at("c", "n1", 3), 440, 420)),
			in("cart-1", agents(at("d", "n1", 4), 360, 1))}, "cart was restarted 3 times on n1"},
		{"a sibling that started before is none", []Process{agents(at("a", "n1", 1), 3600, 300), agents(at("b", "n1", 2), 310, 1)}, ""},
		{"while it is heard of it is none", []Process{agents(at("a", "n1", 1), 3600, 100), agents(at("b", "n1", 2), 90, 1)}, ""},
		{"one that was met a moment ago is none yet", []Process{agents(at("a", "n1", 1), 3600, 300), agents(at("b", "n1", 2), 100, 1)}, ""},
		{"in another pod is none", []Process{in("cart-1", agents(at("a", "n1", 1), 3600, 300)), in("cart-2", agents(at("b", "n1", 2), 290, 1))}, ""},
		{"of another build is none", []Process{agents(at("a", "n1", 1), 3600, 300), build2(agents(at("b", "n1", 2), 290, 1))}, ""},
		{"that another gatherer sees is none", []Process{func() Process { p := agents(at("a", "n1", 1), 3600, 300); p.Gatherer = "scrape"; return p }(), agents(at("b", "n1", 2), 290, 1)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := open(t)
			must(t, db.PutProcesses(t.Context(), tc.ps))
			for range 3 {
				must(t, db.Silent(t.Context()))
			}
			es, err := db.Events(t.Context(), EventFilter{Kind: "restart"})
			must(t, err)
			text := ""
			if len(es) > 0 {
				text = es[0].Text
			}
			if len(es) > 1 || text != tc.want {
				t.Errorf("%+v, want %q", es, tc.want)
			}
			if p, err := db.Process(t.Context(), "a"); err != nil || p.State != "running" {
				t.Errorf("%v, %v: what it is was not for us to say", p.State, err)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	for _, tc := range []struct {
		name string
		ps   []Process
		want []string
	}{
		{"the same again is none", []Process{at("a", "n1", 1, "env_GOGC", "100"), gone("a", 600), at("b", "n1", 601, "env_GOGC", "100")}, nil},
		{"a variable", []Process{at("a", "n1", 1, "env_GOGC", "100"), gone("a", 600), at("b", "n1", 601, "env_GOGC", "50")}, []string{"601 cart was started with GOGC 100 → 50"}},
		{"a variable that was not set", []Process{at("a", "n1", 1, "args", "serve"), gone("a", 600), at("b", "n1", 601, "args", "serve", "env_GOGC", "50")}, []string{"601 cart was started with GOGC (none) → 50"}},
		{"flags", []Process{at("a", "n1", 1, "args", "-cache=1 -v -addr :80"), gone("a", 600), at("b", "n1", 601, "args", `-cache=2 -v --addr "a b"`)},
			[]string{"601 cart was started with flag -addr :80 → a b, flag -cache 1 → 2"}},
		{"limits", []Process{at("a", "n1", 1, "cgroup_memory", "536870912"), gone("a", 600), at("b", "n1", 601, "cgroup_memory", "1073741824", "cgroup_cpu", "0.5")},
			[]string{"601 cart was started with CPU limit none → 0.5, memory limit 512 MiB → 1 GiB"}},
		{"another kind of node", []Process{at("a", "n1", 1, "node_kind", "m6i.large"), gone("a", 600), at("b", "n2", 601, "node_kind", "m7g.large")},
			[]string{"601 cart was started with node m6i.large → m7g.large"}},
		{"what an agent knows besides is none", []Process{at("a", "n1", 1, "env_GOGC", "50"), gone("a", 600), at("b", "n1", 601, "env_GOGC", "50", "gogc", "50", "gomaxprocs", "4")}, nil},
		{"a value in force that follows from a variable is said once", []Process{at("a", "n1", 1, "env_GOGC", "50", "gogc", "50", "gomaxprocs", "4"), gone("a", 600),
			at("b", "n1", 601, "env_GOGC", "60", "gogc", "60", "gomaxprocs", "4")}, []string{"601 cart was started with GOGC 50 → 60"}},
		{"a roll-out is one event", []Process{at("a", "n1", 1, "env_GOGC", "100"), at("b", "n2", 1, "env_GOGC", "100"), seen("a", 600), seen("b", 600), at("c", "n1", 601, "env_GOGC", "50"), gone("a", 602),
			at("d", "n2", 701, "env_GOGC", "50"), gone("b", 702)}, []string{"601 cart was started with GOGC 100 → 50"}},
		{"an old replica that starts again during a roll-out is none", []Process{at("a", "n1", 1, "env_GOGC", "100"), at("b", "n2", 1, "env_GOGC", "100"), gone("a", 600),
			at("c", "n1", 601, "env_GOGC", "50"), gone("b", 650), at("d", "n2", 651, "env_GOGC", "100")}, []string{"601 cart was started with GOGC 100 → 50"}},
		{"taken back", []Process{at("a", "n1", 1, "env_GOGC", "100"), gone("a", 600), at("b", "n1", 601, "env_GOGC", "50"), gone("b", 700), at("c", "n1", 701, "env_GOGC", "100")},
			[]string{"601 cart was started with GOGC 100 → 50", "701 cart was started with GOGC 50 → 100"}},
		{"what ends and starts again after a change is no second one", []Process{at("a", "n1", 1, "env_GOGC", "100"), gone("a", 600), at("b", "n1", 601, "env_GOGC", "50"), gone("b", 606), at("c", "n1", 607, "env_GOGC", "50")},
			[]string{"601 cart was started with GOGC 100 → 50"}},
		{"replicas that differ are none", []Process{at("a", "n1", 1, "args", "-id=1"), at("b", "n2", 2, "args", "-id=2"), at("c", "n3", 3, "args", "-id=3"), gone("b", 900), at("d", "n2", 901, "args", "-id=2"),
			seen("a", 1990), seen("c", 1990), at("e", "n4", 2000, "args", "-id=4")}, nil},
		{"nor with the next build", []Process{at("a", "n1", 1, "args", "-id=1"), at("b", "n2", 2, "args", "-id=2"), at("c", "n3", 3, "args", "-id=3"), build2(at("d", "n1", 100, "args", "-id=1")), gone("a", 101), seen("b", 190), seen("c", 190),
			build2(at("e", "n2", 200, "args", "-id=2"))}, nil},
		{"a job is another with every run", []Process{at("a", "n1", 1, "args", "-day=1"), gone("a", 600), at("b", "n1", 1000, "args", "-day=2"), gone("b", 1600), at("c", "n1", 2000, "args", "-day=3"), gone("c", 2600),
			at("d", "n1", 3000, "args", "-day=4"), gone("d", 3600), at("e", "n1", 4000, "args", "-day=5")}, []string{"1000 cart was started with flag -day 1 → 2", "2000 cart was started with flag -day 2 → 3", "3000 cart was started with flag -day 3 → 4"}},
		{"what comes and goes is none", []Process{at("a", "n1", 1, "args", "x.go"), gone("a", 20), at("b", "n1", 21, "args", "y.go"), gone("b", 40), at("c", "n1", 41, "args", "z.go")}, nil},
		{"a new build with new flags is a deploy alone", []Process{at("a", "n1", 1, "env_GOGC", "100"), gone("a", 600), build2(at("b", "n1", 601, "env_GOGC", "50"))}, nil},
		{"conditions that another gatherer tells", []Process{at("a", "n1", 1, "env_GOGC", "100"), gone("a", 600), at("b", "n1", 601), as("b2", at("b", "n1", 601, "env_GOGC", "50"))},
			[]string{"601 cart was started with GOGC 100 → 50"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := open(t)
			for _, p := range tc.ps {
				must(t, db.Register(t.Context(), Registration{Processes: []Process{p}}))
			}
			if got := told(t, db, "change"); !slices.Equal(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func build2(p Process) Process { p.BuildID = "b2"; return p }

func TestChangeCounts(t *testing.T) {
	db := open(t)
	ps := []Process{at("a", "n1", 1, "env_GOGC", "100"), at("b", "n2", 1, "env_GOGC", "100"), gone("a", 600), at("c", "n1", 601, "env_GOGC", "50"), gone("b", 610), at("d", "n2", 611, "env_GOGC", "50")}
	must(t, db.PutProcesses(t.Context(), ps))
	es, err := db.Events(t.Context(), EventFilter{})
	must(t, err)
	if len(es) != 1 || es[0].Attrs["count"] != "2" || es[0].Attrs["last"] != "611000" || es[0].Attrs["from_env_GOGC"] != "100" || es[0].Attrs["to_env_GOGC"] != "50" || es[0].Attrs["build"] != "b1" {
		t.Errorf("events %+v", es)
	}
	p, err := db.Process(t.Context(), "d")
	must(t, err)
	if p.Conditions["env_GOGC"] != "50" {
		t.Errorf("conditions %v", p.Conditions)
	}
}

// TestManyAtOnce: all replicas of a service, each with a number of its own, come back at once.
func TestManyAtOnce(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 200
	}
	db := open(t)
	var start, end, again []Process
	for i := range n {
		p := at("i"+strconv.Itoa(i), "n1", 1, "env_GOGC", "100", "args", "-id="+strconv.Itoa(i))
		p.PID = i + 1
		start, end = append(start, p), append(end, gone(p.Instance, 600))
		p.Instance, p.BootID, p.Started, p.FirstSeen, p.LastSeen = "again"+strconv.Itoa(i), "boot-2", 700_000, 710_000, 710_000
		again = append(again, p)
	}
	for _, ps := range [][]Process{start, end, again} {
		began := time.Now()
		must(t, db.PutProcesses(t.Context(), ps))
		t.Logf("%d reports in %v", n, time.Since(began).Round(time.Millisecond))
	}
	if got, want := told(t, db, "restart"), []string{fmt.Sprintf("700 cart was restarted %d times on n1", n)}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := told(t, db, "change"); len(got) > 0 {
		t.Errorf("changes %q", got)
	}
}
