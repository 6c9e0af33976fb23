package scrape

import (
	"context"
	"errors"
	"time"
)

// cpu takes one CPU profile, or yields, and sets the time of the next.
func (l *loop) cpu(ctx context.Context) {
	if l.wait(time.Now()) {
		return
	}
	length, release := l.turn()
	defer release()
	if length == 0 {
		return
	}
	at := time.Now()
	fetchCtx, done := l.interruptible(ctx)
	body, err := l.m.fetch.get(fetchCtx, &l.t, "cpu", length)
	done()
	if ctx.Err() != nil {
		return
	}
	switch {
	case err == nil:
		l.cpuRow = 0
		l.scheduleCPU(at, l.every())
		bad := l.store(ctx, []capture{{ty: "cpu", body: body, start: at, end: time.Now()}})
		l.settle(bad, true, true)
	case errors.Is(err, errInterrupted):
		l.gap("interrupted")
		l.scheduleCPU(at, l.every())
	case errors.Is(err, errRival):
		l.cpuRow++
		l.m.met.rivals.Inc()
		l.update(func(st *Status) { st.Rivals++ })
		l.scheduleCPU(at, backoff(l.every(), l.cpuRow, 3))
	case errors.Is(err, errNotServed):
		l.cpuLength = 0
		l.update(func(st *Status) { st.Missing = append(st.Missing, "cpu") })
	case errors.Is(err, errTooLong) && length > time.Second:
		// The server cuts answers off after a time that it does not tell: half as long may do.
		l.cpuLength = (length / 2).Truncate(time.Second)
		l.nextCPU = time.Now().Add(time.Second)
	default:
		l.cpuRow++
		l.gap("capture")
		l.scheduleCPU(at, backoff(l.every(), l.cpuRow, 3))
		l.settle(l.failed("cpu", err), !errors.Is(err, errUnanswered), false)
	}
}

// turn returns the length of the CPU profile to take now. A new target's first is a short one out of turn, so that it is seen at
// once; not more than a few of these run at the same time, and who finds them busy waits for its turn, as everybody does after a collector's restart. A gops
// agent knows one length only, which is too long for that.
func (l *loop) turn() (length time.Duration, release func()) {
	nothing := func() {}
	if l.short {
		return l.cpuLength, nothing
	}
	l.short = true
	if l.t.GopsAddr == "" {
		select {
		case l.m.firstUp <- struct{}{}:
			return min(firstWindow, l.cpuLength), func() { <-l.m.firstUp }
		default:
		}
	}
	l.nextCPU = nextTurn(time.Now(), time.Duration(l.phase.Load()), l.m.cfg.CPUPeriod)
	return 0, nothing
}

// every is the time from one CPU profile to the next: CPUPeriod, and more for profiles that are longer than CPUDuration, so that the duty cycle is the same.
func (l *loop) every() time.Duration {
	return max(l.m.cfg.CPUPeriod, time.Duration(float64(l.m.cfg.CPUPeriod)*float64(l.cpuLength)/float64(l.m.cfg.CPUDuration)))
}

// scheduleCPU sets the next CPU profile to the turn that is nearest to wait after the last began.
func (l *loop) scheduleCPU(last time.Time, wait time.Duration) {
	period := l.m.cfg.CPUPeriod
	l.nextCPU = nextTurn(last.Add(wait-period/2), time.Duration(l.phase.Load()), period)
}
