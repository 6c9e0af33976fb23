package inspect

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// appendTimeout bounds one attempt to store a push. It runs on when Run is told to stop, since the capture is taken.
const appendTimeout = 10 * time.Second

// bounded is memory that can no longer be read when a context is done.
type bounded struct {
	memory
	ctx context.Context
}

func (b bounded) readv(parts []part) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.memory.readv(parts)
}

// with calls f with the memory of the target's process. It is called by who holds the turn. What f returns is only good where the error is nil: then all
// that it read was of that process, and of the binary that was opened.
func (ins *Inspector) with(ctx context.Context, t *Target, f func(v *view) error) error {
	if ins.ended {
		return errors.New("the inspector was stopped")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxTime, errSlow)
	defer cancel()
	p, err := openProcess(t.PID)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.began(t.Process.StartTicks); err != nil {
		return err
	}
	id, err := p.exe()
	if err != nil {
		return err
	}
	im, err := ins.images.get(p, id)
	if err != nil {
		return err
	}
	entry, err := p.entry()
	if err != nil {
		return err
	}
	im.path = t.Process.Exe
	if err := f(&view{r: newReader(bounded{p, ctx}), im: im, bias: entry - im.start}); err != nil {
		return err
	}
	return p.alive(id)
}

// taken is what a round took of one type.
type taken struct {
	ty    string
	p     *profiles.Profile
	start time.Time // of its interval; zero: this was the baseline
	end   time.Time
}

// round captures what is due of one target, stores it, and returns the CPU time that it took.
func (ins *Inspector) round(ctx context.Context, w *watch) (cpu time.Duration) {
	ins.mu.Lock()
	t, gone := w.target, w.gone
	ins.mu.Unlock()
	if gone {
		return 0
	}
	clock := startCPU()
	got, st, off, err := ins.take(ctx, w, &t)
	cpu = clock.stop()
	ins.met.cpu.Add(cpu.Seconds())
	if ctx.Err() != nil {
		return cpu
	}
	n := 0
	if err == nil {
		n, err = ins.store(ctx, w, &t, got)
	}
	ins.settle(w, &t, st, off, cpu, n, err)
	return cpu
}

// take captures the target's types. A type that the process keeps off is in off with the reason. An error means that nothing was taken.
func (ins *Inspector) take(ctx context.Context, w *watch, t *Target) (got []taken, st goroutineStats, off map[string]string, err error) {
	off = map[string]string{}
	err = ins.with(ctx, t, func(v *view) error {
		for _, ty := range ins.cfg.Types {
			p, gs, err := ins.profile(v, ty)
			if ty == "goroutine" {
				st = gs
			}
			if why, ok := errors.AsType[*offError](err); ok {
				off[ty] = why.Error()
				continue
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", ty, err)
			}
			got = append(got, taken{ty: ty, p: p, start: w.last[ty], end: time.Now()})
		}
		return nil
	})
	return got, st, off, err
}

// profile reads one type of profile, cumulative where the runtime counts it from the start.
func (ins *Inspector) profile(v *view, ty string) (p *profiles.Profile, st goroutineStats, err error) {
	switch ty {
	case "goroutine":
		if p, st, err = v.goroutineProfile(); err == nil {
			ins.met.unknown.Add(float64(st.unknown))
			if st.stride > 1 {
				ins.met.limits.WithLabelValues("goroutines").Inc()
			}
		}
	case "heap":
		var oneCycle bool
		if p, oneCycle, err = v.heapProfile(); err == nil && !oneCycle {
			ins.met.mixed.Inc()
		}
	case "mutex":
		p, err = v.contentionProfile(mutexBucket)
	case "block":
		p, err = v.contentionProfile(blockBucket)
	}
	return p, st, err
}

