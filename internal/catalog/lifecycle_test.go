package catalog

import (
	"errors"
	"path/filepath"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestPins(t *testing.T) {
	db, ctx := open(t), t.Context()
	first := Pin{Selector: `{service_name="cart"}`, Type: "cpu", Start: 10, End: 20, Note: "incident 42", Created: 5}
	id, err := db.PutPin(ctx, first)
	must(t, err)
	second, err := db.PutPin(ctx, Pin{Selector: "{}", Start: 1, End: 2, Created: 6})
	must(t, err)
	first.ID = id
	pins, state, err := db.Pins(ctx)
	must(t, err)
	if want := []Pin{first, {ID: second, Selector: "{}", Start: 1, End: 2, Created: 6}}; !reflect.DeepEqual(pins, want) {
		t.Errorf("Pins = %+v, want %+v", pins, want)
	}
	register(t, db, block("b1", 1, 10, 20, "cart"))
	must(t, db.MarkPinned(ctx, "b1", state))
	if err := db.MarkPinned(ctx, "gone", state); !errors.Is(err, ErrConflict) {
		t.Errorf("mark a block that is not live: %v, want ErrConflict", err)
	}
	if bs, err := db.Blocks(ctx, BlockFilter{}); err != nil || len(bs) != 1 || bs[0].Pinned != state {
		t.Errorf("blocks = %+v, %v, want b1 with Pinned %d", bs, err, state)
	}
	must(t, db.DeletePin(ctx, id))
	if err := db.DeletePin(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete a pin twice: %v, want ErrNotFound", err)
	}
	third, err := db.PutPin(ctx, first)
	must(t, err)
	pins, later, err := db.Pins(ctx)
	must(t, err)
	if len(pins) != 2 || third == id || third == second || later <= state {
		t.Errorf("after a removal: pins %+v in state %d; want two with ids that are new, and a state after %d", pins, later, state)
	}
	clean(t, db)
}

func TestDeletions(t *testing.T) {
	db, ctx := open(t), t.Context()
	must(t, db.Register(ctx, Registration{Keys: []Key{{Instance: "i1", Window: 1}, {Instance: "i2", Window: 1}, {Instance: "i3", Window: 1}},
		Builds: []Build{{ID: "b1", FirstSeen: 10}, {ID: "b2", FirstSeen: 10}},
		Processes: []Process{{Instance: "i1", Service: "cart", BuildID: "b1", Gatherer: "agent", LastSeen: 100},
			{Instance: "i2", Service: "cart", Gatherer: "agent", LastSeen: 900}, {Instance: "i3", Service: "pay", BuildID: "b2", Gatherer: "agent", LastSeen: 100}},
		Events: []Event{{Time: 50, Kind: "start", Service: "cart"}, {Time: 150, Kind: "start", Service: "cart"}, {Time: 50, Kind: "start", Service: "pay"}}}))
	d := Deletion{ID: "T1", Service: "cart", Start: 0, End: 100, Created: 1000}
	must(t, db.PutDeletion(ctx, d))
	must(t, db.PutDeletion(ctx, Deletion{ID: "T1", Service: "other"}))
	if ds, err := db.Deletions(ctx); err != nil || !reflect.DeepEqual(ds, []Deletion{d}) {
		t.Errorf("Deletions = %+v, %v", ds, err)
	}
	r, err := db.FinishDeletion(ctx, d, 500)
	if want := (Removed{Processes: 1, Keys: 1, Events: 1}); err != nil || r != want {
		t.Errorf("removed %+v, %v, want %+v", r, err, want)
	}
	seen, err := db.Seen(ctx, []Key{{Instance: "i1", Window: 1}, {Instance: "i2", Window: 1}, {Instance: "i3", Window: 1}})
	if err != nil || !reflect.DeepEqual(seen, []bool{false, true, true}) {
		t.Errorf("keys left: %v, %v; want those of i2, which runs, and i3, of another service", seen, err)
	}
	for id, want := range map[string]error{"b1": ErrNotFound, "b2": nil} {
		if _, err := db.Build(ctx, id); !errors.Is(err, want) {
			t.Errorf("build %s: %v, want %v", id, err, want)
		}
	}
	if ds, err := db.Deletions(ctx); err != nil || len(ds) != 1 || !ds[0].Finished {
		t.Errorf("Deletions = %+v, %v, want one that is finished", ds, err)
	}
	must(t, db.ForgetDeletion(ctx, "T1"))
	if ds, err := db.Deletions(ctx); err != nil || len(ds) != 0 {
		t.Errorf("Deletions = %+v, %v, want none", ds, err)
	}
	if err := db.PutDeletion(ctx, Deletion{ID: "T2"}); err == nil {
		t.Error("a deletion of everything was stored")
	}
	clean(t, db)
}

func TestHoldKeepsGarbage(t *testing.T) {
	db, ctx := open(t), t.Context()
	register(t, db, block("b1", 1, 10, 20, "cart"))
	must(t, db.Swap(ctx, []string{"b1"}, nil, time.UnixMilli(1)))
	garbage := func() int {
		names, err := db.Garbage(ctx, 0)
		must(t, err)
		return len(names)
	}
	must(t, db.Hold(ctx, "a", time.Minute))
	must(t, db.Hold(ctx, "b", time.Minute))
	must(t, db.Hold(ctx, "a", 0))
	if garbage() != 0 {
		t.Error("garbage is given out while b holds it")
	}
	must(t, db.Hold(ctx, "b", time.Millisecond))
	time.Sleep(5 * time.Millisecond)
	if garbage() != 1 {
		t.Error("garbage is not given out although the hold has run out")
	}
}

// TestExpireKeepsWhatBlocksReferTo: the process and the events of sums outlive raw profiles.
func TestExpireKeepsWhatBlocksReferTo(t *testing.T) {
	db, ctx := open(t), t.Context()
	const day = 24 * 3600 * 1000
	put := func(id, service string, from, to int64) Process {
		return Process{Instance: id, Service: service, Gatherer: "agent", FirstSeen: from, LastSeen: to}
	}
	must(t, db.PutProcesses(ctx, []Process{put("told", "cart", day, 2*day), put("before", "cart", day/4, day/2), put("other", "pay", day, 2*day), put("young", "pay", day, 9*day)}))
	must(t, db.AddEvents(ctx, []Event{{Time: day + 5, Kind: "deploy", Service: "cart"}, {Time: day / 2, Kind: "deploy", Service: "cart"}, {Time: day + 5, Kind: "deploy", Service: "pay"}}))
	register(t, db, block("sums", 1, day, 2*day, "cart"))
	must(t, db.Expire(ctx, 0, 8*day, 8*day))
	for id, want := range map[string]error{"told": nil, "before": ErrNotFound, "other": ErrNotFound, "young": nil} {
		if _, err := db.Process(ctx, id); !errors.Is(err, want) {
			t.Errorf("process %s: %v, want %v", id, err, want)
		}
	}
	if es, err := db.Events(ctx, EventFilter{}); err != nil || len(es) != 1 || es[0].Service != "cart" || es[0].Time != day+5 {
		t.Errorf("events = %+v, %v, want the deploy within the sums", es, err)
	}
}

func TestRetentionClock(t *testing.T) {
	db, ctx := open(t), t.Context()
	if ms, err := db.RetentionClock(ctx); err != nil || ms != 0 {
		t.Errorf("at first: %d, %v, want 0", ms, err)
	}
	must(t, db.SetRetentionClock(ctx, 77))
	if ms, err := db.RetentionClock(ctx); err != nil || ms != 77 {
		t.Errorf("then: %d, %v, want 77", ms, err)
	}
}

// TestSnapshotWhileWriting: what was committed before is in it, it is whole, and writers go on.
func TestSnapshotWhileWriting(t *testing.T) {
	db, ctx := open(t), t.Context()
	for i := range 20 {
		register(t, db, block("before"+strconv.Itoa(i), 0, 10, 20, "cart"))
	}
	must(t, db.Swap(ctx, []string{"before0"}, nil, time.UnixMilli(1)))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				register(t, db, block("during"+strconv.Itoa(i), 0, 10, 20, "cart"))
			}
		}
	})
	path := filepath.Join(t.TempDir(), "copy.db")
	err := db.Snapshot(ctx, path)
	close(stop)
	wg.Wait()
	must(t, err)
	if err := db.Snapshot(ctx, path); err == nil { // and it is left alone
		t.Error("a snapshot was written over a file")
	}
	must(t, db.Hold(ctx, "still readable and writable", time.Second))
	c := openAt(t, path)
	clean(t, c)
	bs, err := c.Blocks(ctx, BlockFilter{})
	must(t, err)
	have := map[string]bool{}
	for _, b := range bs {
		have[b.ID] = true
	}
	for i := 1; i < 20; i++ {
		if id := "before" + strconv.Itoa(i); !have[id] {
			t.Errorf("block %s is not in the copy", id)
		}
	}
	if waiting, err := c.Pending(ctx); err != nil || len(waiting) != 0 {
		t.Errorf("the copy waits to delete %q, %v", waiting, err)
	}
}
