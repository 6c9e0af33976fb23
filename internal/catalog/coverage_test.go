package catalog

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

func TestFleetProcesses(t *testing.T) {
	db, ctx := open(t), t.Context()
	pod := labels.FromStrings("service_name", "cart", "k8s_node_name", "n1", "k8s_namespace_name", "shop", "k8s_pod_name", "cart-7", "container_id", "c0ffee")
	must(t, db.PutProcesses(ctx, []Process{
		{Instance: "a", Service: "cart", Labels: pod, LabelsHash: "h", BuildID: "b", PID: 1, BootID: "boot", PIDNS: 1 << 63, StartTicks: 9, NSPIDs: []int{7, 1}, Host: "cart-7", Gatherer: "agent", LastSeen: 300},
		{Instance: "b", Service: "api", Host: "n2", Gatherer: "scrape", LastSeen: 400},
		{Instance: "c", Service: "api", Labels: labels.FromStrings("service_name", "api", "host_name", "n3"), Gatherer: "perf", LastSeen: 200},
		{Instance: "d", Service: "api", Gatherer: "agent", Reason: "reached by its agent", LastSeen: 400},
		{Instance: "e", Service: "api", Gatherer: "agent", State: "exited", LastSeen: 400},
	}))
	// A report without labels leaves what is known of the place.
	must(t, db.PutProcesses(ctx, []Process{{Instance: "a", Service: "cart", Gatherer: "agent", State: "running", LastSeen: 500_000}}))
	got, err := db.FleetProcesses(ctx, 250, 10)
	must(t, err)
	var lines []string
	for _, p := range got {
		lines = append(lines, fmt.Sprintf("%s node=%s pod=%s container=%s gatherer=%s", p.Instance, p.Node, p.Pod, p.Container, p.Gatherer))
	}
	want := []string{"a node=n1 pod=shop/cart-7 container=c0ffee gatherer=agent", "b node=n2 pod= container= gatherer=scrape", "d node= pod= container= gatherer=agent", "e node= pod= container= gatherer=agent"}
	if !slices.Equal(lines, want) {
		t.Errorf("fleet:\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if a := got[0]; a.PIDNS != 1<<63 || !slices.Equal(a.NSPIDs, []int{7, 1}) || !a.Labels.IsEmpty() || a.BuildID != "b" {
		t.Errorf("%+v", a)
	}
	if all, err := db.FleetProcesses(ctx, 0, 2); err != nil || len(all) != 2 || all[0].Instance != "a" {
		t.Errorf("limit 2: %+v, %v", all, err)
	}
	ls, err := db.ProcessLabels(ctx, []string{"a", "c", "nobody"}, 1<<20)
	if err != nil || len(ls) != 2 || !labels.Equal(ls["a"], pod) {
		t.Errorf("labels %v, %v", ls, err)
	}
	if ls, err = db.ProcessLabels(ctx, []string{"a", "c"}, 10); err != nil || len(ls) != 0 {
		t.Errorf("labels within 10 bytes: %v, %v", ls, err)
	}
	alive, err := db.AliveByService(ctx, 250)
	if err != nil || !maps.Equal(alive, map[string]int{"cart": 1, "api": 1}) {
		t.Errorf("alive %v, %v", alive, err)
	}
}

// TestCrashedIsTheLastWord: who only sees that a process is gone does not know better than who saw why.
func TestCrashedIsTheLastWord(t *testing.T) {
	db, ctx := open(t), t.Context()
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", Service: "cart", Gatherer: "agent"}}))
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", State: "crashed", Reason: "killed by the OOM killer"}}))
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", State: "exited"}}))
	if p, err := db.Process(ctx, "i"); err != nil || p.State != "crashed" || p.Reason != "killed by the OOM killer" {
		t.Errorf("%+v, %v", p, err)
	}
}

// fleetOf fills the catalogue with n running processes of 300 services on 2,000 nodes.
func fleetOf(t testing.TB, db *DB, n int) {
	t.Helper()
	_, err := db.w.ExecContext(t.Context(), `WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < ?)
		INSERT INTO processes (instance, service, labels, labels_hash, build_id, version, go_version, exe, pid, boot_id, pid_ns, start_ticks, ns_pids, host, gatherer, state, reason, started, first_seen, last_seen, node, pod, container)
		SELECT printf('%032x', n), 'service-' || (n % 300), '{"service_name":"x"}', 'h', 'build' || (n % 300), 'v' || (n % 5), 'go1.26.8', '/app/server', 1, 'boot' || (n % 2000), 4026531836 + n, n, '[1]',
			'host' || n, 'agent', 'running', '', 1, 1, n, 'node' || (n % 2000), 'shop/pod-' || n, printf('%064x', n) FROM i`, n)
	if err != nil {
		t.Fatal(err)
	}
}

// TestFleetIsBounded: what a fleet of 250,000 takes in memory follows from what one process does.
func TestFleetIsBounded(t *testing.T) {
	db := open(t)
	const n, each = 5_000, 1_000
	fleetOf(t, db, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ps, err := db.FleetProcesses(t.Context(), 0, n+1)
	must(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); len(ps) != n || held > n*each {
		t.Errorf("%d processes in %d bytes, want %d in at most %d", len(ps), held, n, n*each)
	}
	runtime.KeepAlive(ps)
}

func BenchmarkFleetProcesses(b *testing.B) {
	const n = 100_000
	db, err := OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "catalog.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	fleetOf(b, db, n)
	for b.Loop() {
		if ps, err := db.FleetProcesses(b.Context(), 0, n+1); err != nil || len(ps) != n {
			b.Fatalf("%d processes, %v", len(ps), err)
		}
	}
}

func TestExpected(t *testing.T) {
	db, ctx := open(t), t.Context()
	now := time.Now().UnixMilli()
	put := func(node string, at int64, report string) {
		t.Helper()
		must(t, db.PutExpected(ctx, Expected{Node: node, Reported: at, Report: []byte(report)}))
	}
	put("n2", now, "two")
	put("n1", now-1000, "one")
	put("n1", now-5000, "late")
	put("gone", now-2*nodeGone, "old")
	read := func(since int64, limit, bytes int) string {
		t.Helper()
		es, err := db.Expected(ctx, since, limit, bytes)
		must(t, err)
		var out []string
		for _, e := range es {
			out = append(out, e.Node+"="+string(e.Report))
		}
		return strings.Join(out, " ")
	}
	for _, tt := range []struct {
		since        int64
		limit, bytes int
		want         string
	}{{0, 10, 100, "gone=old n1=one n2=two"}, {now - 2000, 10, 100, "n1=one n2=two"}, {0, 1, 100, "gone=old"}, {0, 10, 6, "gone=old n1=one"}} {
		if got := read(tt.since, tt.limit, tt.bytes); got != tt.want {
			t.Errorf("since %d, limit %d, %d bytes: %q, want %q", tt.since, tt.limit, tt.bytes, got, tt.want)
		}
	}
	must(t, db.Expire(ctx, 0, 0, 0))
	if got := read(0, 10, 100); got != "n1=one n2=two" {
		t.Errorf("after expiry: %q", got)
	}
	if err := db.PutExpected(ctx, Expected{}); err == nil {
		t.Error("a report of no node is stored")
	}
	put("now", 0, "x")
	if got := read(now-60_000, 10, 100); got != "n1=one n2=two now=x" {
		t.Errorf("a report without a time: %q", got)
	}
}

// TestExpectedIsBounded: whoever makes up names of nodes fills no disk.
func TestExpectedIsBounded(t *testing.T) {
	db, ctx := open(t), t.Context()
	_, err := db.w.ExecContext(ctx, `WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < ?) INSERT INTO expected (node, reported, report) SELECT 'n' || n, 1, x'00' FROM i`, MaxNodes)
	must(t, err)
	if err := db.PutExpected(ctx, Expected{Node: "one more"}); !errors.Is(err, ErrTooMany) {
		t.Errorf("one node more: %v, want ErrTooMany", err)
	}
	must(t, db.PutExpected(ctx, Expected{Node: "n1", Report: make([]byte, 2*longReport)}))
	_, err = db.w.ExecContext(ctx, `DELETE FROM expected WHERE node <> 'n1'`)
	must(t, err)
	maxExpected = 3 * longReport
	defer func() { maxExpected = MaxExpected }()
	if err := db.PutExpected(ctx, Expected{Node: "n2", Report: make([]byte, 2*longReport)}); !errors.Is(err, ErrTooMany) {
		t.Errorf("a long report: %v, want ErrTooMany", err)
	}
	must(t, db.PutExpected(ctx, Expected{Node: "n1", Report: []byte("short again")}))
}