// store subtracts what was counted before, multiplies by the target's weight and appends one push. n is how many profiles it had.
func (ins *Inspector) store(ctx context.Context, w *watch, t *Target, got []taken) (n int, err error) {
	var out []store.Profile
	for i := range got {
		p, err := ins.interval(w, &got[i])
		if err == nil && p != nil {
			err = p.Scale(max(t.Weight, 1))
		}
		if err != nil {
			return 0, fmt.Errorf("take interval of %s: %w", got[i].ty, err)
		}
		if p != nil && len(p.Samples) > 0 {
			out = append(out, store.Profile{
				Labels: t.Process.Labels, Type: got[i].ty, Start: got[i].start.UnixMilli(), End: got[i].end.UnixMilli(), Data: p,
			})
		}
	}
	if len(out) == 0 {
		return 0, nil
	}
	w.window++
	process := t.Process
	process.Gatherer, process.LastSeen = "perf", time.Now().UnixMilli()
	push := store.Push{
		Key: catalog.Key{Instance: "memory/" + w.epoch + "/" + process.Instance, Window: w.window}, Process: &process, Build: t.Build, Profiles: out,
	}
	for try := 0; ; try++ {
		err = ins.tryAppend(ctx, push)
		if err == nil || errors.Is(err, catalog.ErrDuplicate) {
			for _, p := range out {
				ins.met.profiles.WithLabelValues(p.Type).Inc()
			}
			return len(out), nil
		}
		var limit *store.LimitError // trying again would not help
		if errors.As(err, &limit) || try >= ins.cfg.AppendRetries || !sleep(ctx, rand.N(time.Second<<min(try, 3))) {
			ins.gap(w, "store", len(out))
			ins.log.Warn("profiles read from memory could not be stored", "service", process.Service, "pid", t.PID, "profiles", len(out), "error", err)
			return 0, nil // the process can be read: it is tried again when it is due
		}
	}
}

func (ins *Inspector) tryAppend(ctx context.Context, push store.Push) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	return ins.cfg.Sink.Append(ctx, push)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// interval returns the profile of the interval since the capture before, nil where there was none.
func (ins *Inspector) interval(w *watch, c *taken) (*profiles.Profile, error) {
	w.last[c.ty] = c.end
	d := w.deltas[c.ty]
	if d == nil {
		d = profiles.NewDelta(c.ty)
		w.deltas[c.ty] = d
	}
	p, err := d.Next(c.p)
	switch {
	case errors.Is(err, profiles.ErrReset):
		ins.gap(w, "reset", 1)
		return nil, nil
	case err != nil:
		return nil, err
	case p == nil || c.start.IsZero():
		ins.gap(w, "baseline", 1)
		return nil, nil
	case c.end.UnixMilli() <= c.start.UnixMilli(): // the clock was set back
		ins.gap(w, "reset", 1)
		return nil, nil
	}
	return p, nil
}

// gap counts intervals that will have no profile.
func (ins *Inspector) gap(w *watch, cause string, n int) {
	ins.met.gaps.WithLabelValues(cause).Add(float64(n))
	ins.mu.Lock()
	defer ins.mu.Unlock()
	w.status.Gaps += uint64(n)
}

