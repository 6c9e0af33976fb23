package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

func open(t testing.TB) *DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "catalog.db"))
}

func openAt(t testing.TB, path string) *DB {
	t.Helper()
	db, err := OpenSQLite(t.Context(), path)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func clean(t *testing.T, db *DB) {
	t.Helper()
	problems, err := db.Check(context.Background())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check = %q, %v, want nothing", problems, err)
	}
}

// block is a segment that holds profiles of services that start in [min, max].
func block(id string, level int, minStart, maxStart int64, services ...string) Block {
	b := Block{ID: id, Level: level, Blob: "blobs/" + id, Size: 100, Created: minStart}
	for _, s := range services {
		b.Datasets = append(b.Datasets, Dataset{Service: s, MinStart: minStart, MaxStart: maxStart, MaxEnd: maxStart + 10, Types: []string{"cpu", "heap"}, Profiles: 2})
	}
	return b
}

func register(t testing.TB, db *DB, blocks ...Block) {
	t.Helper()
	for _, b := range blocks {
		must(t, db.Register(t.Context(), Registration{Block: &b}))
	}
}

func ids(bs []Block) string {
	var out []string
	for _, b := range bs {
		out = append(out, b.ID)
	}
	return strings.Join(out, " ")
}

func TestBlocksAreFiltered(t *testing.T) {
	db := open(t)
	a, b, c := block("a", 0, 100, 200, "cart", "pay"), block("b", 0, 200, 300, "cart"), block("c", 1, 100, 400, "pay")
	c.Datasets[0].Types = []string{"goroutine"}
	register(t, db, b, c, a)
	for _, tc := range []struct {
		name string
		f    BlockFilter
		want string
	}{
		{"all", BlockFilter{}, "a b c"},
		{"from is inclusive", BlockFilter{From: 300}, "b c"},
		{"to is exclusive", BlockFilter{To: 200}, "a c"},
		{"range", BlockFilter{From: 201, To: 202}, "b c"},
		{"service", BlockFilter{Services: []string{"cart"}}, "a b"},
		{"services", BlockFilter{Services: []string{"cart", "pay"}}, "a b c"},
		{"type", BlockFilter{Type: "heap"}, "a b"},
		{"level", BlockFilter{Levels: []int{1, 2}}, "c"},
		{"all at once", BlockFilter{From: 1, To: 250, Services: []string{"pay"}, Type: "cpu", Levels: []int{0}}, "a"},
		{"nothing", BlockFilter{From: 401}, ""},
	} {
		got, err := db.Blocks(t.Context(), tc.f)
		if err != nil || ids(got) != tc.want {
			t.Errorf("%s: Blocks = %q, %v, want %q", tc.name, ids(got), err, tc.want)
		}
	}
	all, err := db.Blocks(t.Context(), BlockFilter{})
	must(t, err)
	if !reflect.DeepEqual(all, []Block{a, b, c}) {
		t.Errorf("Blocks = %+v\nwant %+v", all, []Block{a, b, c})
	}
	pay, err := db.Blocks(t.Context(), BlockFilter{Services: []string{"pay"}})
	must(t, err)
	if len(pay[0].Datasets) != 1 || pay[0].Datasets[0].Service != "pay" {
		t.Errorf("datasets = %+v, want those of pay only", pay[0].Datasets)
	}
	clean(t, db)
}

