package perf

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	drainPeriod = 100 * time.Millisecond // between two looks at the rings: also how late a process that just began is opened
	openers     = 2
	openQueue   = 256     // processes that wait to be opened
	maxHeld     = 64      // samples of one process that is being opened
	maxIgnored  = 1 << 16 // pids that are known not to be watched
)

// loop reads the rings. All of it belongs to one goroutine, locked to its thread.
type loop struct {
	s   *Sampler
	gov governor

	dec    decoder
	cpu    *events
	off    *events // nil without off-CPU profiles
	offs   offCPU
	budget int // events that may still be opened
	most   int // events that may be open
	buf    []uint64

	targets map[int]Target
	watches map[int]*watch
	pending map[int][]held   // being opened: samples that wait
	refused map[int]uint64   // targets that cannot be watched: start time
	ignored map[int]struct{} // processes that are not to be watched
	covered map[int]int      // ModeProcess: children of watched processes → the watched one whose events they inherited
	forked  map[int]struct{} // ModeProcess: threads that have
	execed  map[int]struct{} // became another program while they were being opened
	retry   []int            // targets for which the queue had no room

	requests chan openRequest
	answers  chan opened
	jobs     chan *job

	winStart  time.Time
	winNumber int
	on        bool // this window is sampled
	times     int  // of how many windows, at its start
	hz        int
	cpuBefore time.Duration
	stats     Stats
}

// run opens the events and works until ctx is done.
func (s *Sampler) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l := &loop{s: s, dec: decoder{regs: userRegs()}, budget: maxEvents(s.cfg.MaxEvents), stats: s.Stats(),
		gov:     governor{limit: s.cfg.CPULimit, hz: s.cfg.Hz, every: s.cfg.Every, log: s.log},
		targets: map[int]Target{}, watches: map[int]*watch{}, pending: map[int][]held{}, refused: map[int]uint64{}, ignored: map[int]struct{}{},
		covered: map[int]int{}, forked: map[int]struct{}{}, execed: map[int]struct{}{},
		requests: make(chan openRequest, openQueue), answers: make(chan opened, openQueue), jobs: make(chan *job, s.cfg.MaxProcesses)}
	l.most = l.budget
	if err := l.open(); err != nil {
		return err
	}
	defer l.close()
	var opening, naming sync.WaitGroup
	stop, cancel := context.WithCancel(ctx)
	for range openers {
		opening.Go(func() { s.opener(stop, l.requests, l.answers) })
	}
	naming.Go(func() { s.naming(ctx, l.jobs) })
	l.work(ctx)
	cancel()
	opening.Wait()
	for len(l.answers) > 0 {
		if a := <-l.answers; a.w != nil {
			s.progs.release(a.w.prog)
		}
	}
	close(l.jobs)
	naming.Wait()
	s.progs.close()
	return nil
}

// open opens the events. What is refused, although it was allowed when it was tried, is an error.
func (l *loop) open() (err error) {
	cfg := l.s.cfg
	l.hz = cfg.Hz
	l.cpu, err = openEvents(l.s.mode, cpuClock(cfg.Hz, l.s.rights.kernel, cfg.Kernel && l.s.rights.kernel), ringPages, &l.budget)
	if err != nil {
		return fmt.Errorf("run perf sampler: %w", err)
	}
	if !cfg.OffCPU {
		return nil
	}
	if !l.s.rights.kernel {
		l.s.log.Warn("perf: time off the CPU is not sampled: CAP_PERFMON is missing (" + l.s.rights.setting(1) + ")")
		return nil
	}
	l.off, err = openEvents(l.s.mode, switches(1), offRingPages, &l.budget)
	if err != nil {
		l.cpu.close()
		return fmt.Errorf("run perf sampler: open off-CPU events: %w", err)
	}
	return nil
}

func (l *loop) close() {
	l.cpu.close()
	if l.off != nil {
		l.off.close()
	}
}

