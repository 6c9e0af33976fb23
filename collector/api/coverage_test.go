package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/coverage"
	"github.com/sonde-io/sonde/internal/catalog"
)

type coverageAnswer struct {
	Processes, Pods, Units, Nodes tally
	Gaps                          []gap
	ByService                     []groupTally `json:"by_service"`
	ByNode                        []nodeTally  `json:"by_node"`
}

// TestCoverage has two nodes that report, one that stopped, and agents where no node does.
func TestCoverage(t *testing.T) {
	f := newFixture(t, nil)
	item := func(n int, change func(it *coverage.Item)) coverage.Item {
		it := coverage.Item{Instance: fmt.Sprint("outside-", n), Service: "cart", PID: n, NS: 5, Ticks: uint64(n), Exe: "cart"}
		change(&it)
		return it
	}
	f.report(t, &coverage.Report{V: 1, Node: "n1", Gatherer: "sidecar", Boot: "b1", Namespaces: []uint64{5}, Items: []coverage.Item{
		item(1, func(it *coverage.Item) { it.Pod, it.Gatherer = "shop/cart-1", "perf" }),
		item(2, func(it *coverage.Item) {
			it.Pod, it.Gatherer, it.Partial = "shop/cart-2", "scrape", []string{"heap: memory profiling was linked out", "mutex: the program does not turn mutex profiles on"}
		}),
		item(3, func(it *coverage.Item) { it.Pod, it.Reason = "shop/cart-2", "perf needs CAP_PERFMON: it is missing" }),
		item(4, func(it *coverage.Item) {
			it.Service, it.Unit, it.Reason = "etcd", "etcd.service", "perf needs CAP_PERFMON: it is missing"
		}),
		item(5, func(it *coverage.Item) { it.Reason = "no endpoint: it listens on no TCP port" }), // its agent reports it
		item(6, func(it *coverage.Item) { it.Reason = "denied by uid rule: uid 7" }),
	}}, 20*time.Second)
	f.report(t, &coverage.Report{V: 1, Node: "n2", Gatherer: "sidecar", Boot: "b2", Unknown: 3, Items: []coverage.Item{}}, 20*time.Second)
	f.report(t, &coverage.Report{V: 1, Node: "n3", Gatherer: "sidecar", Boot: "b3", Namespaces: []uint64{5}, Items: []coverage.Item{
		item(7, func(it *coverage.Item) { it.Gatherer = "perf" }), item(8, func(it *coverage.Item) { it.Gatherer = "perf" }), item(9, func(it *coverage.Item) { it.Gatherer = "perf" }),
	}}, 20*time.Minute)
	agent := func(instance, boot string, ticks uint64, ago time.Duration) catalog.Process {
		return catalog.Process{Instance: instance, Service: "cart", Labels: labels.FromStrings("service_name", "cart", "k8s_node_name", "n4"), LabelsHash: "h", BootID: boot, StartTicks: ticks, PID: int(ticks),
			Gatherer: "agent", FirstSeen: ms(time.Hour), LastSeen: ms(ago)}
	}
	ended := agent("ended", "b3", 9, 10*time.Minute)
	ended.State = "exited"
	if err := f.cat.PutProcesses(t.Context(), []catalog.Process{
		agent("agent-5", "b1", 5, 10*time.Second), agent("agent-8", "b3", 8, 10*time.Second), ended, // of n1 and n3
		agent("alone", "b4", 1, 10*time.Second), agent("quiet", "b4", 2, 20*time.Minute), // where nothing reports
		{Instance: "outside-1", Service: "cart", BootID: "b1", PIDNS: 5, StartTicks: 1, PID: 1, Host: "n1", Gatherer: "perf", FirstSeen: ms(time.Hour), LastSeen: ms(time.Minute)},
	}); err != nil {
		t.Fatal(err)
	}
	var a coverageAnswer
	f.decode(t, &a, "coverage")
	if want := (coverageAnswer{Processes: tally{10, 5}, Pods: tally{2, 1}, Units: tally{1, 0}, Nodes: tally{3, 2}}); a.Processes != want.Processes || a.Pods != want.Pods || a.Units != want.Units || a.Nodes != want.Nodes {
		t.Errorf("numbers %+v %+v %+v %+v, want %+v", a.Processes, a.Pods, a.Units, a.Nodes, want)
	}
	var gaps []string
	for _, g := range a.Gaps {
		gaps = append(gaps, fmt.Sprintf("%d %v %s on %s", g.Processes, g.Partial, g.Reason, strings.Join(g.Nodes, ",")))
		if g.Cure == "" || len(g.Examples) != min(g.Processes, maxExamples) || g.Examples[0].Text == "" {
			t.Errorf("gap %+v", g)
		}
	}
	want := []string{
		"2 false missing capability CAP_PERFMON on n1", "1 false denied by rule (uid) on n1", "1 false lost: silent, and nobody who can tell saw it end on n4",
		"1 false sidecar lost since " + now.Add(-20*time.Minute).UTC().Format("2006-01-02 15:04 UTC") + " on n3", "1 true memory profiling was linked out on n1",
	}
	if !slices.Equal(gaps, want) {
		t.Errorf("gaps:\n%s\nwant\n%s", strings.Join(gaps, "\n"), strings.Join(want, "\n"))
	}
	var nodes []string
	for _, n := range a.ByNode {
		nodes = append(nodes, fmt.Sprintf("%s %d/%d reports=%v silent=%v unknown=%d", n.Name, n.Watched, n.Expected, n.Reports, n.Silent, n.Unknown))
	}
	if want := []string{"n1 3/6 reports=true silent=false unknown=0", "n3 1/2 reports=true silent=true unknown=0", "n4 1/2 reports=false silent=false unknown=0", "n2 0/0 reports=true silent=false unknown=3"}; !slices.Equal(nodes, want) {
		t.Errorf("nodes:\n%s\nwant\n%s", strings.Join(nodes, "\n"), strings.Join(want, "\n"))
	}
	if len(a.ByService) != 2 || a.ByService[0].Name != "cart" || a.ByService[1].tally != (tally{1, 0}) {
		t.Errorf("services %+v", a.ByService)
	}
	if f.decode(t, &a, "coverage", "service", "etcd"); a.Processes != (tally{1, 0}) {
		t.Errorf("etcd %+v", a.Processes)
	}
	if f.decode(t, &a, "coverage", "node", "n3"); a.Processes != (tally{2, 1}) || a.Nodes != (tally{1, 0}) {
		t.Errorf("n3 %+v %+v", a.Processes, a.Nodes)
	}
	// A node that nobody has heard of for more than an hour is expected no more.
	if f.decode(t, &a, "coverage", "since", "now-10m", "node", "n3"); a.Nodes.Expected != 0 {
		t.Errorf("n3 within 10 minutes: %+v", a.Nodes)
	}
}