func TestSwap(t *testing.T) {
	db, ctx := open(t), t.Context()
	register(t, db, block("a", 0, 1, 2, "s"), block("b", 0, 1, 2, "s"), block("c", 0, 1, 2, "s"))
	now, err := db.Now(ctx)
	must(t, err)
	must(t, db.Swap(ctx, []string{"a", "b"}, []Block{block("d", 1, 1, 2, "s")}, now.Add(-time.Second)))

	for name, in := range map[string][]string{"an input gone": {"c", "a"}, "an input twice": {"c", "c"}, "an unknown input": {"x"}} {
		err := db.Swap(ctx, in, []Block{block("e", 1, 1, 2, "s")}, now)
		if !errors.Is(err, ErrConflict) {
			t.Errorf("Swap with %s = %v, want ErrConflict", name, err)
		}
	}
	if err := db.Swap(ctx, []string{"c"}, []Block{block("d", 1, 1, 2, "s")}, now); err == nil {
		t.Error("Swap for a block that exists: no error")
	}
	got, err := db.Blocks(ctx, BlockFilter{})
	if err != nil || ids(got) != "c d" {
		t.Errorf("live = %q, %v, want c d: failed swaps change nothing", ids(got), err)
	}

	must(t, db.Swap(ctx, []string{"c"}, nil, now.Add(time.Hour)))
	garbage, err := db.Garbage(ctx, 0)
	if err != nil || !slices.Equal(garbage, []string{"blobs/a", "blobs/b"}) {
		t.Errorf("Garbage = %v, %v, want a and b, c is not due", garbage, err)
	}
	pending, err := db.Pending(ctx)
	if err != nil || !slices.Equal(pending, []string{"blobs/a", "blobs/b", "blobs/c"}) {
		t.Errorf("Pending = %v, %v", pending, err)
	}
	if one, err := db.Garbage(ctx, 1); err != nil || len(one) != 1 {
		t.Errorf("Garbage(1) = %v, %v", one, err)
	}
	must(t, db.Forget(ctx, garbage))
	must(t, db.Forget(ctx, garbage))
	if left, err := db.Garbage(ctx, 10); err != nil || len(left) != 0 {
		t.Errorf("Garbage after Forget = %v, %v", left, err)
	}
	clean(t, db)
}

func TestRegisterIsOneTransaction(t *testing.T) {
	db, ctx := open(t), t.Context()
	b := block("a", 0, 1, 2, "s")
	r := Registration{
		Block: &b, Keys: []Key{{Instance: "i", Window: 7}, {Idempotency: "k"}, {}, {}},
		Processes: []Process{{Instance: "i", Service: "s", BuildID: "b1"}},
		Builds:    []Build{{ID: "b1", Version: "v1"}},
		Events:    []Event{{Kind: "start", Service: "s", Text: "started"}},
	}
	must(t, db.Register(ctx, r))
	b2 := block("b", 0, 1, 2, "s")
	again := Registration{
		Block: &b2, Keys: []Key{{Instance: "i", Window: 8}, {Instance: "i", Window: 7}, {}, {Instance: "i", Window: 8}, {Idempotency: "k"}, {Idempotency: "l"}, {Idempotency: "l"}},
		Processes: []Process{{Instance: "j", Service: "s"}}, Builds: []Build{{ID: "b2"}}, Events: []Event{{Kind: "start"}},
	}
	err := db.Register(ctx, again)
	var dup *DuplicateError
	if !errors.As(err, &dup) || !errors.Is(err, ErrDuplicate) || !slices.Equal(dup.Keys, []int{1, 3, 4, 6}) {
		t.Fatalf("Register = %v (%+v), want duplicates 1 3 4 6", err, dup)
	}
	blocks, err := db.Blocks(ctx, BlockFilter{})
	must(t, err)
	if ids(blocks) != "a" {
		t.Errorf("live = %q after a duplicate, want a", ids(blocks))
	}
	if _, err := db.Process(ctx, "j"); !errors.Is(err, ErrNotFound) {
		t.Errorf("process of a duplicate = %v, want ErrNotFound", err)
	}
	if _, err := db.Build(ctx, "b2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("build of a duplicate = %v, want ErrNotFound", err)
	}
	events, err := db.Events(ctx, EventFilter{})
	if err != nil || len(events) != 1 || events[0].ID != 1 {
		t.Errorf("Events = %+v, %v, want one", events, err)
	}
	seen, err := db.Seen(ctx, []Key{{Instance: "i", Window: 7}, {Instance: "i", Window: 8}, {Instance: "i", Window: 7, Part: 1}, {Idempotency: "k"}, {Idempotency: "l"}, {}})
	if err != nil || !slices.Equal(seen, []bool{true, false, false, true, false, false}) {
		t.Errorf("Seen = %v, %v", seen, err)
	}
	again.Keys = []Key{{Instance: "i", Window: 8}, {Instance: "i", Window: 7, Part: 1}, {Idempotency: "l"}}
	must(t, db.Register(ctx, again))
	if err := db.Register(ctx, Registration{Keys: []Key{{Instance: "i"}}}); err == nil || errors.Is(err, ErrDuplicate) {
		t.Errorf("Register of window 0 = %v, want an error that is no duplicate", err)
	}
	clean(t, db)
}

