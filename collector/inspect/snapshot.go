package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	rpprof "runtime/pprof"

	"github.com/sonde-io/sonde/profiles"
)

// Labels that samples of goroutine profiles carry besides the program's own. Where a goroutine is parked nearly says why it waits, so they make few more samples
// than there are stacks: see TestStateLabelsMakeFewSamples.
const (
	labelState  = "state"       // runnable, running, syscall, waiting, preempted
	labelReason = "wait_reason" // of a waiting one: chan receive, select, IO wait, …
)

// unknownStack is the leaf of a goroutine that was running: where it is only the processor knows.
const unknownStack = "[running: stack unavailable]"

// offError says why a profile has nothing to show: it is turned off in the process.
type offError struct{ why string }

func (e *offError) Error() string { return e.why }

// goroutineProfile takes a profile of type goroutine, as runtime/pprof's but for the labels of state.
func (v *view) goroutineProfile() (*profiles.Profile, goroutineStats, error) {
	b := newBuilder(v, profiles.ValueType{Type: "goroutine", Unit: "count"})
	b.p.PeriodType, b.p.Period = profiles.ValueType{Type: "goroutine", Unit: "count"}, 1
	lr := &labelReader{v: v}
	var labels []profiles.SampleLabel
	own := 0
	st, err := v.goroutines(func(g *goroutine) {
		if v.system(g) {
			return
		}
		own++
		if !g.known {
			b.named(unknownStack)
			b.frame(frame{g.startPC, false})
		}
		for _, f := range g.frames {
			b.frame(f)
		}
		labels = stateLabels(labels[:0], g, lr.labels(g.labels))
		b.sample(labels, 1)
	})
	if err != nil {
		return nil, st, err
	}
	st.own = own
	if stride := int64(st.stride); stride > 1 {
		for i := range b.p.Values {
			b.p.Values[i] *= stride
		}
		b.p.Comments = append(b.p.Comments, fmt.Sprintf("one of %d goroutines was read and counts for as many", stride))
	}
	return b.p, st, nil
}

// stateLabels appends the labels of a goroutine, sorted. A label of the program that has one of our names is kept, and ours left out.
func stateLabels(dst []profiles.SampleLabel, g *goroutine, own []profiles.SampleLabel) []profiles.SampleLabel {
	dst = append(dst, own...)
	add := func(key, value string) {
		if value != "" && !slices.ContainsFunc(own, func(l profiles.SampleLabel) bool { return l.Key == key }) {
			dst = append(dst, profiles.SampleLabel{Key: key, Str: value})
		}
	}
	add(labelState, statusNames[g.status])
	add(labelReason, g.reason)
	slices.SortFunc(dst, compareLabels)
	return dst
}

// rate reads one of the runtime's sampling rates.
func (v *view) rate(addr uint64, what string) (int64, error) {
	n, ok, err := v.r.word(addr + v.bias)
	if err == nil && (!ok || int64(n) < 0 || n > 1<<62) {
		err = fmt.Errorf("%w: %s is %d", errShape, what, int64(n))
	}
	return int64(n), err
}