// TestSeveralReportersOfANode: sidecars in the pods of one node are one node, silent where one of them is; one that was stopped on purpose is missed by nobody.
func TestSeveralReportersOfANode(t *testing.T) {
	f := newFixture(t, nil)
	for i, ago := range []time.Duration{20 * time.Second, 10 * time.Minute, 30 * time.Second} {
		f.report(t, &coverage.Report{V: 1, Node: fmt.Sprint("pod-", i), Name: "n1", Gatherer: "sidecar", Boot: "b", Items: []coverage.Item{{Instance: fmt.Sprint("i", i), Service: "cart", Gatherer: "perf"}}}, ago)
	}
	f.report(t, &coverage.Report{V: 1, Node: "pod-9", Name: "n2", Gatherer: "sidecar", Left: true, Items: []coverage.Item{}}, time.Hour/2)
	var a coverageAnswer
	f.decode(t, &a, "coverage")
	if len(a.ByNode) != 1 || a.Nodes != (tally{1, 0}) || a.Processes != (tally{3, 2}) {
		t.Fatalf("%+v", a)
	}
	if n := a.ByNode[0]; n.Name != "n1" || !n.Silent || n.Reported != ms(10*time.Minute) || len(a.Gaps) != 1 || a.Gaps[0].Processes != 1 {
		t.Errorf("%+v, gaps %+v", n, a.Gaps)
	}
}

// TestCoverageOfNothing is what a new collector says.
func TestCoverageOfNothing(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Discovery = scan{[]catalog.Process{{Instance: "self", Service: "sonde", State: "running", Reason: "is Sonde itself", LastSeen: ms(0)}}}
	})
	w := f.get(t, "coverage")
	want := fmt.Sprintf(`{"at":%d,"by_node":[],"by_service":[],"gaps":[],"more":false,"nodes":{"expected":0,"watched":0},"pods":{"expected":0,"watched":0},"processes":{"expected":0,"watched":0},"units":{"expected":0,"watched":0}}`, ms(0))
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%d %s, want %s", w.Code, w.Body, want)
	}
}