func TestProcessIsUpserted(t *testing.T) {
	db, ctx := open(t), t.Context()
	full := Process{
		Instance: "i", Service: "cart", Labels: labels.FromStrings("service_name", "cart", "zone", `"ä`), LabelsHash: "h", BuildID: "b", Version: "v1",
		GoVersion: "go1.26.0", Exe: "/app/cart", PID: 7, BootID: "boot", PIDNS: 1 << 63, StartTicks: 123, NSPIDs: []int{7, 1}, Host: "n1", Gatherer: "agent",
		State: "running", Started: 50, FirstSeen: 100, LastSeen: 200,
	}
	must(t, db.PutProcesses(ctx, []Process{full}))
	check := func(want Process) {
		t.Helper()
		got, err := db.Process(ctx, "i")
		must(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("process\n%+v, want\n%+v", got, want)
		}
	}
	check(full)
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", LastSeen: 150, FirstSeen: 90}}))
	full.FirstSeen = 90
	check(full)
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", LastSeen: 300, FirstSeen: 300, State: "exited", Reason: "rival"}}))
	full.LastSeen, full.State, full.Reason = 300, "exited", "rival"
	check(full)
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", LastSeen: 300, Gatherer: "scrape"}}))
	full.Gatherer, full.Reason = "scrape", ""
	check(full)

	must(t, db.PutProcesses(ctx, []Process{{Instance: "new", Service: "pay"}}))
	p, err := db.Process(ctx, "new")
	must(t, err)
	if p.State != "running" || p.LastSeen == 0 || p.FirstSeen != p.LastSeen || p.LastSeen > time.Now().UnixMilli() || !p.Labels.IsEmpty() {
		t.Errorf("a bare process became %+v", p)
	}
	for _, tc := range []struct {
		f    ProcessFilter
		want string
	}{
		{ProcessFilter{}, "new i"}, {ProcessFilter{Service: "cart"}, "i"}, {ProcessFilter{Since: 301}, "new"}, {ProcessFilter{Since: 300}, "new i"},
		{ProcessFilter{Limit: 1}, "new"}, {ProcessFilter{Instance: "i"}, "i"}, {ProcessFilter{Instance: "i", Service: "pay"}, ""},
	} {
		ps, err := db.Processes(ctx, tc.f)
		must(t, err)
		var got []string
		for _, p := range ps {
			got = append(got, p.Instance)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("Processes(%+v) = %q, want %q", tc.f, s, tc.want)
		}
	}
	if err := db.PutProcesses(ctx, []Process{{Service: "x"}}); err == nil {
		t.Error("a process without an instance: no error")
	}
}

func TestBuilds(t *testing.T) {
	db, ctx := open(t), t.Context()
	b := Build{ID: "b1", GoBuildID: "go/1", GNUBuildID: "b1", GoVersion: "go1.26.0", Module: "m", Version: "v1", Info: "path\tm\n", FirstSeen: 5}
	must(t, db.PutBuilds(ctx, []Build{{ID: "b2", FirstSeen: 9}, b}))
	must(t, db.PutBuilds(ctx, []Build{{ID: "b1", Version: "other"}, {ID: "b3"}}))
	got, err := db.Build(ctx, "b1")
	if err != nil || got != b {
		t.Errorf("Build = %+v, %v, want %+v", got, err, b)
	}
	if b3, err := db.Build(ctx, "b3"); err != nil || b3.FirstSeen == 0 {
		t.Errorf("Build without a time = %+v, %v, want the clock's", b3, err)
	}
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", Service: "s", BuildID: "b2"}, {Instance: "j", Service: "s", BuildID: "b1"}}))
	for service, want := range map[string]string{"": "b1 b2 b3", "s": "b1 b2", "x": ""} {
		bs, err := db.Builds(ctx, service)
		must(t, err)
		var got []string
		for _, b := range bs {
			got = append(got, b.ID)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("Builds(%q) = %q, want %q", service, s, want)
		}
	}
}

