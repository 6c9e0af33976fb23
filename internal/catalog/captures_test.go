package catalog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestClaimOnce: of many that trip together one is granted, and after the cool-down the next.
func TestClaimOnce(t *testing.T) {
	db := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var granted []string
	for i := range 50 {
		wg.Go(func() {
			id := fmt.Sprintf("r%03d", i)
			in, ok, err := db.ClaimCaptures(t.Context(), CaptureClaim{Service: "cart", Build: "b", Trigger: "heap-jump", Request: id, Instance: "i" + id},
				[]Capture{{ID: id, Request: id, Service: "cart", State: CaptureRunning}}, time.Hour)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if ok {
				granted = append(granted, in.Request)
			}
		})
	}
	wg.Wait()
	if len(granted) != 1 {
		t.Fatalf("%d claims were granted, want one", len(granted))
	}
	cs, err := db.Captures(t.Context(), CaptureFilter{})
	must(t, err)
	if len(cs) != 1 || cs[0].ID != granted[0] {
		t.Errorf("captures are %+v, want the one of %s", cs, granted[0])
	}
	again := func() bool {
		_, ok, err := db.ClaimCaptures(t.Context(), CaptureClaim{Service: "cart", Build: "b", Trigger: "heap-jump", Request: "z"}, nil, time.Hour)
		must(t, err)
		return ok
	}
	if again() {
		t.Error("a second claim was granted within the cool-down")
	}
	other, ok, err := db.ClaimCaptures(t.Context(), CaptureClaim{Service: "cart", Build: "b2", Trigger: "heap-jump", Request: "y"}, nil, time.Hour)
	must(t, err)
	if !ok || other.Until-other.Taken != time.Hour.Milliseconds() {
		t.Errorf("the claim of another build: %+v, %v", other, ok)
	}
	// What came of it was nothing: the next may.
	cs[0].State = CaptureExpired
	must(t, db.FinishCapture(t.Context(), cs[0]))
	if !again() {
		t.Error("after its capture was lost the claim is still in force")
	}
}

func TestCaptureStates(t *testing.T) {
	ctx, db := t.Context(), open(t)
	must(t, db.PutCaptures(ctx, []Capture{{ID: "a", Kind: "heap", Service: "cart", Instance: "i", State: CaptureAsked, Created: 5}}))
	must(t, db.StartCapture(ctx, "a", 7, 99))
	if err := db.StartCapture(ctx, "a", 7, 99); !errors.Is(err, ErrConflict) {
		t.Errorf("started twice: %v", err)
	}
	done := Capture{ID: "a", State: CaptureDone, Finished: 9, From: 7, To: 9, Size: 3, Blob: "captures/a", ContentType: "x"}
	must(t, db.FinishCapture(ctx, done))
	if err := db.FinishCapture(ctx, done); !errors.Is(err, ErrConflict) {
		t.Errorf("finished twice: %v", err)
	}
	c, err := db.Capture(ctx, "a")
	must(t, err)
	want := Capture{ID: "a", Kind: "heap", Service: "cart", Instance: "i", State: CaptureDone, Created: 5, Started: 7, Deadline: 99, Finished: 9, From: 7, To: 9, Size: 3, Blob: "captures/a", ContentType: "x"}
	if c != want {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	if _, err := db.Capture(ctx, "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("capture b: %v", err)
	}
	if n, bytes, err := db.CaptureBytes(ctx); err != nil || n != 1 || bytes != 3 {
		t.Errorf("%d captures of %d bytes, %v", n, bytes, err)
	}
}

// TestExpireCaptures: by age, by bytes and by number, never one that has not ended; blobs become garbage.
func TestExpireCaptures(t *testing.T) {
	ctx, db := t.Context(), open(t)
	ids := func() (out []string) {
		cs, err := db.Captures(ctx, CaptureFilter{})
		must(t, err)
		for _, c := range cs {
			out = append(out, c.ID)
		}
		return out
	}
	must(t, db.PutCaptures(ctx, []Capture{{ID: "old-running", State: CaptureRunning, Created: 1}}))
	for i := range 6 {
		id := string(rune('a' + i))
		must(t, db.PutCaptures(ctx, []Capture{{ID: id, State: CaptureDone, Created: int64(10 + i), Finished: int64(10 + i), Size: 10, Blob: "captures/" + id}}))
	}
	for _, tt := range []struct {
		before, bytes int64
		rows          int
		want          []string
	}{
		{11, 0, 0, []string{"f", "e", "d", "c", "b", "old-running"}},
		{0, 45, 0, []string{"f", "e", "d", "c", "old-running"}},
		{0, 0, 2, []string{"f", "e", "old-running"}},
	} {
		if _, err := db.ExpireCaptures(ctx, tt.before, tt.bytes, tt.rows); err != nil {
			t.Fatal(err)
		}
		if got := ids(); !slices.Equal(got, tt.want) {
			t.Errorf("before %d, %d bytes, %d rows: %q, want %q", tt.before, tt.bytes, tt.rows, got, tt.want)
		}
	}
	garbage, err := db.Garbage(ctx, 0)
	must(t, err)
	slices.Sort(garbage)
	if !slices.Equal(garbage, []string{"captures/a", "captures/b", "captures/c", "captures/d"}) {
		t.Errorf("garbage is %q", garbage)
	}
}

// TestDeletionTakesCaptures: what was deleted on request is in no capture either.
func TestDeletionTakesCaptures(t *testing.T) {
	ctx, db := t.Context(), open(t)
	must(t, db.PutCaptures(ctx, []Capture{{ID: "a", Service: "cart", Created: 5, Blob: "captures/a"}, {ID: "b", Service: "cart", Created: 50}, {ID: "c", Service: "pay", Created: 5}}))
	d := Deletion{ID: "d", Service: "cart", Start: 0, End: 1 << 47, Created: 10}
	must(t, db.PutDeletion(ctx, d))
	r, err := db.FinishDeletion(ctx, d, 0)
	must(t, err)
	cs, err := db.Captures(ctx, CaptureFilter{})
	must(t, err)
	if r.Captures != 1 || len(cs) != 2 {
		t.Errorf("removed %+v, left %+v", r, cs)
	}
	if g, err := db.Garbage(ctx, 0); err != nil || !slices.Equal(g, []string{"captures/a"}) {
		t.Errorf("garbage %q, %v", g, err)
	}
}