// settle brings the status up to date after a round and sets the time of the next.
func (ins *Inspector) settle(w *watch, t *Target, st goroutineStats, off map[string]string, cpu time.Duration, n int, err error) {
	cause := causeOf(err)
	said := fmt.Sprintf("%s (pid %d): %v", t.Process.Service, t.PID, err)
	if cause == "rights" { // the same for many processes, and said once for all
		err = errors.New(ins.rights.missing())
		said = err.Error()
	}
	if err != nil {
		ins.met.errors.WithLabelValues(cause).Inc()
		if cause == "limit" {
			ins.met.limits.WithLabelValues("memory").Inc()
		}
		ins.gap(w, "capture", 1)
		clear(w.last) // the interval goes on, but nobody vouches that it is the same process's
	}
	ins.mu.Lock()
	wait := ins.cfg.Period
	if limit := ins.cfg.CPULimit; limit > 0 {
		wait = max(wait, time.Duration(float64(cpu)*processShare/limit))
	}
	s := &w.status
	s.CPU, s.State, s.Reason = cpu, stateWatching, ""
	switch {
	case err == nil:
		w.failures = 0
		w.captures++
		s.Last, s.Goroutines, s.Unknown, s.Off = time.Now(), st.own*max(st.stride, 1), st.unknown, off
		s.Profiles += uint64(n)
		if w.captures == 1 {
			wait = min(wait, firstWindow)
		}
	case cause == "version" || cause == "globals":
		s.State, s.Reason = stateRefused, err.Error()
	default:
		w.failures++
		s.State, s.Reason = stateFailing, err.Error()
		wait *= time.Duration(min(1<<min(w.failures-1, 10), maxBackoff))
	}
	s.Period = wait
	w.next = time.Now().Add(wait - wait/20 + rand.N(wait/10+1))
	ins.mu.Unlock()
	if err != nil && cause != "gone" {
		ins.say(said)
	}
}

// causeOf sorts errors for the metrics.
func causeOf(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrVersion) || errors.Is(err, pclntab.ErrVersion):
		return "version"
	case errors.Is(err, errGlobals):
		return "globals"
	case errors.Is(err, errShape):
		return "shape"
	case errors.Is(err, errBudget) || errors.Is(err, errSlow):
		return "limit"
	case errors.Is(err, errGone):
		return "gone"
	case refusedByKernel(err):
		return "rights"
	}
	return "other"
}

// Capture takes a profile of the instance on demand: goroutine and heap as of now; mutex, block and allocs as what was counted during d, or since the process began
// where d is 0. The values are not multiplied by the target's weight.
func (ins *Inspector) Capture(ctx context.Context, instance, kind string, d time.Duration) (*profiles.Profile, error) {
	ty, during := kind, d > 0 && kind != "goroutine" && kind != "heap"
	if kind == "allocs" {
		ty = "heap"
	}
	if !slices.Contains(types, ty) {
		return nil, fmt.Errorf("capture %s of %s: of what is read from memory there are goroutine, heap, allocs, mutex and block", kind, instance)
	}
	one := func() (p *profiles.Profile, err error) {
		err = ins.demand(ctx, instance, func(v *view) error {
			p, _, err = ins.profile(v, ty)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("capture %s of %s: %w", kind, instance, err)
		}
		return p, nil
	}
	first, err := one()
	if err != nil {
		return nil, err
	}
	if during {
		delta := profiles.NewDelta(ty)
		if _, err := delta.Next(first); err != nil {
			return nil, fmt.Errorf("capture %s of %s: %w", kind, instance, err)
		}
		if !sleep(ctx, d) {
			return nil, ctx.Err()
		}
		if first, err = one(); err != nil {
			return nil, err
		}
		if first, err = delta.Next(first); err != nil {
			return nil, fmt.Errorf("capture %s of %s: %w", kind, instance, err)
		}
	}
	if kind == "allocs" {
		first.DefaultSample = "alloc_space"
	}
	return first, nil
}

// Text returns all goroutines of the instance as the runtime writes them (debug=2), without the arguments of functions.
func (ins *Inspector) Text(ctx context.Context, instance string) (text []byte, err error) {
	err = ins.demand(ctx, instance, func(v *view) error {
		text, err = v.text(monotonic())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture goroutines of %s: %w", instance, err)
	}
	return text, nil
}

// demand calls f with the memory of a target, when no other snapshot is being taken.
func (ins *Inspector) demand(ctx context.Context, instance string, f func(v *view) error) error {
	ins.mu.Lock()
	w := ins.watches[instance]
	var t Target
	if w != nil {
		t = w.target
	}
	ins.mu.Unlock()
	if w == nil {
		return errors.New("it is no process whose memory is read here")
	}
	select {
	case ins.turn <- struct{}{}:
		defer func() { <-ins.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return ins.with(ctx, &t, f)
}