// TestGlimpsedProcesses: those that were never profiled are forgotten minutes after they were last seen, those that were keep their time.
func TestGlimpsedProcesses(t *testing.T) {
	db, ctx := open(t), t.Context()
	now, err := db.Now(ctx)
	must(t, err)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
	must(t, db.PutProcesses(ctx, []Process{
		{Instance: "compile", State: "running", Reason: "no endpoint", LastSeen: ago(11 * time.Minute)},
		{Instance: "vet", State: "exited", LastSeen: ago(11 * time.Minute)},
		{Instance: "daemon", State: "running", Reason: "no endpoint", LastSeen: ago(time.Minute)},
		{Instance: "cart", State: "running", Gatherer: "agent", LastSeen: ago(2 * time.Hour)},
		{Instance: "old", State: "exited", Gatherer: "agent", LastSeen: ago(4 * time.Hour)},
	}))
	must(t, db.Expire(ctx, 0, ago(3*time.Hour), 0))
	ps, err := db.Processes(ctx, ProcessFilter{})
	must(t, err)
	var got []string
	for _, p := range ps {
		got = append(got, p.Instance)
	}
	if !slices.Equal(got, []string{"daemon", "cart"}) {
		t.Errorf("left %q, want daemon and cart", got)
	}
}

func TestModules(t *testing.T) {
	db, ctx := open(t), t.Context()
	must(t, db.PutBuilds(ctx, []Build{{ID: "b1", Module: "m/b"}, {ID: "b2", Module: "m/a"}, {ID: "b3", Module: "m/a"}, {ID: "b4"}, {ID: "b5", Module: "m/c"}}))
	for i, id := range []string{"b1", "b2", "b3", "b4"} {
		must(t, db.PutProcesses(ctx, []Process{{Instance: id, Service: []string{"cart", "cart", "web", "web"}[i], BuildID: id}}))
	}
	for _, tc := range []struct {
		service string
		limit   int
		want    []string
	}{{"", 9, []string{"m/a", "m/b", "m/c"}}, {"", 2, []string{"m/a", "m/b"}}, {"cart", 9, []string{"m/a", "m/b"}}, {"web", 9, []string{"m/a"}}, {"none", 9, nil}} {
		if got, err := db.Modules(ctx, tc.service, tc.limit); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("Modules(%q, %d) = %q, %v; want %q", tc.service, tc.limit, got, err, tc.want)
		}
	}
}

func TestBuildsExpireWithTheirProcesses(t *testing.T) {
	db, ctx := open(t), t.Context()
	must(t, db.PutBuilds(ctx, []Build{{ID: "gone", FirstSeen: 50}, {ID: "runs", FirstSeen: 50}, {ID: "young", FirstSeen: 150}}))
	must(t, db.PutProcesses(ctx, []Process{{Instance: "old", BuildID: "gone", Gatherer: "agent", LastSeen: 60}, {Instance: "i", BuildID: "runs", Gatherer: "agent", LastSeen: 200}}))
	must(t, db.Expire(ctx, 0, 100, 0))
	for id, want := range map[string]error{"gone": ErrNotFound, "runs": nil, "young": nil} {
		if _, err := db.Build(ctx, id); !errors.Is(err, want) {
			t.Errorf("build %s: %v, want %v", id, err, want)
		}
	}
}

