package trigger

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/cgroup"
)

// watch is what is known of one process.
type watch struct {
	// Guarded by the Engine's mu.
	target  Target
	left    bool // it is no target any more
	leftAt  time.Time
	moved   bool // another watch has its process
	next    time.Time
	matched []*ruleState
	busy    bool // a capture of it is being taken
	kept    []kept
	values  map[string]float64 // by metric: what was seen last
	seen    map[string]time.Time
	freed   bool // its end was told: nothing more is kept

	// The round's own, and once the process has ended of who tells of it.
	t        Target
	every    time.Duration // between two looks
	begun    bool
	first    time.Time
	paths    cgroup.Paths
	group    *memoryGroup
	grouped  time.Time // when its limits were read
	cpus     float64
	stat     procStat
	statAt   time.Time
	alive    time.Time // when it was last seen so
	mem      memory    // as of the last look at which it was alive
	rose     time.Time // when its cgroup's kills were last seen to have grown while it was alive: it may be the one that is dying
	roseBy   int64
	memAt    time.Time
	readAt   time.Time // when all of it was read
	slope    float64   // bytes a second
	machine  int64     // kills on the machine
	above    int64     // kills in the cgroups above
	keptUsed int64     // of memory when the newest of kept was taken
	keptAt   time.Time
}

// kept is a capture that is in memory until it is known whether it is wanted.
type kept struct {
	kind     string
	data     []byte
	from, to int64 // Unix ms
}

// readings are what was read in one round already.
type readings struct {
	groups  map[string]*reading // by folder
	machine int64               // kills; -1: not read
}

// reading is a cgroup as it was read.
type reading struct {
	mem   memory
	quick bool // it is without the working set and the kills
	err   error
}

// kills returns how many processes the OOM killer has killed on the machine.
func (r *readings) kills(f files) int64 {
	if r.machine < 0 {
		r.machine = f.machineKills()
	}
	return r.machine
}

// look reads what there is of a process and has its rules judged.
func (e *Engine) look(ctx context.Context, w *watch, now time.Time, rs *readings) {
	e.met.looks.Inc()
	if !w.begun {
		e.begin(w, now)
	}
	mem, memErr := e.memory(w, now, rs)
	b, err := e.files.pid(w.t.PID, "stat")
	st, perr := parseStat(b)
	if err == nil && perr != nil {
		return // the file is no process's: proc is not what it should be
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
		if !e.givenUp(w, now) {
			e.again(w, now, lookFar)
		}
		return
	}
	if err != nil || st.ended() || w.t.Start != 0 && st.start != w.t.Start {
		e.ended(ctx, w, now)
		return
	}
	w.alive = now
	if e.givenUp(w, now) {
		return
	}
	if memErr == nil {
		e.remember(w, mem, now, rs)
	}
	if d := now.Sub(w.statAt); !w.statAt.IsZero() && d > 0 {
		if used := float64(st.ticks-w.stat.ticks) / ticksPerSecond; st.ticks >= w.stat.ticks && d >= lookNear {
			e.set(w, capture.MetricCPU, used/d.Seconds()/w.cpus, now)
			w.stat, w.statAt = st, now
		}
	} else {
		w.stat, w.statAt = st, now
	}
	e.judge(ctx, w, now)
	e.again(w, now, w.interval())
}

// begin finds out what stays the same.
func (e *Engine) begin(w *watch, now time.Time) {
	w.begun, w.first = true, now
	b, err := e.files.pid(w.t.PID, "cgroup")
	if err == nil {
		w.paths = cgroup.ParsePaths(b)
	}
	w.group = e.files.memoryOf(w.t.PID, w.paths)
	if path := max(w.paths.Memory, w.paths.Unified); w.group == nil && err == nil && len(path) > 1 { // the root has no limit
		e.unreadable.Do(func() {
			e.log.Warn("the memory cgroup of a process cannot be read: of such it is not told whether the kernel killed them, and triggers on memory and pressure do not fire", "pid", w.t.PID,
				"service", w.t.Process.Service, "cgroup", path)
		})
	}
	w.grouped = now
	if w.cpus = e.files.cpuLimit(w.paths); w.cpus == 0 || w.cpus > cores() {
		w.cpus = cores()
	}
	if w.group != nil {
		w.machine = e.files.machineKills()
		w.above, _, _ = w.group.killsAbove()
		if m, err := w.group.read(); err == nil {
			w.mem.kills = m.kills
		}
	}
}

