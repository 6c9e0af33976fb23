package pprofenc

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/sonde-io/sonde/agent/internal/offheap"
)

// The most that a Wall remembers of one window: 320 kB of rows and 512 kB of addresses.
const (
	maxWallStacks = 3 << 10 // three quarters of the largest table, which has 4096 rows
	maxWallPCs    = 1 << 16
)

// Wall makes profiles of where goroutines are, running or not, from samples of all their stacks. Each sample stands for the time since the
// one before, so the values are right at any rate, and their sum is the number of goroutines times the time.
type Wall struct {
	// Hide leaves out goroutines whose outermost function's name begins with it.
	Hide string
	// Lost is the number of samples since the last Capture whose stack found no room.
	Lost int64

	acct  *offheap.Account
	recs  offheap.Slice[runtime.StackRecord]
	tab   table
	arena offheap.Slice[uintptr]
	used  int // of arena
	read  func([]runtime.StackRecord) (int, bool)
}

// NewWall returns a Wall over the runtime's goroutines. Its buffers count in acct; nil sets no bound.
func NewWall(acct *offheap.Account) *Wall {
	return &Wall{acct: acct, tab: table{acct: acct}, read: runtime.GoroutineProfile}
}

// Release gives the buffers back; what was sampled is lost.
func (w *Wall) Release() {
	w.recs.Release()
	w.tab.release()
	w.arena.Release()
	w.used, w.Lost = 0, 0
}

// Sample takes the stack of every goroutine for a span of elapsed, and returns their number. It takes nothing where they are more than limit.
func (w *Wall) Sample(elapsed time.Duration, limit int) (n int, err error) {
	n, ok := w.read(w.recs.All())
	for !ok {
		if n > limit {
			return n, fmt.Errorf("%d goroutines, more than %d", n, limit)
		}
		w.recs.Release()
		if w.recs, err = offheap.Make[runtime.StackRecord](w.acct, n+n/16+16); err != nil {
			return n, &TooManyError{Records: n, Cause: err}
		}
		n, ok = w.read(w.recs.All())
	}
	recs := w.recs.All()[:n]
	for i := range recs {
		w.add(trimStack(recs[i].Stack0[:]), elapsed)
	}
	w.recs = settle(w.recs)
	return n, nil
}

func (w *Wall) add(pcs []uintptr, elapsed time.Duration) {
	h1, h2 := hash(pcs, 0)
	r := w.tab.lookup(h1, h2)
	if r == nil {
		if w.tab.used >= maxWallStacks || !w.room(len(pcs)) {
			w.Lost++
			return
		}
		var err error
		if r, err = w.tab.find(h1, h2); err != nil { // the account is full
			w.Lost++
			return
		}
		r.rec, r.size = uint32(w.used), int64(len(pcs))
		w.used += copy(w.arena.All()[w.used:], pcs)
	}
	r.cur[0]++
	r.cur[1] += int64(elapsed)
}

// room makes room for n more addresses, and reports whether there is.
func (w *Wall) room(n int) bool {
	if w.used+n <= w.arena.Len() {
		return true
	}
	size := max(1<<10, w.arena.Len())
	for size < w.used+n {
		size *= 2
	}
	if size > maxWallPCs {
		return false
	}
	bigger, err := offheap.Make[uintptr](w.acct, size)
	if err != nil {
		return false
	}
	copy(bigger.All(), w.arena.All())
	w.arena.Release()
	w.arena = bigger
	return true
}