// maxEvents is the configured number, at most half of the descriptors that this process may have.
func maxEvents(configured int) int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur/2 < uint64(configured) {
		return int(lim.Cur / 2)
	}
	return configured
}

// work is the loop itself.
func (l *loop) work(ctx context.Context) {
	tick := time.NewTicker(drainPeriod)
	defer tick.Stop()
	l.cpuBefore = threadCPU()
	l.startWindow(time.Now())
	for {
		select {
		case <-ctx.Done():
			now := time.Now()
			l.drain(now)
			l.endWindow(now, true)
			return
		case <-l.s.changed:
			l.setTargets()
		case a := <-l.answers:
			l.install(a)
		case r := <-l.s.captures:
			l.startCapture(r)
		case now := <-tick.C:
			l.tick(now)
		}
	}
}

func (l *loop) tick(now time.Time) {
	l.drain(now)
	for pid, w := range l.watches {
		if w.leaving {
			l.checkLeaving(pid, w)
		}
		if w.stale {
			w.stale = false
			if m, err := readMaps(pid); err == nil && len(m) > 0 {
				w.maps = m
			}
		}
		l.endCaptures(w, now)
	}
	retry := l.retry
	l.retry = nil
	for _, pid := range retry {
		if t, ok := l.targets[pid]; ok && l.watches[pid] == nil {
			l.request(pid, &t)
		}
	}
	if now.Sub(l.winStart) >= l.s.cfg.Window {
		l.endWindow(now, false)
		l.startWindow(now)
	}
	l.publish()
}

// checkLeaving ends the watch of a process whose first thread ended, unless others go on.
func (l *loop) checkLeaving(pid int, w *watch) {
	switch stateOf(pid, w.start) {
	case gone:
		l.end(pid, w, "exited")
	case running:
		w.leaving = false
	}
}

// drain reads all rings.
func (l *loop) drain(now time.Time) {
	until := monotonic()
	for _, r := range l.cpu.rings {
		r.drain(l.record)
	}
	if l.off == nil {
		return
	}
	for _, r := range l.off.rings {
		r.drain(l.offRecord)
	}
	l.offs.settle(until, l.addOff)
}

func monotonic() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano())
}

// record handles one record of the CPU clock's rings.
func (l *loop) record(b []byte) {
	r, ok := l.dec.decode(b)
	if !ok {
		l.stats.Malformed++
		return
	}
	pid := int(int32(r.pid))
	switch r.kind {
	case recordLost, recordLostSamples:
		l.stats.Lost += r.lost
	case recordSample:
		l.stats.Samples++
		l.sample(pid, &r)
	case recordFork:
		l.fork(&r)
	case recordExit:
		if r.pid == r.tid {
			l.exit(pid)
		}
	case recordComm:
		if r.misc&miscExec != 0 {
			l.exec(pid)
		}
	case recordMmap2:
		if w := l.watches[pid]; w != nil {
			w.stale = true
		}
	}
}

// sample handles a sample of the CPU clock.
func (l *loop) sample(pid int, r *record) {
	if w := l.watches[pid]; w != nil {
		l.addCPU(w, r)
		return
	}
	if waiting, ok := l.pending[pid]; ok {
		if len(waiting) < maxHeld {
			l.pending[pid] = append(waiting, hold(r))
		}
		return
	}
	if _, ok := l.ignored[pid]; ok || pid <= 0 || l.s.cfg.Describe == nil || l.refuses(pid) || !l.request(pid, nil) {
		l.stats.Dropped++
		return
	}
	l.pending[pid] = append(l.pending[pid], hold(r))
}

func (l *loop) refuses(pid int) bool {
	_, ok := l.refused[pid]
	return ok
}

func (l *loop) addCPU(w *watch, r *record) {
	user := w.repair(r, l.buf)
	if len(user) > len(r.user) {
		l.buf = user[:0]
	}
	took, ok := w.addCPU(r, user, l.on, l.room())
	l.took(took, ok)
	w.status.samples.Add(1)
}

