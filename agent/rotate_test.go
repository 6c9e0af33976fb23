package agent

import (
	"fmt"
	"hash/fnv"
	"testing"
	"time"
)

// slotOf returns a moment in a slot of which turn says whether it is the instance's.
func slotOf(r *rotate, instance string, mine bool) time.Time {
	for s := int64(1000); ; s++ {
		at := time.UnixMilli(s * r.SlotMS)
		if turn, ok := r.at(instance, at); ok && turn.mine == mine {
			return at
		}
	}
}

func TestTurns(t *testing.T) {
	r := &rotate{Types: []Type{CPU}, Groups: 4, SlotMS: 300_000}
	counts := map[int]int{}
	for i := range 64 {
		instance := fmt.Sprintf("%032x", i*7919)
		h := fnv.New64a()
		_, _ = h.Write([]byte(instance))
		for slot := int64(5_984_137); slot < 5_984_137+4; slot++ {
			at := time.UnixMilli(slot*300_000 + 12_345)
			turn, ok := r.at(instance, at)
			if want := uint64(slot)%4 == h.Sum64()%4; !ok || turn.mine != want {
				t.Fatalf("%s in slot %d: %+v, want %v", instance, slot, turn, want)
			}
			if turn.weight != 4 || !turn.until.Equal(time.UnixMilli((slot+1)*300_000)) {
				t.Errorf("weight %d until %v", turn.weight, turn.until)
			}
			if turn.mine {
				counts[i]++
			}
		}
	}
	for i := range 64 {
		if counts[i] != 1 {
			t.Errorf("instance %d has %d turns in 4 slots, want 1", i, counts[i])
		}
	}
	for _, r := range []*rotate{nil, {}, {Types: []Type{CPU}, Groups: 1, SlotMS: 1000}, {Groups: 4, SlotMS: 1000}, {Types: []Type{CPU}, Groups: 4, SlotMS: 999},
		{Types: []Type{CPU}, Groups: maxGroups + 1, SlotMS: 1000}, {Types: []Type{CPU}, Groups: -2, SlotMS: 1000}, {Types: []Type{CPU}, Groups: 2, SlotMS: 1 << 62}} {
		if turn, ok := r.at("x", time.UnixMilli(1)); ok {
			t.Errorf("%+v gives %+v, want no rotation", r, turn)
		}
	}
}

// TestRotation steps a recorder through its turns: what was profiled in a turn goes out with the window, with the weight, and nothing of the time
// between two turns.
func TestRotation(t *testing.T) {
	a := idle(t, Config{Types: []Type{CPU, Heap, Goroutine}, Period: time.Hour})
	r := a.rec
	rot := &rotate{Types: []Type{CPU, Heap}, Groups: 3, SlotMS: 10_000}
	a.remote = &settings{Rotate: rot}
	away, mine := slotOf(rot, a.instance, false), slotOf(rot, a.instance, true)
	r.begin(away, time.Hour)
	if r.plan.takes(CPU) || r.plan.takes(Heap) || !r.plan.takes(Goroutine) || r.tap != nil {
		t.Fatalf("before its turn: %+v", r.plan)
	}
	if next := r.step(away); next.After(away.Add(10 * time.Second)) {
		t.Errorf("the next step comes at %v, after the slot's end", next)
	}
	allocate := func() { keepEight(); gcTwice() }
	allocate() // belongs to nobody
	r.step(mine)
	if !r.plan.takes(CPU) || !r.plan.takes(Heap) || r.tap == nil {
		t.Fatalf("in its turn: %+v", r.plan)
	}
	allocate()
	burnCPU(200 * time.Millisecond)
	r.step(mine.Add(10 * time.Second))
	if r.tap != nil || r.early == nil || len(r.early.entries) != 2 || cpu.running {
		t.Fatalf("after its turn: profiling %v, %+v", r.tap != nil, r.early)
	}
	if _, has := r.last[Heap]; has {
		t.Error("the heap keeps its baseline between two turns")
	}
	allocate()
	r.mu.Lock()
	w := r.window(time.Now(), func(Type) bool { return true })
	r.mu.Unlock()
	weights, parts := map[Type]int64{}, map[Type]int{}
	for i, e := range w.meta.Profiles {
		weights[e.Type], parts[e.Type] = e.Weight, i
	}
	if fmt.Sprint(weights) != "map[cpu:3 goroutine:0 heap:3]" {
		t.Errorf("weights %v, skipped %v", weights, w.meta.Stats.Skipped)
	}
	if w.meta.Stats.Skipped["cpu"] == "" {
		w2 := r.windowNow()
		if w2.meta.Stats.Skipped["cpu"] != "another instance's turn" {
			t.Errorf("the window after it: skipped %v", w2.meta.Stats.Skipped)
		}
	}
	if n := allocated(t, gunzip(t, w.data(parts[Heap])), "agent.keepEight"); n < 8<<20 || n > 9<<20 {
		t.Errorf("%d bytes allocated in its turn, want 8 MiB", n)
	}
	if !hasString(gunzip(t, w.data(parts[CPU])), "agent.burn") {
		t.Error("the CPU profile of the turn does not show what burned")
	}
	// Another number of groups in the middle of a turn: each part has the weight of its own.
	both := mine.Add(30 * time.Second)
	r.step(both)
	a.remote = &settings{Rotate: &rotate{Types: []Type{CPU, Heap}, Groups: 1, SlotMS: 10_000}}
	r.step(both.Add(time.Second))
	w = r.windowNow()
	var got []string
	for _, e := range w.meta.Profiles {
		got = append(got, fmt.Sprintf("%s/%s×%d", e.Part, e.Type, e.Weight))
	}
	if want := "[cpu/cpu×3 heap/heap×3 cpu-next/cpu×0 heap-next/heap×0 goroutine/goroutine×0]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s; skipped %v", got, want, w.meta.Stats.Skipped)
	}
}

//go:noinline
func keepEight() { kept = append(kept, make([]byte, 8<<20)) }

// windowNow ends the window with everything in it.
func (r *recorder) windowNow() *window {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.window(time.Now(), func(Type) bool { return true })
}

// TestTurnedOffLeavesNothingBehind checks that what a type gathered before the collector took it away is not sent when it comes back.
func TestTurnedOffLeavesNothingBehind(t *testing.T) {
	a := idle(t, Config{Types: []Type{CPU}, Period: time.Hour})
	r := a.rec
	now := time.Now()
	r.begin(now, time.Hour)
	off := false
	a.remote = &settings{Enabled: &off}
	r.step(now.Add(time.Second))
	if r.tap != nil || len(r.piece.pieces) > 0 {
		t.Errorf("%d pieces are left", len(r.piece.pieces))
	}
}