func TestProcessesBounded(t *testing.T) {
	db, ctx := open(t), t.Context()
	put := func(i int, service, version, boot, gatherer string, first, last int64) {
		ls := labels.FromStrings("pad", strings.Repeat("x", 1000), "service_name", service)
		must(t, db.PutProcesses(ctx, []Process{{Instance: fmt.Sprint(i), Service: service, Version: version, BootID: boot, Gatherer: gatherer, Labels: ls, FirstSeen: first, LastSeen: last}}))
	}
	put(1, "cart", "v1", "b1", "agent", 100, 200)
	put(2, "cart", "v1", "b2", "scrape", 100, 300)
	put(3, "cart", "v2", "b2", "agent", 150, 400)
	put(4, "web", "", "b2", "agent", 500, 600)
	put(5, "vet", "", "b2", "", 100, 700)
	for _, tc := range []struct {
		f    ProcessFilter
		want string
	}{{ProcessFilter{}, "5 4 3 2 1"}, {ProcessFilter{BootID: "b1"}, "1"}, {ProcessFilter{MaxBytes: 1}, "5"}, {ProcessFilter{MaxBytes: 2500}, "5 4 3"}, {ProcessFilter{MaxBytes: 1 << 20}, "5 4 3 2 1"}} {
		ps, err := db.Processes(ctx, tc.f)
		must(t, err)
		var got []string
		for _, p := range ps {
			got = append(got, p.Instance)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("Processes(%+v): %s, want %s", tc.f, s, tc.want)
		}
	}
	got, err := db.Versions(ctx, 200, 500)
	if want := []ServiceVersion{{"cart", "v1", 2}, {"cart", "v2", 1}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Versions = %+v, %v; want %+v", got, err, want)
	}
}

// TestExitTakesTheReasonBack: why it is not profiled is no news of a process that has ended.
func TestExitTakesTheReasonBack(t *testing.T) {
	db, ctx := open(t), t.Context()
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", State: "running", Reason: "no endpoint"}}))
	must(t, db.PutProcesses(ctx, []Process{{Instance: "i", State: "exited"}}))
	if p, err := db.Process(ctx, "i"); err != nil || p.State != "exited" || p.Reason != "" {
		t.Errorf("%+v, %v; want exited without a reason", p, err)
	}
}

func TestEventsAndExpire(t *testing.T) {
	db, ctx := open(t), t.Context()
	must(t, db.AddEvents(ctx, []Event{
		{Time: 10, Kind: "start", Service: "a", Text: "one", Attrs: map[string]string{"k": "v"}}, {Time: 30, Kind: "exit", Service: "a"}, {Time: 20, Kind: "start", Service: "b"},
	}))
	times := func(f EventFilter) (out []int64) {
		es, err := db.Events(ctx, f)
		must(t, err)
		for _, e := range es {
			out = append(out, e.Time)
		}
		return out
	}
	for _, tc := range []struct {
		f    EventFilter
		want []int64
	}{
		{EventFilter{}, []int64{30, 20, 10}}, {EventFilter{From: 20}, []int64{30, 20}}, {EventFilter{To: 20}, []int64{10}}, {EventFilter{Service: "a"}, []int64{30, 10}},
		{EventFilter{Kind: "start"}, []int64{20, 10}}, {EventFilter{Limit: 2}, []int64{30, 20}},
	} {
		if got := times(tc.f); !slices.Equal(got, tc.want) {
			t.Errorf("Events(%+v) at %v, want %v", tc.f, got, tc.want)
		}
	}
	es, err := db.Events(ctx, EventFilter{To: 11})
	if err != nil || !reflect.DeepEqual(es, []Event{{ID: 1, Time: 10, Kind: "start", Service: "a", Text: "one", Attrs: map[string]string{"k": "v"}}}) {
		t.Errorf("Events = %+v, %v", es, err)
	}

	must(t, db.Register(ctx, Registration{Keys: []Key{{Instance: "i", Window: 1}, {Idempotency: "k"}}, Processes: []Process{{Instance: "i", Gatherer: "agent", LastSeen: 100}}}))
	must(t, db.Expire(ctx, 0, 0, 0))
	must(t, db.Expire(ctx, 1, 100, 20))
	keys := []Key{{Instance: "i", Window: 1}, {Idempotency: "k"}}
	if seen, err := db.Seen(ctx, keys); err != nil || !slices.Equal(seen, []bool{true, true}) {
		t.Errorf("keys younger than the time given: Seen = %v, %v", seen, err)
	}
	_, err = db.Process(ctx, "i")
	must(t, err)
	if got := times(EventFilter{}); !slices.Equal(got, []int64{30, 20}) {
		t.Errorf("events left: %v, want 30 20", got)
	}
	future := time.Now().Add(time.Hour).UnixMilli()
	must(t, db.Expire(ctx, future, 101, future))
	if seen, err := db.Seen(ctx, keys); err != nil || !slices.Equal(seen, []bool{false, false}) {
		t.Errorf("expired keys: Seen = %v, %v", seen, err)
	}
	if _, err := db.Process(ctx, "i"); !errors.Is(err, ErrNotFound) {
		t.Errorf("expired process: %v, want ErrNotFound", err)
	}
	must(t, db.AddEvents(ctx, []Event{{Kind: "start"}}))
	es, err = db.Events(ctx, EventFilter{})
	if err != nil || len(es) != 1 || es[0].ID != 4 || es[0].Time == 0 {
		t.Errorf("Events = %+v, %v, want number 4 at the clock's time: numbers of expired events are not used again", es, err)
	}
}

