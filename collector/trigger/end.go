package trigger

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/catalog"
)

// TriggerOOM is the name under which the captures from before an OOM kill are claimed: one of a service and build within an hour.
const TriggerOOM = "oom-kill"

// EventExit is the kind of the event of a process that ended otherwise.
const EventExit = "exit"

// nearEnough is how full the memory must have been last for a kill that is not counted by the process's own cgroup to be believed.
const nearEnough = 0.8

// tally bounds the events of exits: a machine that runs tests starts and ends programs all the time.
type tally struct {
	minute int64
	n      int
}

const maxExits = 60 // a minute

// ended tells of a process's end, and attaches what was taken of it.
func (e *Engine) ended(ctx context.Context, w *watch, now time.Time) {
	killed := e.killed(w)
	e.mu.Lock()
	for instance, x := range e.watches {
		switch {
		case x == w:
			delete(e.watches, instance)
		case killed && x.group != nil && w.group != nil && x.group.dir == w.group.dir:
			x.notOurs() // that kill was this one's
		}
	}
	if m := now.Unix() / 60; e.told.minute != m {
		e.told = tally{minute: m}
	}
	e.told.n++
	tell := killed || e.told.n <= maxExits
	e.mu.Unlock()
	if !tell {
		e.met.skipped.Inc()
		e.free(w)
		return
	}
	// A capture that is being taken when the process dies fails at once, or is the last that there is.
	e.wg.Go(func() {
		e.settle(ctx, w)
		e.tell(ctx, w, now, killed)
		e.free(w)
	})
}

// dying is how long a process that the OOM killer has chosen may be seen alive: it is counted before it gives its memory back.
const dying = 10 * time.Second

// notOurs takes one kill of the cgroup as that of another process.
func (w *watch) notOurs() {
	if w.roseBy > 0 {
		w.roseBy--
		return
	}
	w.mem.kills++
}

// killed reports whether the OOM killer ended the process: it has killed one in its cgroup since the process was last seen alive, or just before. Where the cgroup is gone, those above it or the machine count.
func (e *Engine) killed(w *watch) bool {
	if w.group == nil {
		return false
	}
	if w.roseBy > 0 && w.alive.Sub(w.rose) <= dying { // not since then: the look that finds it gone may come late
		return true
	}
	if n, err := w.group.kills(w.group.dir); err == nil {
		return n > w.mem.kills
	}
	near := w.mem.ratio >= nearEnough || w.full() <= lookFar
	if n, direct, ok := w.group.killsAbove(); ok && (direct || near) {
		return n > w.above
	}
	return near && e.files.machineKills() > w.machine
}

// settle waits for a capture of the process that is being taken.
func (e *Engine) settle(ctx context.Context, w *watch) {
	for end := time.Now().Add(takeTime); time.Now().Before(end) && ctx.Err() == nil; {
		e.mu.Lock()
		busy := w.busy
		e.mu.Unlock()
		if !busy {
			return
		}
		t := time.NewTimer(10 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// free gives back what is kept of a process that ended.
func (e *Engine) free(w *watch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(w)
}

// before is how far back the profiles and captures of a process tell why it ended.
const before = 15 * time.Minute

// tell stores the event of a process's end.
func (e *Engine) tell(ctx context.Context, w *watch, now time.Time, killed bool) {
	p := w.t.Process
	least, most := w.ran(now)
	ran := span(least, most)
	ev := catalog.Event{Time: now.UnixMilli(), Kind: EventExit, Service: p.Service, Attrs: map[string]string{
		"instance": p.Instance, "pid": strconv.Itoa(w.t.PID), "host": p.Host, "build": p.BuildID, "version": p.Version, "gatherer": p.Gatherer, "ran_ms": strconv.FormatInt(least.Milliseconds(), 10), "ran_most_ms": strconv.FormatInt(most.Milliseconds(), 10)}}
	ev.Text = fmt.Sprintf("%s ended after %s", p.Service, ran)
	if killed {
		e.met.kills.Inc()
		ev.Kind = capture.EventOOMKill
		ev.Text = fmt.Sprintf("%s was killed for its memory after %s: it had %s of %s", p.Service, ran, mib(w.mem.used), mib(w.mem.limit))
		ev.Attrs["memory_bytes"], ev.Attrs["memory_limit_bytes"] = strconv.FormatInt(w.mem.used, 10), strconv.FormatInt(w.mem.limit, 10)
		from := now.Add(-before).UnixMilli()
		// Where its profiles from before are: the page and the API read it.
		ev.Attrs["profiles"] = "/?" + url.Values{"query": {`{service_instance_id="` + p.Instance + `"}`}, "type": {"heap:inuse_space"},
			"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(now.UnixMilli(), 10)}}.Encode()
		e.attach(ctx, w, &ev, from)
	} else {
		e.met.exits.Inc()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTime)
	defer cancel()
	if err := e.cfg.Events(ctx, []catalog.Event{ev}); err != nil {
		e.log.Error("cannot store the event of a process's end", "kind", ev.Kind, "service", p.Service, "instance", p.Instance, "error", err)
	}
}

// ran says how long a process ran at least, as of when it was last seen alive, and at most.
func (w *watch) ran(now time.Time) (least, most time.Duration) {
	if w.t.Process.Started == 0 {
		return 0, 0
	}
	began := time.UnixMilli(w.t.Process.Started)
	if most = max(now.Sub(began), 0).Round(time.Second); w.alive.IsZero() {
		return 0, most
	}
	return min(max(w.alive.Sub(began), 0).Round(time.Second), most), most
}

// span writes a time that is known to lie between two.
func span(least, most time.Duration) string {
	switch {
	case least == most:
		return most.String()
	case least == 0:
		return "at most " + most.String()
	}
	return least.String() + " to " + most.String()
}

// attach delivers what was kept from just before the kill, and names it and what was captured before in the event.
func (e *Engine) attach(ctx context.Context, w *watch, ev *catalog.Event, from int64) {
	e.mu.Lock()
	have := append([]kept(nil), w.kept...)
	e.mu.Unlock()
	if len(have) > 0 {
		kinds := make([]string, len(have))
		for i, k := range have {
			kinds[i] = k.kind
		}
		rule := capture.Rule{Name: TriggerOOM, Metric: capture.MetricMemory}
		e.mu.Lock()
		if r := w.keeper(); r != nil {
			rule.Shadow = r.rule.Shadow
		}
		e.mu.Unlock()
		g, err := e.claim(ctx, w.t, rule, w.mem.ratio, kinds)
		switch {
		case err != nil:
			ev.Attrs["captures_missing"] = "the collector could not be asked: " + err.Error()
		case !g.Granted:
			ev.Attrs["captures_missing"] = g.Reason
		}
		if g.Granted {
			ev.Attrs["captures_request"] = g.ID
			for _, k := range have {
				e.deliver(ctx, w.t, g.ID, k.kind, k, nil)
			}
		}
	}
	if e.cfg.Captured == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTime)
	defer cancel()
	cs, err := e.cfg.Captured(ctx, ev.Attrs["instance"], from)
	if err != nil {
		e.log.Warn("cannot find the captures of a killed process", "instance", ev.Attrs["instance"], "error", err)
		return
	}
	capture.AttachCaptures(ev, cs)
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