// room is how many bytes new stacks may take.
func (l *loop) room() int { return l.s.cfg.MaxStackBytes - int(l.s.heldBytes.Load()) }

func (l *loop) took(n int, ok bool) {
	l.s.heldBytes.Add(int64(n))
	if !ok {
		l.stats.Cut++
	}
}

// fork tells of a new process or thread.
func (l *loop) fork(r *record) {
	pid := int(r.pid)
	if r.pid == r.ppid {
		if l.s.mode == ModeProcess && l.watches[pid] == nil { // only asked for while events are being opened
			l.forked[int(r.tid)] = struct{}{}
		}
		return
	}
	delete(l.ignored, pid)
	delete(l.refused, pid)
	if l.s.mode != ModeProcess || len(l.covered) >= maxIgnored {
		return
	}
	l.covered[pid] = int(r.ppid)
	if owner, ok := l.covered[int(r.ppid)]; ok { // a grandchild
		l.covered[pid] = owner
	}
}

func (l *loop) exit(pid int) {
	delete(l.ignored, pid)
	delete(l.refused, pid)
	delete(l.covered, pid)
	if w := l.watches[pid]; w != nil {
		w.leaving = true
	}
}

// exec ends the watch of a process that became another program; it is looked at anew.
func (l *loop) exec(pid int) {
	delete(l.ignored, pid)
	delete(l.refused, pid)
	if _, ok := l.pending[pid]; ok {
		l.execed[pid] = struct{}{}
	}
	w := l.watches[pid]
	if w == nil {
		return
	}
	l.end(pid, w, "became another program")
	if t, ok := l.targets[pid]; ok {
		t.Build = nil
		l.request(pid, &t)
	}
}

// offRecord handles one record of the rings of context switches.
func (l *loop) offRecord(b []byte) {
	r, ok := l.dec.decode(b)
	if !ok {
		l.stats.Malformed++
		return
	}
	switch r.kind {
	case recordLost, recordLostSamples:
		l.stats.Lost += r.lost
	case recordSample:
		if w := l.watches[int(int32(r.pid))]; w != nil {
			l.offs.out(w, &r, w.repair(&r, l.buf))
		}
	case recordSwitch, recordSwitchCPU:
		if r.misc&miscSwitchOut == 0 && l.watches[int(int32(r.pid))] != nil {
			l.offs.in(&r)
		}
	}
}

func (l *loop) addOff(w *watch, stack []uint64, count, nanos int64) {
	took, ok := w.addOff(stack, count, nanos, l.on, l.room())
	l.took(took, ok)
}

// request asks for a process to be opened. A target that finds no room is tried again.
func (l *loop) request(pid int, t *Target) bool {
	if _, ok := l.pending[pid]; ok {
		return true
	}
	if len(l.watches)+len(l.pending) >= l.s.cfg.MaxProcesses {
		if t != nil {
			l.refuse(pid, *t, 0, "limit", fmt.Sprintf("%d processes are watched already", l.s.cfg.MaxProcesses))
		}
		return false
	}
	select {
	case l.requests <- openRequest{pid, t}:
		l.pending[pid] = nil
		return true
	default:
		if t != nil {
			l.retry = append(l.retry, pid)
		}
		return false
	}
}

// refuse notes that a target cannot be watched, once.
func (l *loop) refuse(pid int, t Target, start uint64, cause, reason string) {
	l.s.met.refused.WithLabelValues(cause).Inc()
	if cause != "limit" {
		l.refused[pid] = start
	}
	l.s.mu.Lock()
	before := l.s.tallies[pid]
	l.s.tallies[pid] = &tally{status: Status{Instance: t.Process.Instance, PID: pid, Service: t.Process.Service, Mode: l.s.mode, State: "refused", Reason: reason, Since: time.Now()}}
	l.s.mu.Unlock()
	if before == nil || before.status.Reason != reason {
		l.s.log.Info("perf cannot watch a process", "pid", pid, "service", t.Process.Service, "exe", t.Process.Exe, "reason", reason)
	}
}

