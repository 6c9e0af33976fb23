package api

import (
	"context"
	"fmt"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/coverage"
	"github.com/sonde-io/sonde/internal/catalog"
)

// fleetAnswer is what /api/v1/processes says.
type fleetAnswer struct {
	Processes         []processJSON
	Next              string
	Total             int
	States, Gatherers map[string]int
	More              bool
}

// row is one process as text.
func (p processJSON) row() string {
	return fmt.Sprintf("%s %s %s %s/%s %s %s", p.Instance, p.Service, strings.Join(p.Gatherers, "+"), p.Node, p.Pod, p.State, p.GoVersion)
}

// TestOneProcessIsOneRow has one process seen by its agent in a container, by perf and discovery of the node's sidecar, and by a vendor's SDK that knows only its pod, and others beside it.
func TestOneProcessIsOneRow(t *testing.T) {
	f := newFixture(t, nil)
	pod := labels.FromStrings("service_name", "cart", "k8s_namespace_name", "shop", "k8s_pod_name", "cart-1", "container_id", "c0ffee")
	node := labels.FromStrings("service_name", "cart", "k8s_namespace_name", "shop", "k8s_pod_name", "cart-1", "container_id", "c0ffee", "k8s_node_name", "n1")
	at := func(p catalog.Process, ago time.Duration) catalog.Process {
		p.FirstSeen, p.LastSeen, p.Service = ms(time.Hour), ms(ago), "cart"
		return p
	}
	err := f.cat.PutProcesses(t.Context(), []catalog.Process{
		at(catalog.Process{Instance: "own", Labels: pod, LabelsHash: "h", PID: 1, BootID: "b", StartTicks: 7, NSPIDs: []int{1}, Host: "cart-1", Gatherer: "agent", Started: ms(2 * time.Hour)}, time.Minute),
		at(catalog.Process{Instance: "outside", Labels: node, PID: 4000, BootID: "b", PIDNS: 99, StartTicks: 7, NSPIDs: []int{4000, 1}, Host: "n1", Gatherer: "perf", GoVersion: "go1.26.8"}, 2*time.Minute),
		at(catalog.Process{Instance: "sender", Labels: pod, Gatherer: "sdk"}, 30*time.Second),
		// The same pid in the pid namespace of another container of the node, and a sender in a pod of two programs of a service.
		at(catalog.Process{Instance: "neighbour", PID: 4001, BootID: "b", PIDNS: 98, StartTicks: 7, NSPIDs: []int{4001, 1}, Gatherer: "scrape"}, time.Minute),
		at(catalog.Process{Instance: "two-1", Labels: labels.FromStrings("k8s_pod_name", "two"), BootID: "b", StartTicks: 1, PID: 1, Gatherer: "perf"}, 0),
		at(catalog.Process{Instance: "two-2", Labels: labels.FromStrings("k8s_pod_name", "two"), BootID: "b", StartTicks: 2, PID: 2, Gatherer: "perf"}, 0),
		at(catalog.Process{Instance: "whose", Labels: labels.FromStrings("k8s_pod_name", "two"), Gatherer: "otlp"}, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	var a fleetAnswer
	f.decode(t, &a, "processes", "sort", "pod")
	var got []string
	for _, p := range a.Processes {
		got = append(got, p.row())
	}
	slices.Sort(got)
	want := []string{
		"neighbour cart scrape / running ",
		"own cart agent+sdk+perf n1/shop/cart-1 running go1.26.8",
		"two-1 cart perf //two running ", "two-2 cart perf //two running ", "whose cart otlp //two running ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("fleet:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	i := slices.IndexFunc(a.Processes, func(p processJSON) bool { return p.Instance == "own" })
	if p := a.Processes[i]; !slices.Equal(p.Instances, []string{"own", "sender", "outside"}) || p.LastSeen != ms(30*time.Second) || p.Uptime != 2*time.Hour.Milliseconds() ||
		p.Gatherer != "agent" || p.PID != 1 || p.Labels.Get("container_id") != "c0ffee" {
		t.Errorf("%+v", p)
	}
	if a.Gatherers["agent"] != 1 || a.Gatherers["perf"] != 2 || a.States["running"] != 5 || a.Total != 5 {
		t.Errorf("counts %+v", a)
	}
}

// TestEndsAreTold: a process that one has seen end and another has heard of since goes on; one that the kernel killed is crashed; one in a namespace that a node looked through is gone.
func TestEndsAreTold(t *testing.T) {
	f := newFixture(t, nil)
	row := func(instance string, ticks uint64, hash, state string, ago time.Duration) catalog.Process {
		return catalog.Process{Instance: instance, Service: "cart", LabelsHash: hash, BootID: "b", PIDNS: 5, StartTicks: ticks, PID: 1, Gatherer: "agent", State: state, FirstSeen: ms(time.Hour), LastSeen: ms(ago)}
	}
	elsewhere := row("elsewhere", 6, "h", "running", 10*time.Minute)
	elsewhere.PIDNS = 6
	if err := f.cat.PutProcesses(t.Context(), []catalog.Process{
		row("a", 1, "h", "running", 10*time.Second), row("a-outside", 1, "", "exited", 3*time.Minute),
		row("b", 2, "h", "running", 4*time.Minute), row("b-outside", 2, "", "exited", 4*time.Minute),
		row("oom", 3, "h", "running", 4*time.Minute), row("oom-outside", 3, "", "exited", 4*time.Minute),
		row("gone", 4, "h", "running", 4*time.Minute),
		row("there", 5, "h", "running", 20*time.Minute), // its agent cannot reach the collector, but the node sees it
		elsewhere,
	}); err != nil {
		t.Fatal(err)
	}
	f.report(t, &coverage.Report{V: 1, Node: "n1", Boot: "b", Namespaces: []uint64{5}, Items: []coverage.Item{{Instance: "there-outside", PID: 1, NS: 5, Ticks: 5, Reason: "no endpoint"}}}, 30*time.Second)
	if err := f.cat.AddEvents(t.Context(), []catalog.Event{{Time: ms(4 * time.Minute), Kind: "oom_kill", Service: "cart", Text: "killed by the OOM killer", Attrs: map[string]string{"instance": "oom-outside"}}}); err != nil {
		t.Fatal(err)
	}
	var a fleetAnswer
	f.decode(t, &a, "processes", "state", "all")
	got := map[string]string{}
	for _, p := range a.Processes {
		got[p.Instance] = p.State
	}
	for instance, want := range map[string]string{"a": "running", "b": "exited", "oom": "crashed", "gone": "exited", "there": "running", "elsewhere": "lost"} {
		if got[instance] != want {
			t.Errorf("%s is %s, want %s", instance, got[instance], want)
		}
	}
	for state, want := range map[string]int{"exited": 2, "crashed": 1, "lost": 1, "running": 2} {
		if f.decode(t, &a, "processes", "state", state); a.Total != want || a.States[state] != want {
			t.Errorf("%d are %s, want %d: %+v", a.Total, state, want, a.States)
		}
	}
}

// TestAnEndIsToldAtOnce: a process of whose end an event tells has ended, though the last scan of its node, which was before, saw it. One that is known from who started it only is not profiled.
func TestAnEndIsToldAtOnce(t *testing.T) {
	f := newFixture(t, nil)
	own := catalog.Process{Instance: "own", Service: "cart", BuildID: "b1", LabelsHash: "h", BootID: "b", PIDNS: 5, StartTicks: 1, PID: 1, Gatherer: "agent", State: "running", FirstSeen: ms(time.Hour), LastSeen: ms(50 * time.Second)}
	run := catalog.Process{Instance: "run", Service: "job", BootID: "c", StartTicks: 2, PID: 2, Gatherer: catalog.GathererRun, State: "running", FirstSeen: ms(time.Hour), LastSeen: ms(10 * time.Second)}
	if err := f.cat.PutProcesses(t.Context(), []catalog.Process{own, run}); err != nil {
		t.Fatal(err)
	}
	f.report(t, &coverage.Report{V: 1, Node: "n1", Boot: "b", Namespaces: []uint64{5}, Items: []coverage.Item{{Instance: "outside", PID: 1, NS: 5, Ticks: 1, Gatherer: "agent"}}}, 40*time.Second)
	if err := f.cat.AddEvents(t.Context(), []catalog.Event{{Time: ms(20 * time.Second), Kind: "exit", Service: "cart", Text: "cart ended", Attrs: map[string]string{"instance": "own"}}}); err != nil {
		t.Fatal(err)
	}
	var a fleetAnswer
	f.decode(t, &a, "processes", "state", "all", "sort", "service")
	if len(a.Processes) != 2 || a.Processes[0].State != "exited" || a.Processes[0].LastSeen != ms(20*time.Second) {
		t.Fatalf("%+v", a.Processes)
	}
	if p := a.Processes[1]; p.State != "running" || p.Gatherer != "" || len(p.Gatherers) != 0 || p.Reason != coverage.OnlyRun {
		t.Errorf("%+v", p)
	}
}

// report stores a node's report of some time ago.
func (f *fixture) report(t testing.TB, r *coverage.Report, ago time.Duration) {
	t.Helper()
	encoded, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cat.PutExpected(t.Context(), catalog.Expected{Node: r.Node, Reported: ms(ago), Report: encoded}); err != nil {
		t.Fatal(err)
	}
}

// manyProcesses is a catalogue of a fleet that is larger than a test would write.
type manyProcesses struct {
	Catalog
	n     int
	asked int
}

func (m *manyProcesses) FleetProcesses(_ context.Context, _ int64, limit int) ([]catalog.FleetProcess, error) {
	m.asked++
	out := make([]catalog.FleetProcess, min(m.n, limit))
	for i := range out {
		out[i] = catalog.FleetProcess{Node: fmt.Sprint("node-", i%2000), Process: catalog.Process{Instance: fmt.Sprintf("%032x", i*2654435761), Service: fmt.Sprint("service-", i%300), Version: fmt.Sprint("v", i%5),
			GoVersion: "go1.26.8", LabelsHash: "h", BootID: fmt.Sprint("boot-", i%2000), StartTicks: uint64(i + 1), PID: 1, Gatherer: "agent", State: "running", Started: ms(time.Duration(i) * time.Second), LastSeen: ms(0)}}
	}
	return out, nil
}

func (m *manyProcesses) ProcessLabels(_ context.Context, instances []string, _ int) (map[string]labels.Labels, error) {
	out := make(map[string]labels.Labels, len(instances))
	for _, id := range instances {
		out[id] = labels.FromStrings("service_instance_id", id)
	}
	return out, nil
}

// TestFleetIsListed lists 100,000 processes page by page: each is in it once, in order, within a bound on memory.
func TestFleetIsListed(t *testing.T) {
	const n, limit = fleetSize, fleetSize / 10
	var many *manyProcesses
	f := newFixture(t, func(c *Config) {
		many = &manyProcesses{Catalog: c.Catalog, n: n}
		c.Catalog = many
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	seen, cursor, pages, last := make(map[string]bool, n), "", 0, int64(0)
	for {
		var a fleetAnswer
		f.decode(t, &a, "processes", "sort", "-started", "limit", fmt.Sprint(limit), "cursor", cursor)
		for _, p := range a.Processes {
			if seen[p.Instance] {
				t.Fatalf("%s is listed twice", p.Instance)
			}
			if last != 0 && p.Started > last {
				t.Fatalf("started %d after %d", p.Started, last)
			}
			seen[p.Instance], last = true, p.Started
		}
		pages++
		if cursor = a.Next; cursor == "" {
			break
		}
		if a.Total != n || len(a.Processes) != limit {
			t.Fatalf("page %d: %d of %d", pages, len(a.Processes), a.Total)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d processes in %d pages, the catalogue was read %d times; %d MiB are held", len(seen), pages, many.asked, (after.HeapAlloc-min(after.HeapAlloc, before.HeapAlloc))>>20)
	if len(seen) != n || pages != 10 || many.asked > 10 {
		t.Errorf("%d processes in %d pages from %d readings", len(seen), pages, many.asked)
	}
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 256<<20 {
		t.Errorf("%d bytes are held, want less than 256 MiB", held)
	}
	if fleetSize < 100_000 {
		return
	}
	// More than the view holds is said.
	many.n = maxFleet + 1
	var a fleetAnswer
	f.decode(t, &a, "processes", "since", "now-2h", "limit", "1")
	if !a.More || a.Total != maxFleet {
		t.Errorf("of more than %d: %d, more %v", maxFleet, a.Total, a.More)
	}
}

func TestProcessFilters(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 12 {
		gatherer, reason := []string{"agent", "scrape", "perf", ""}[i%4], ""
		if gatherer == "" {
			reason = "no endpoint: it listens on no TCP port"
		}
		if err := f.cat.PutProcesses(t.Context(), []catalog.Process{{Instance: fmt.Sprint("i", i), Service: []string{"cart", "web"}[i%2], Version: fmt.Sprint("v", i%3), GoVersion: []string{"go1.25.5", "go1.26.8"}[i/6],
			Host: fmt.Sprint("n", i%3), PID: 100 - i, Gatherer: gatherer, Reason: reason, FirstSeen: ms(time.Hour), LastSeen: ms(time.Duration(i) * time.Second)}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		kv   string
		want string
	}{
		{"service=cart&sort=pid", "i10 i8 i6 i4 i2 i0"},
		{"node=n1&sort=-last_seen", "i1 i4 i7 i10"},
		{"gatherer=perf&sort=last_seen", "i10 i6 i2"},
		{"gatherer=none&sort=-pid", "i3 i7 i11"},
		{"version=v2&go_version=go1.26.8&sort=pid", "i11 i8"},
		{"search=TCP&sort=pid", "i11 i7 i3"},
		{"service=cart&node=n0", "i0 i6"},
		{"service=nosuch", ""},
	} {
		var parts []string
		for kv := range strings.SplitSeq(tt.kv, "&") {
			k, v, _ := strings.Cut(kv, "=")
			parts = append(parts, k, v)
		}
		var a fleetAnswer
		f.decode(t, &a, "processes", parts...)
		var got []string
		for _, p := range a.Processes {
			got = append(got, p.Instance)
		}
		if strings.Join(got, " ") != tt.want || a.Total != len(got) {
			t.Errorf("%s: %v of %d, want %s", tt.kv, got, a.Total, tt.want)
		}
	}
	// Pages of two in every order give what one page gives.
	for column := range sortings {
		for _, by := range []string{column, "-" + column} {
			var whole, part fleetAnswer
			f.decode(t, &whole, "processes", "sort", by)
			var got []string
			for cursor := ""; ; cursor = part.Next {
				part = fleetAnswer{}
				f.decode(t, &part, "processes", "sort", by, "limit", "2", "cursor", cursor)
				for _, p := range part.Processes {
					got = append(got, p.Instance)
				}
				if part.Next == "" {
					break
				}
			}
			if len(got) != 12 || !slices.EqualFunc(got, whole.Processes, func(id string, p processJSON) bool { return id == p.Instance }) {
				t.Errorf("sorted by %s in pages: %v", by, got)
			}
		}
	}
	var a fleetAnswer
	f.decode(t, &a, "processes", "limit", "1", "sort", "pid")
	for query, want := range map[string]string{
		"sort=nothing": "none of gatherer, go_version", "cursor=x!": "earlier answer", "cursor=" + a.Next: "sorted by", "limit=0": "limit", "limit=10001": "limit", "state=gone": "state",
		"cursor=" + strings.Repeat("a", maxCursor+1): "earlier answer",
	} {
		w := httptest.NewRecorder()
		f.mux.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/processes?"+query, nil))
		if w.Code != 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%.60s: %d %s, want 400 with %q", query, w.Code, w.Body, want)
		}
	}
}