// memory reads the process's cgroup, once a round for all that share it.
func (e *Engine) memory(w *watch, now time.Time, rs *readings) (memory, error) {
	if w.group == nil {
		return memory{}, fs.ErrNotExist
	}
	if now.Sub(w.grouped) > limitsFor {
		w.group.limits()
		w.grouped = now
	}
	r := rs.groups[w.group.dir]
	if r == nil {
		r = &reading{}
		if now.Sub(w.readAt) < lookFar && w.mem.ratio < halfFull {
			if r.mem, r.err = w.group.quick(); r.err == nil && r.mem.ratio < halfFull {
				r.quick = true
				rs.groups[w.group.dir] = r
				return r.mem, nil
			}
		}
		r.mem, r.err = w.group.read()
		rs.groups[w.group.dir] = r
	}
	if !r.quick {
		w.readAt = now
	}
	return r.mem, r.err
}

// halfFull is how full memory is from which on all of its figures are read each time.
const halfFull = 0.5

// remember takes over what was read of the memory of a process that is alive.
func (e *Engine) remember(w *watch, m memory, now time.Time, rs *readings) {
	if d := now.Sub(w.memAt).Seconds(); !w.memAt.IsZero() && d > 0 {
		rate := float64(m.usage-w.mem.usage) / d
		// What matters is the next seconds: growth is believed at once, its end by and by.
		w.slope = max(rate, (w.slope+rate)/2)
	}
	quick := w.readAt != now
	if quick {
		m.kills = w.mem.kills
		w.mem, w.memAt = m, now
		return
	}
	if grown := m.kills - w.mem.kills; grown > 0 && !w.memAt.IsZero() {
		w.rose, w.roseBy = now, grown
	}
	if w.roseBy > 0 && now.Sub(w.rose) <= dying && m.used < w.mem.used {
		// It gives its memory back: what it had is what is to be told.
		m.used, m.usage, m.limit, m.ratio = w.mem.used, w.mem.usage, w.mem.limit, w.mem.ratio
	}
	w.machine = rs.kills(e.files)
	w.above, _, _ = w.group.killsAbove()
	w.mem, w.memAt = m, now
	if m.ratio > 0 {
		e.set(w, capture.MetricMemory, m.ratio, now)
	}
	if e.watchesPressure(w) {
		if p, err := w.group.pressure(); err == nil {
			e.set(w, capture.MetricPressure, p, now)
		}
	}
}

func (e *Engine) watchesPressure(w *watch) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range w.matched {
		if r.rule.Metric == capture.MetricPressure {
			return true
		}
	}
	return false
}

// full is how long it takes until the memory is full if it goes on as it does.
func (w *watch) full() time.Duration {
	if w.mem.ratio == 0 || w.slope <= 0 {
		return time.Hour
	}
	s := float64(w.mem.limit-w.mem.used) / w.slope
	return time.Duration(min(max(s, 0), 3600) * float64(time.Second))
}

// interval is how long to wait before the next look.
func (w *watch) interval() time.Duration {
	if w.mem.ratio == 0 { // there is no limit
		return lookFar
	}
	d := lookNear
	switch {
	case w.mem.ratio >= 0.9:
		d = lookEdge
	case w.mem.ratio >= 0.8:
		d = lookHot
	}
	return max(min(d, w.full()/10), lookEdge)
}

func (e *Engine) again(w *watch, now time.Time, d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.every, w.next = d, now.Add(d)
}

// lingers is how long a process that is alive and no target any more is watched on for its end: of one that is just dying its files in /proc are gone before it is, and a scan in that moment does not
// find it.
const lingers = 30 * time.Second

// givenUp drops a process that is not to be watched any more, and reports whether it did.
func (e *Engine) givenUp(w *watch, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !w.left || !w.moved && now.Sub(w.leftAt) < lingers {
		return false
	}
	e.drop(w)
	return true
}

// drop forgets a process. e.mu is held.
func (e *Engine) drop(w *watch) {
	for instance, x := range e.watches {
		if x == w {
			delete(e.watches, instance)
		}
	}
	for _, k := range w.kept {
		e.kept -= int64(len(k.data))
	}
	w.kept, w.freed = nil, true
	e.met.kept.Set(float64(e.kept))
}

// set notes the value of a metric.
func (e *Engine) set(w *watch, metric string, v float64, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w.values == nil {
		w.values, w.seen = map[string]float64{}, map[string]time.Time{}
	}
	w.values[metric], w.seen[metric] = v, now
	for _, r := range w.matched {
		if r.rule.Metric == metric && r.rule.Jump > 0 {
			r.past.add(v, now)
		}
	}
}