// heapProfile takes a profile of type heap: what was allocated since the process began, and what is in use as of the last garbage collection. Its error is an *off
// where the process keeps none.
func (v *view) heapProfile() (p *profiles.Profile, oneCycle bool, err error) {
	rate, err := v.rate(v.im.globals.memProfileRate, "runtime.MemProfileRate")
	if err != nil {
		return nil, false, err
	}
	if !v.im.globals.hasMemProfile && rate == 0 {
		return nil, false, &offError{"the linker left memory profiling out, because nothing in the program uses runtime.MemProfile or runtime/pprof"}
	}
	if rate == 0 {
		return nil, false, &offError{"the program has set runtime.MemProfileRate to 0"}
	}
	type counts struct {
		stack []uint64
		size  uint64
		mem   memCounts
	}
	var all []counts
	var pcs []uint64
	published := false
	oneCycle, err = v.heap(func() { all, pcs, published = all[:0], pcs[:0], false }, func(b *bucket) error {
		at := len(pcs)
		if at+len(b.stack) > maxIDs {
			return errBudget
		}
		pcs = append(pcs, b.stack...)
		all = append(all, counts{pcs[at:len(pcs):len(pcs)], b.size, b.mem})
		published = published || b.mem.active != [2]uint64{}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	b := newBuilder(v, profiles.ValueType{Type: "alloc_objects", Unit: "count"}, profiles.ValueType{Type: "alloc_space", Unit: "bytes"},
		profiles.ValueType{Type: "inuse_objects", Unit: "count"}, profiles.ValueType{Type: "inuse_space", Unit: "bytes"})
	b.p.PeriodType, b.p.Period, b.p.DefaultSample = profiles.ValueType{Type: "space", Unit: "bytes"}, rate, "inuse_space"
	for _, c := range all {
		live := saturating(c.mem.active[0], c.mem.active[1])
		if !published { // no garbage collection yet: what is known counts, as in the runtime
			live = saturating(c.mem.allocs, c.mem.frees)
		}
		allocs, allocBytes := scaleHeap(c.mem.allocs, c.size, rate)
		objects, bytes := scaleHeap(live, c.size, rate)
		b.heapStack(c.stack)
		b.sample([]profiles.SampleLabel{{Key: "bytes", Num: int64(c.size), Numeric: true}}, allocs, allocBytes, objects, bytes)
	}
	return b.p, oneCycle, nil
}

func saturating(a, b uint64) uint64 { return max(a, b) - b }

// contentionProfile takes a profile of type mutex or block since the process began. Its error is an *offError where the process counts none.
func (v *view) contentionProfile(kind bucketKind) (*profiles.Profile, error) {
	g, name := &v.im.globals, "mutex"
	rateAt, head, set := g.mutexRate, g.mutexBuckets, "runtime.SetMutexProfileFraction"
	if kind == blockBucket {
		rateAt, head, set, name = g.blockRate, g.blockBuckets, "runtime.SetBlockProfileRate", "block"
	}
	rate, err := v.rate(rateAt, "the rate of "+name+" profiles")
	if err != nil {
		return nil, err
	}
	b := newBuilder(v, profiles.ValueType{Type: "contentions", Unit: "count"}, profiles.ValueType{Type: "delay", Unit: "nanoseconds"})
	b.p.PeriodType, b.p.Period = profiles.ValueType{Type: "contentions", Unit: "count"}, 1
	perSecond, err := cyclesPerSecond()
	if err != nil {
		return nil, err
	}
	scale := int64(1)
	if kind == mutexBucket && v.im.layout.minor < 20 {
		scale = rate // later versions scale when they count
	}
	found := false
	err = v.buckets(kind, head, func(k *bucket) error {
		found = true
		if !(k.count >= 0 && k.count < 1<<53) || k.cycles < 0 {
			return fmt.Errorf("%w: a stack has %g contentions of %d cycles", errShape, k.count, k.cycles)
		}
		b.stack(k.stack)
		b.sample(nil, int64(k.count)*scale, int64(float64(k.cycles)/(perSecond/1e9))*scale)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !found && rate == 0 {
		return nil, &offError{"the program does not turn " + name + " profiles on: it never calls " + set}
	}
	return b.p, nil
}

// cyclesPerSecond returns how fast the counter runs by which the runtime measures delays. It is the machine's, and this process's own profile says it.
var cyclesPerSecond = sync.OnceValues(func() (float64, error) {
	var out bytes.Buffer
	if err := rpprof.Lookup("block").WriteTo(&out, 1); err != nil {
		return 0, fmt.Errorf("read cycles per second: %w", err)
	}
	for line := range strings.Lines(out.String()) {
		var n int64
		if _, err := fmt.Sscanf(line, "cycles/second=%d", &n); err == nil && n > 0 {
			return float64(n), nil
		}
	}
	return 0, errors.New("read cycles per second: this process's own block profile does not say")
})
