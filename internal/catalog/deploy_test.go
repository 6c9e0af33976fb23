package catalog

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// proc is a process of service checkout that starts and is first seen at second at.
func proc(instance, build, version string, at int64) Process {
	return Process{Instance: instance, Service: "checkout", BuildID: build, Version: version, Started: at * 1000, FirstSeen: at * 1000, LastSeen: at * 1000}
}

// seen is a later report of a process.
func seen(instance string, at int64) Process { return Process{Instance: instance, LastSeen: at * 1000} }

func TestDeploys(t *testing.T) {
	const b1, b2 = "1111111111112222", "3333333333334444"
	exited := func(p Process) Process { p.State = "exited"; return p }
	unknownStart := func(p Process) Process { p.Started = 0; return p }
	for _, tc := range []struct {
		name string
		ps   []Process
		want []string // time in s and text
	}{
		{"the first build of a service is none", []Process{proc("a", b1, "v1", 1), proc("b", b1, "v1", 2)}, nil},
		{"a new build", []Process{proc("a", b1, "v1", 1), proc("b", b2, "v2", 60)}, []string{"60 checkout changed from v1 to v2"}},
		{"one event for all replicas", []Process{proc("a", b1, "v1", 1), proc("b", b1, "v1", 1), proc("c", b2, "v2", 60), seen("a", 61), proc("d", b2, "v2", 62)},
			[]string{"60 checkout changed from v1 to v2"}},
		{"an old replica that restarts during a roll-out is none", []Process{proc("a", b1, "v1", 1), proc("b", b2, "v2", 60), seen("a", 90), proc("c", b1, "v1", 100)},
			[]string{"60 checkout changed from v1 to v2"}},
		{"a replica that starts long after is none", []Process{proc("a", b1, "v1", 1), proc("b", b2, "v2", 60), proc("c", b2, "v2", 9000)},
			[]string{"60 checkout changed from v1 to v2"}},
		{"a rollback", []Process{proc("a", b1, "v1", 1), proc("b", b2, "v2", 60), seen("b", 600), proc("c", b1, "v1", 601)},
			[]string{"60 checkout changed from v1 to v2", "601 checkout changed from v2 to v1"}},
		{"a quick rollback after the old ones exited", []Process{proc("a", b1, "v1", 1), exited(seen("a", 59)), proc("b", b2, "v2", 60), seen("b", 70), proc("c", b1, "v1", 71)},
			[]string{"60 checkout changed from v1 to v2", "71 checkout changed from v2 to v1"}},
		{"equal versions", []Process{proc("a", b1, "v1", 1), proc("b", b2, "v1", 60)}, []string{"60 checkout changed from build 111111111111 to build 333333333333"}},
		{"an unknown version", []Process{proc("a", b1, "", 1), proc("b", b2, "v2", 60)}, []string{"60 checkout changed from build 111111111111 to build 333333333333"}},
		{"the version of the build's module", []Process{proc("a", "with-v5", "", 1), proc("b", "with-v6", "", 60)}, []string{"60 checkout changed from v5 to v6"}},
		{"a build that is told later", []Process{proc("a", b1, "v1", 1), proc("b", "", "v2", 60), {Instance: "b", BuildID: b2, LastSeen: 70_000}, seen("b", 80), {Instance: "b", BuildID: b2}},
			[]string{"70 checkout changed from v1 to v2"}},
		{"a process that was started earlier is no news", []Process{proc("a", b2, "v2", 60), {Instance: "b", Service: "checkout", BuildID: b1, Version: "v1", Started: 1000, FirstSeen: 61_000, LastSeen: 61_000}}, nil},
		{"an old replica that started after the new build did is seen first", []Process{proc("a", b1, "v1", 1), proc("b", b1, "v1", 65),
			{Instance: "c", Service: "checkout", BuildID: b2, Version: "v2", Started: 60_000, FirstSeen: 66_000, LastSeen: 66_000}}, []string{"60 checkout changed from v1 to v2"}},
		{"without a start time the first sight counts", []Process{proc("a", b1, "v1", 1), unknownStart(proc("b", b2, "v2", 60))}, []string{"60 checkout changed from v1 to v2"}},
		{"without a service there is none", []Process{proc("a", b1, "v1", 1), {Instance: "b", BuildID: b2}}, nil},
		{"another service", []Process{proc("a", b1, "v1", 1), {Instance: "b", Service: "cart", BuildID: b2}}, nil},
		{"three builds", []Process{proc("a", b1, "v1", 1), proc("b", b2, "v2", 60), proc("c", "b3", "v3", 600)},
			[]string{"60 checkout changed from v1 to v2", "600 checkout changed from v2 to v3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := open(t)
			must(t, db.PutBuilds(t.Context(), []Build{{ID: "with-v5", Version: "v5"}, {ID: "with-v6", Version: "v6"}, {ID: b1, Version: "(devel)"}}))
			for _, p := range tc.ps {
				must(t, db.Register(t.Context(), Registration{Processes: []Process{p}}))
			}
			// All in one transaction makes no difference.
			once := open(t)
			must(t, once.PutBuilds(t.Context(), []Build{{ID: "with-v5", Version: "v5"}, {ID: "with-v6", Version: "v6"}}))
			must(t, once.PutProcesses(t.Context(), tc.ps))
			for name, db := range map[string]*DB{"one by one": db, "at once": once} {
				if got := deploys(t, db); !slices.Equal(got, tc.want) {
					t.Errorf("%s: events %q, want %q", name, got, tc.want)
				}
			}
		})
	}
}

func deploys(t *testing.T, db *DB) (out []string) {
	t.Helper()
	es, err := db.Events(t.Context(), EventFilter{Kind: "deploy", Service: "checkout"})
	must(t, err)
	for _, e := range slices.Backward(es) {
		out = append(out, fmt.Sprintf("%d %s", e.Time/1000, e.Text))
	}
	return out
}

func TestDeployAttributes(t *testing.T) {
	db := open(t)
	must(t, db.PutProcesses(t.Context(), []Process{proc("a", "b1", "v1", 1), proc("b", "b2", "v2", 2)}))
	es, err := db.Events(t.Context(), EventFilter{})
	must(t, err)
	want := map[string]string{"from_build": "b1", "to_build": "b2", "from_version": "v1", "to_version": "v2", "instance": "b"}
	if len(es) != 1 || !maps.Equal(es[0].Attrs, want) {
		t.Errorf("events %+v, want one with %v", es, want)
	}
}