// install takes over what an opener found.
func (l *loop) install(a opened) {
	waiting := l.pending[a.pid]
	delete(l.pending, a.pid)
	if _, ok := l.execed[a.pid]; ok {
		delete(l.execed, a.pid)
		l.stats.Dropped += uint64(len(waiting))
		if a.w != nil {
			l.s.progs.release(a.w.prog)
		}
		if t, ok := l.targets[a.pid]; ok {
			l.request(a.pid, &t)
		}
		return
	}
	switch {
	case a.cause == "gone":
		l.stats.EndedEarly++
		l.s.met.endedEarly.Inc()
		l.stats.Dropped += uint64(len(waiting))
		return
	case a.ignore:
		l.stats.Dropped += uint64(len(waiting))
		if len(l.ignored) >= maxIgnored {
			clear(l.ignored)
		}
		l.ignored[a.pid] = struct{}{}
		return
	case a.w == nil:
		l.stats.Dropped += uint64(len(waiting))
		if t, ok := l.targets[a.pid]; ok {
			l.refuse(a.pid, t, a.start, a.cause, a.reason)
		} else {
			l.refused[a.pid] = a.start
			l.s.met.refused.WithLabelValues(a.cause).Inc()
		}
		return
	}
	w := a.w
	if t, ok := l.targets[a.pid]; ok && w.dynamic {
		w.target, w.dynamic = t, false
	}
	if err := l.openFor(a.pid, w); err != nil {
		l.shut(a.pid, w)
		l.s.progs.release(w.prog)
		cause, reason := l.whyNot(err)
		if cause == "gone" {
			l.stats.EndedEarly++
			return
		}
		l.refuse(a.pid, w.target, a.start, cause, reason)
		return
	}
	l.begin(a.pid, w)
	for i := range waiting {
		l.addCPU(w, &waiting[i].r)
	}
	w.leaving = stateOf(a.pid, w.start) != running
}

// openFor opens the events of a process where the mode wants it.
func (l *loop) openFor(pid int, w *watch) (err error) {
	switch l.s.mode {
	case ModeProcess:
		if _, ok := l.covered[pid]; ok {
			return nil
		}
		inherited := func(tid int) bool {
			l.drain(time.Now())
			_, ok := l.forked[tid]
			return ok
		}
		clear(l.forked)
		if w.fds, err = l.cpu.addProcess(pid, inherited); err == nil && l.off != nil {
			w.offFDs, err = l.off.addProcess(pid, func(tid int) bool { return false })
		}
	case ModeCgroup:
		dir, err := perfCgroup(pid)
		if err != nil {
			return err
		}
		if err := l.cpu.addCgroup(dir); err != nil {
			return err
		}
		if l.off != nil {
			return l.off.addCgroup(dir)
		}
	}
	return err
}

// shut closes the events of a process. Children that had inherited them get their own.
func (l *loop) shut(pid int, w *watch) {
	if len(w.fds) == 0 {
		return
	}
	l.cpu.shut(w.fds)
	if l.off != nil {
		l.off.shut(w.offFDs)
	}
	w.fds, w.offFDs = nil, nil
	for child, owner := range l.covered {
		if owner != pid {
			continue
		}
		delete(l.covered, child)
		if c := l.watches[child]; c != nil && l.openFor(child, c) != nil {
			c.leaving = true // it has no events any more; most likely it has ended too
		}
	}
}

// whyNot says why events could not be opened for a process.
func (l *loop) whyNot(err error) (cause, reason string) {
	switch {
	case errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT):
		return "gone", "it ended before its events could be opened"
	case errors.Is(err, errEvents):
		return "limit", fmt.Sprintf("it needs more events than are left: an event for each of its threads on each of %d CPUs, without CAP_PERFMON", len(l.cpu.cpus))
	}
	return "rights", l.s.rights.words("sampling", err)
}

