package perf

import (
	"context"
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
	appending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastAppends, giveUp) })()
	naming.Go(func() { s.naming(ctx, appending, l.jobs) })
	err := l.work(ctx)
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
	return err
}

// open opens the events. What is refused, although it was allowed when it was tried, is an error.
func (l *loop) open() error {
	cfg := l.s.cfg
	cpus, err := l.s.cpus()
	if err != nil {
		return err
	}
	l.hz = cfg.Hz
	l.cpu, err = openEvents(l.s.mode, cpus, cpuClock(cfg.Hz, l.s.rights.kernel, cfg.Kernel && l.s.rights.kernel), ringPages, &l.budget)
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
	l.off, err = openEvents(l.s.mode, cpus, switches(1), offRingPages, &l.budget)
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

// checkCPUs opens everything anew where CPUs came or went since: events are those of a CPU.
func (l *loop) checkCPUs() error {
	cpus, err := l.s.cpus()
	if err != nil || slices.Equal(cpus, l.cpu.cpus) {
		return err
	}
	l.s.log.Info("perf opens its events anew: CPUs came or went", "before", len(l.cpu.cpus), "now", len(cpus))
	for _, w := range l.watches {
		l.cpu.shut(w.fds)
		if l.off != nil {
			l.off.shut(w.offFDs)
		}
		w.fds, w.offFDs = nil, nil
	}
	l.close()
	clear(l.covered)
	if err := l.open(); err != nil {
		return err
	}
	for pid, w := range l.watches {
		if err := l.openFor(pid, w); err != nil {
			_, reason := l.whyNot(err)
			l.end(pid, w, reason)
		}
	}
	return nil
}

// maxEvents is the configured number, at most half of the descriptors that this process may have.
func maxEvents(configured int) int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur/2 < uint64(configured) {
		return int(lim.Cur / 2)
	}
	return configured
}

// work is the loop itself. An error says that the events, which could be opened once, could not be opened again.
func (l *loop) work(ctx context.Context) (err error) {
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
			return nil
		case <-l.s.changed:
			l.setTargets()
		case a := <-l.answers:
			l.install(a)
		case r := <-l.s.captures:
			l.startCapture(r)
		case now := <-tick.C:
			if err := l.tick(now); err != nil {
				l.endWindow(time.Now(), true)
				return err
			}
		}
	}
}

func (l *loop) tick(now time.Time) error {
	l.drain(now)
	for pid, w := range l.watches {
		if w.leaving {
			l.checkLeaving(pid, w)
		}
		if w.stale && now.Sub(w.mapsRead) >= mapsPeriod(len(w.maps)) {
			w.stale, w.mapsRead = false, now
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
		if err := l.checkCPUs(); err != nil {
			return err
		}
		l.startWindow(now)
	}
	l.publish()
	return nil
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