func TestLease(t *testing.T) {
	db := open(t)
	acquire := func(holder string, ttl time.Duration, want bool) {
		t.Helper()
		got, err := db.Acquire(t.Context(), "compact", holder, ttl)
		if err != nil || got != want {
			t.Errorf("Acquire(%s, %v) = %v, %v, want %v", holder, ttl, got, err, want)
		}
	}
	acquire("a", time.Hour, true)
	acquire("b", time.Hour, false)
	acquire("a", time.Hour, true)
	acquire("a", 0, true) // gives it back
	acquire("b", time.Hour, true)
	acquire("a", 0, false)
	if got, err := db.Acquire(t.Context(), "other", "a", time.Hour); err != nil || !got {
		t.Errorf("another lease = %v, %v", got, err)
	}
}

func TestTwoProgramsOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd name?#%20.db")
	dbs := []*DB{openAt(t, path), openAt(t, path)}
	const each = 40
	var wg sync.WaitGroup
	for n, db := range dbs {
		for w := range 2 {
			wg.Go(func() {
				for i := range each {
					id := string(rune('a'+2*n+w)) + "-" + string(rune('A'+i))
					b := block(id, 0, 1, 2, "s")
					// All four writers number one instance's windows, each every fourth.
					r := Registration{Block: &b, Keys: []Key{{Instance: "i", Window: uint64(4*i + 2*n + w + 1)}}, Events: []Event{{Kind: "start", Text: id}}}
					if err := db.Register(context.Background(), r); err != nil {
						t.Errorf("register %s: %v", id, err)
					}
					if _, err := db.Blocks(context.Background(), BlockFilter{Services: []string{"s"}}); err != nil {
						t.Errorf("read: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	blocks, err := dbs[0].Blocks(t.Context(), BlockFilter{})
	must(t, err)
	events, err := dbs[1].Events(t.Context(), EventFilter{})
	must(t, err)
	if len(blocks) != 4*each || len(events) != 4*each {
		t.Errorf("%d blocks and %d events, want %d", len(blocks), len(events), 4*each)
	}
	third := openAt(t, path)
	for w := range uint64(4*each + 1) {
		key := []Key{{Instance: "i", Window: w + 1}}
		if seen, err := third.Seen(t.Context(), key); err != nil || seen[0] != (w < 4*each) {
			t.Errorf("window %d seen %v, %v", w+1, seen, err)
		}
		// One that registered windows itself may not know of higher ones, until it is told to register them.
		if w < 4*each {
			if err := dbs[0].Register(t.Context(), Registration{Keys: key}); !errors.Is(err, ErrDuplicate) {
				t.Errorf("register window %d again: %v", w+1, err)
			}
			if seen, err := dbs[0].Seen(t.Context(), key); err != nil || !seen[0] {
				t.Errorf("window %d seen %v, %v by who registered it again", w+1, seen, err)
			}
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is not where it should be: %v", err)
	}
	clean(t, dbs[0])
}

func TestSwapRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	dbs := []*DB{openAt(t, path), openAt(t, path)}
	for round := range 20 {
		in := "in-" + string(rune('A'+round))
		register(t, dbs[0], block(in, 0, 1, 2, "s"))
		errs := make([]error, len(dbs))
		var wg sync.WaitGroup
		for i, db := range dbs {
			wg.Go(func() {
				errs[i] = db.Swap(context.Background(), []string{in}, []Block{block(in+"-out", 1, 1, 2, "s")}, time.Now())
			})
		}
		wg.Wait()
		if !(errs[0] == nil && errors.Is(errs[1], ErrConflict) || errs[1] == nil && errors.Is(errs[0], ErrConflict)) {
			t.Errorf("round %d: %v and %v, want one winner and one conflict", round, errs[0], errs[1])
		}
	}
}

func TestReadSQLite(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "catalog.db")
	if _, err := ReadSQLite(ctx, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadSQLite of nothing = %v, want ErrNotExist", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadSQLite made the file: %v", err)
	}
	w := openAt(t, path)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", st.Mode(), err)
	}
	register(t, w, block("a", 0, 1, 2, "s"))
	r, err := ReadSQLite(ctx, path)
	must(t, err)
	defer r.Close()
	register(t, w, block("b", 0, 1, 2, "s"))
	if got, err := r.Blocks(ctx, BlockFilter{}); err != nil || ids(got) != "a b" {
		t.Errorf("Blocks = %q, %v, want what was just committed", ids(got), err)
	}
	if err := r.Register(ctx, Registration{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Register = %v, want ErrReadOnly", err)
	}
	if _, err := r.r.ExecContext(ctx, `DELETE FROM blocks`); err == nil {
		t.Error("the reading pool can write")
	}
	clean(t, r)
	must(t, r.Close())
	must(t, r.Close())
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	db, ctx := open(t), t.Context()
	register(t, db, block("a", 0, 1, 2, "s"), block("b", 0, 1, 2, "s"))
	for _, q := range []string{
		`PRAGMA foreign_keys = OFF`,
		`DELETE FROM datasets WHERE block_id = 'a'`,
		`INSERT INTO garbage (blob, delete_at) VALUES ('blobs/b', 1)`,
		`INSERT INTO datasets SELECT 'lost', service, min_start, max_start, max_end, types, profiles FROM datasets`,
	} {
		_, err := db.w.ExecContext(ctx, q)
		must(t, err)
	}
	problems, err := db.Check(ctx)
	must(t, err)
	want := []string{"block a holds no service", "blob blobs/b is live and waits to be deleted", "refers to nothing in blocks"}
	if len(problems) != len(want) {
		t.Fatalf("Check = %q, want %d problems", problems, len(want))
	}
	for i, p := range problems {
		if !strings.Contains(p, want[i]) {
			t.Errorf("problem %d = %q, want %q", i, p, want[i])
		}
	}
}

func TestCheckFindsADamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	db, err := OpenSQLite(t.Context(), path)
	must(t, err)
	for i := range 200 {
		register(t, db, block("b"+strings.Repeat("x", i), 0, int64(i), int64(i), "s"))
	}
	must(t, db.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	for i := len(data) / 2; i < len(data); i += 512 {
		data[i] ^= 0xff
	}
	must(t, os.WriteFile(path, data, 0o600))
	db, err = OpenSQLite(t.Context(), path)
	if err != nil {
		return // found already
	}
	defer db.Close()
	if problems, err := db.Check(t.Context()); err == nil && len(problems) == 0 {
		t.Error("Check finds nothing in a damaged file")
	}
}

func TestDurabilitySettings(t *testing.T) {
	db := open(t)
	for name, pool := range map[string]*sql.DB{"writer": db.w, "reader": db.r} {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "15000", "fullfsync": "1"} {
			var got string
			must(t, pool.QueryRow("PRAGMA "+pragma).Scan(&got))
			if got != want {
				t.Errorf("%s: %s = %s, want %s", name, pragma, got, want)
			}
		}
	}
}