// begin begins a watch.
func (l *loop) begin(pid int, w *watch) {
	now := time.Now()
	var id [8]byte
	rand.Read(id[:])
	w.epoch, w.began, w.winStart = hex.EncodeToString(id[:]), now, now
	w.status = &tally{status: Status{Instance: w.target.Process.Instance, PID: pid, Service: w.target.Process.Service, Mode: l.s.mode, State: "watching", Since: now}}
	l.watches[pid] = w
	l.s.mu.Lock()
	l.s.tallies[pid] = w.status
	l.s.mu.Unlock()
	p := &w.target.Process
	l.s.log.Info("perf watches a process", "pid", pid, "instance", p.Instance, "service", p.Service, "exe", p.Exe, "build", w.prog.buildID,
		"go", w.prog.table.GoVersion(), "mode", l.s.mode, "events", len(w.fds)+len(w.offFDs))
}

// end ends a watch; what was sampled is appended.
func (l *loop) end(pid int, w *watch, why string) {
	delete(l.watches, pid)
	now := time.Now()
	l.offs.cut(monotonic(), func(x *watch, stack []uint64, count, nanos int64) {
		l.addOff(x, stack, count, nanos)
	})
	l.offs.forget(w)
	for _, c := range w.captures {
		c.until = now
	}
	l.endCaptures(w, now)
	l.flush(w, now, why == "exited")
	l.shut(pid, w)
	l.s.progs.release(w.prog)
	l.s.mu.Lock()
	if l.s.tallies[pid] == w.status {
		delete(l.s.tallies, pid)
	}
	l.s.mu.Unlock()
	l.audit(pid, w, now, why)
}

// audit writes the line of the end of a watch.
func (l *loop) audit(pid int, w *watch, now time.Time, why string) {
	p := &w.target.Process
	l.s.log.Info("perf watches a process no more", "pid", pid, "instance", p.Instance, "service", p.Service, "reason", why, "samples", w.samples,
		"for", now.Sub(w.began).Round(time.Millisecond))
}

// setTargets takes over the targets of the last SetTargets.
func (l *loop) setTargets() {
	l.s.mu.Lock()
	ts := l.s.targets
	l.s.mu.Unlock()
	clear(l.targets)
	for _, t := range ts {
		l.targets[t.PID] = t
		delete(l.ignored, t.PID)
		if start, ok := l.refused[t.PID]; ok && start == t.Process.StartTicks {
			continue
		}
		delete(l.refused, t.PID)
		w := l.watches[t.PID]
		if w != nil && w.start != 0 && t.Process.StartTicks != 0 && w.start != t.Process.StartTicks {
			l.end(t.PID, w, "exited")
			w = nil
		}
		if w != nil {
			w.target, w.dynamic, w.missed = t, false, 0
			continue
		}
		l.request(t.PID, &t)
	}
	for pid, w := range l.watches {
		if _, ok := l.targets[pid]; ok {
			continue
		}
		if w.missed++; !w.dynamic || w.missed > 1 {
			if stateOf(pid, w.start) == gone {
				l.end(pid, w, "exited")
			} else {
				l.end(pid, w, "no longer a target")
			}
		}
	}
	l.s.mu.Lock()
	for pid, t := range l.s.tallies {
		if _, ok := l.targets[pid]; !ok && t.status.State == "refused" {
			delete(l.s.tallies, pid)
		}
	}
	l.s.mu.Unlock()
	for pid := range l.refused {
		if _, ok := l.targets[pid]; !ok && l.s.cfg.Describe == nil {
			delete(l.refused, pid)
		}
	}
	l.keepCgroups()
}

// keepCgroups closes the events of cgroups in which nothing is watched any more.
func (l *loop) keepCgroups() {
	if l.s.mode != ModeCgroup {
		return
	}
	var dirs []string
	for pid := range l.watches {
		if dir, err := perfCgroup(pid); err == nil && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	l.cpu.keepCgroups(dirs)
	if l.off != nil {
		l.off.keepCgroups(dirs)
	}
}