// Capture writes to out the gzipped profile of what was sampled in [start, end), begins anew, and returns the number of its samples: at 0, nothing
// was written. An error leaves what was sampled for the next Capture. The label "state" says what a goroutine waits for, as far as its stack tells.
func (w *Wall) Capture(b *Builder, out io.Writer, start, end time.Time) (int, error) {
	b.begin(out, []valueType{{"samples", "count"}, {"wall", "nanoseconds"}}, valueType{"wall", "nanoseconds"}, 1, "wall", start, end)
	key := b.str("state")
	names := map[string]int64{}
	rows := w.tab.rows.All()
	for i := range rows {
		r := &rows[i]
		if r.cur[0] == 0 {
			continue
		}
		pcs := w.arena.All()[r.rec : int64(r.rec)+r.size]
		if w.Hide != "" && strings.HasPrefix(b.outermost(pcs), w.Hide) {
			continue
		}
		pcs = b.preempted(pcs)
		state := b.state(pcs)
		if _, ok := names[state]; !ok {
			names[state] = b.str(state)
		}
		b.textLabel(key, names[state])
		b.sample(b.stack(pcs, false), r.cur[:])
	}
	if b.samples > 0 {
		if err := b.finish(); err != nil {
			return 0, fmt.Errorf("encode wall profile: %w", err)
		}
	}
	clear(rows)
	w.tab.used, w.used, w.Lost = 0, 0, 0
	return b.samples, nil
}

// outermost returns the name of the function that the goroutine began with.
func (b *Builder) outermost(pcs []uintptr) string {
	for i := len(pcs) - 1; i >= 0; i-- {
		if l := b.sym.locs[b.sym.loc(pcs[i])]; !l.skip {
			return b.sym.funcs[l.fn].name
		}
	}
	return ""
}

// preempted cuts off the runtime's frames that are on the stack of a running goroutine only because a sample stopped it.
func (b *Builder) preempted(pcs []uintptr) []uintptr {
	for i, pc := range pcs {
		l := b.sym.locs[b.sym.loc(pc)]
		if l.skip || !strings.HasPrefix(b.sym.funcs[l.fn].name, "runtime.asyncPreempt") {
			return pcs[i:]
		}
	}
	return pcs
}

// waits says what a goroutine waits for that is parked below a function: the first that matches counts.
var waits = []struct{ function, state string }{
	{"runtime.chanrecv", "chan receive"},
	{"runtime.chansend", "chan send"},
	{"runtime.selectgo", "select"},
	{"runtime.block", "select (no cases)"},
	{"time.Sleep", "sleep"},
	{"internal/poll.runtime_pollWait", "IO wait"},
	{"sync.runtime_notifyListWait", "sync.Cond.Wait"},
	{"sync.(*Cond).Wait", "sync.Cond.Wait"},
	{"sync.runtime_SemacquireRWMutex", "sync.RWMutex.Lock"},
	{"sync.runtime_SemacquireWaitGroup", "sync.WaitGroup.Wait"},
	{"sync.(*WaitGroup).Wait", "sync.WaitGroup.Wait"},
	{"sync.runtime_SemacquireMutex", "sync.Mutex.Lock"},
	{"internal/sync.runtime_SemacquireMutex", "sync.Mutex.Lock"},
	{"sync.runtime_Semacquire", "semacquire"},
	{"runtime.gcAssistAlloc", "GC assist"},
	{"runtime.gcParkAssist", "GC assist"},
}

// parkedFrames is how far from the leaf the function is looked for that a goroutine is parked in.
const parkedFrames = 8

// state returns what the goroutine waits for: "running" where its leaf is not the runtime's parking, which is also what a runnable one looks like.
func (b *Builder) state(pcs []uintptr) string {
	parked := false
	for i, pc := range pcs[:min(len(pcs), parkedFrames)] {
		l := b.sym.locs[b.sym.loc(pc)]
		if l.skip {
			continue
		}
		name := b.sym.funcs[l.fn].name
		if i == 0 {
			if strings.HasPrefix(name, "syscall.") || strings.HasPrefix(name, "internal/runtime/syscall.") || name == "runtime.cgocall" || name == "runtime.notetsleepg" {
				return "syscall"
			}
			if name != "runtime.gopark" && name != "runtime.goparkunlock" {
				return "running"
			}
			parked = true
			continue
		}
		for _, w := range waits {
			if strings.HasPrefix(name, w.function) {
				return w.state
			}
		}
	}
	if parked {
		return "waiting"
	}
	return "running"
}
