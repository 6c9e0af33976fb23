package godebug

import (
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
)

// named returns the labels of a series.
func named(name string, pairs ...string) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	b.Set(model.MetricNameLabel, name)
	for i := 0; i+1 < len(pairs); i += 2 {
		b.Set(pairs[i], pairs[i+1])
	}
	return b.Labels()
}

var (
	gcCycle      = named("gctrace_cycle")
	gcPauses     = [...]labels.Labels{named("gctrace_pause_seconds", "phase", "sweep_termination"), named("gctrace_pause_seconds", "phase", "mark_termination")}
	gcConcurrent = named("gctrace_concurrent_seconds")
	gcCPU        = [...]labels.Labels{named("gctrace_cpu_seconds", "phase", "sweep_termination"), named("gctrace_cpu_seconds", "phase", "assist"),
		named("gctrace_cpu_seconds", "phase", "background"), named("gctrace_cpu_seconds", "phase", "idle"), named("gctrace_cpu_seconds", "phase", "mark_termination")}
	gcRatio   = named("gctrace_cpu_ratio")
	gcHeap    = [...]labels.Labels{named("gctrace_heap_bytes", "at", "start"), named("gctrace_heap_bytes", "at", "end"), named("gctrace_heap_bytes", "at", "live")}
	gcGoal    = named("gctrace_goal_bytes")
	gcStacks  = named("gctrace_stacks_bytes")
	gcGlobals = named("gctrace_globals_bytes")
	gcProcs   = named("gctrace_procs")
	gcForced  = named("gctrace_forced")

	schedMaxProcs     = named("schedtrace_gomaxprocs")
	schedIdleProcs    = named("schedtrace_idleprocs")
	schedThreads      = named("schedtrace_threads")
	schedSpinning     = named("schedtrace_spinning_threads")
	schedNeedSpinning = named("schedtrace_need_spinning")
	schedIdleThreads  = named("schedtrace_idle_threads")
	schedQueue        = named("schedtrace_runqueue")
	schedLocal        = named("schedtrace_local_runqueue")
	schedLocalMax     = named("schedtrace_local_runqueue_max")

	scavWork     = [...]labels.Labels{named("scavtrace_work_bytes", "by", "background"), named("scavtrace_work_bytes", "by", "eager")}
	scavReleased = named("scavtrace_released_bytes")
	scavRatio    = named("scavtrace_utilization_ratio")

	pacerAssist   = named("pacertrace_assist_ratio")
	pacerRatio    = [...]labels.Labels{named("pacertrace_cpu_ratio", "is", "actual"), named("pacertrace_cpu_ratio", "is", "expected")}
	pacerWork     = [...]labels.Labels{named("pacertrace_work_bytes", "of", "heap"), named("pacertrace_work_bytes", "of", "stacks"), named("pacertrace_work_bytes", "of", "globals")}
	pacerExpected = named("pacertrace_work_expected_bytes")
	pacerTrigger  = named("pacertrace_trigger_bytes")
	pacerLive     = named("pacertrace_live_bytes")
	pacerOver     = named("pacertrace_over_goal_bytes")
	pacerConsMark = named("pacertrace_cons_mark_ratio")
)

const (
	kib = 1 << 10
	mib = 1 << 20
	// maxPackages bounds the packages of inittrace, each three series; a program of 2,000 packages is a large one.
	maxPackages = 4096
)

// Sampler turns the lines of one process into samples. Lines tell times from the program's start (gctrace, inittrace) or from the trace's (schedtrace); the others none.
type Sampler struct {
	// Started is when the process started, Unix ms; 0: it is found from the first line that tells a time.
	Started int64
	// Files says that a process which starts anew may follow in the same stream; otherwise a cycle that is not later than the last is another process's, a child's, and gives no sample.
	Files bool

	sched    int64 // when schedtrace began, Unix ms; 0: not known
	cycle    int64
	told     [3]told          // by what tells a time: ofGC, ofSched, ofInit
	stamped  bool             // the log tells when a line was printed; else that is when it was read, which may be much later
	last     map[string]int64 // by kind: the time of the last sample, so that no two lines are one
	packages int
	block    *detail
	out      []series.Sample
}

const (
	ofGC = iota
	ofSched
	ofInit
)

// told is what the last line of a kind told of its time.
type told struct {
	seen  bool
	own   float64 // ms since what its times count from
	start int64   // and when that was, by when the line came, Unix ms; 0: that is not known any more
}

const (
	// apart is how far, in ms, a line's own time and the log's may lie apart in one process: both clocks are the machine's, but its clock may be set, and it may sleep.
	apart = 60_000
	// late is how much later than it would have in its order, in ms, a line may come to a log; to a file without times more, since it is looked at once a second.
	late = 500
)

// anew reports whether a line is of a process that took the place of the one that wrote before, given what that one's times count from (0: not known), the line's own time in ms since then,
// and when it came. Such a process counts from 0 again. So does, as it looks, a line that comes after a later one: writers of logs let lines pass each other. What tells them apart is the start
// that they tell, which is when they came less their own time. A line that is late by some ms tells a start that is later by these; one of another process tells that one's start, and nobody who
// restarts processes does that within half a second for long: times that are wrong by less than that are what it costs. A start far off is another's also where the own time does not fall:
// ahead of the log always, behind it only where the log has times, as a file may be read long after it was written.
func (s *Sampler) anew(kind int, from int64, own float64, at int64, again bool) bool {
	if !s.Files {
		return false
	}
	start := at - int64(math.Round(own))
	last, slack := s.told[kind], int64(late)
	if !s.stamped {
		slack += followEvery.Milliseconds()
	}
	falls := again || last.seen && own <= last.own
	other := from != 0 && (from-start > apart || s.stamped && start-from > apart) || falls && (last.start == 0 || start-last.start > slack)
	if other {
		s.Started, s.sched, s.cycle, s.told = start, 0, 0, [3]told{}
	}
	if other || !falls {
		s.told[kind] = told{true, own, start}
	}
	return other
}

// detail is a scheddetail that is being printed.
type detail struct {
	sched Sched
	t     int64
	gs    map[string]int64
}

// Add takes a line that came at the time at, Unix ms, and returns the line's own time, of those samples are made. own is false for another process's.
func (s *Sampler) Add(l *Line, at int64) (t int64, own bool) {
	switch l.Kind {
	case KindP, KindM, KindG:
		return s.addDetail(l, at), true
	}
	s.endDetail()
	switch l.Kind {
	case KindGC:
		return s.addGC(&l.GC, at)
	case KindSched:
		return s.addSched(&l.Sched, at), true
	case KindScav:
		return s.addScav(&l.Scav, at), true
	case KindPacer:
		return s.addPacer(&l.Pacer, at), true
	case KindInit:
		return s.addInit(&l.Init, at), true
	}
	return at, true
}

// Take returns the samples since the last Take.
func (s *Sampler) Take() []series.Sample {
	out := s.out
	s.out = nil
	return out
}

// Flush ends a scheddetail to which nothing came for a while.
func (s *Sampler) Flush() { s.endDetail() }

// at makes t later than the last of its kind.
func (s *Sampler) at(kind string, t int64) int64 {
	if s.last == nil {
		s.last = map[string]int64{}
	}
	if last, ok := s.last[kind]; ok && t <= last {
		t = last + 1
	}
	s.last[kind] = t
	return t
}

func (s *Sampler) put(ls labels.Labels, t int64, v float64) {
	s.out = append(s.out, series.Sample{Labels: ls, T: t, V: v})
}

// seconds turns ms with up to three digits behind the point into seconds without what division adds.
func seconds(ms float64) float64 { return math.Round(ms*1e6) / 1e9 }

// start returns when the process started, given a line at the time at that tells ms from it.
func (s *Sampler) start(at int64, ms float64) int64 {
	if s.Started == 0 {
		s.Started = at - int64(math.Round(ms))
	}
	return s.Started
}

func (s *Sampler) addGC(g *GC, at int64) (int64, bool) {
	took := g.Clock[0] + g.Clock[1] + g.Clock[2]
	if g.Cycle <= s.cycle && !s.Files {
		return at, false
	}
	s.anew(ofGC, s.Started, g.At*1e3+took, at, g.Cycle <= s.cycle)
	s.cycle = max(s.cycle, g.Cycle)
	t := s.at("gc", s.start(at, g.At*1e3+took)+int64(math.Round(g.At*1e3)))
	s.put(gcCycle, t, float64(g.Cycle))
	s.put(gcPauses[0], t, seconds(g.Clock[0]))
	s.put(gcPauses[1], t, seconds(g.Clock[2]))
	s.put(gcConcurrent, t, seconds(g.Clock[1]))
	for i, ls := range gcCPU {
		s.put(ls, t, seconds(g.CPU[i]))
	}
	s.put(gcRatio, t, float64(g.Percent)/100)
	for i, ls := range gcHeap {
		s.put(ls, t, float64(g.Heap[i])*mib)
	}
	s.put(gcGoal, t, float64(g.Goal)*mib)
	s.put(gcStacks, t, float64(g.Stacks)*mib)
	s.put(gcGlobals, t, float64(g.Globals)*mib)
	s.put(gcProcs, t, float64(g.Procs))
	s.put(gcForced, t, float64(one(g.Forced)))
	return t, true
}

func (s *Sampler) addSched(d *Sched, at int64) int64 {
	if s.anew(ofSched, s.sched, float64(d.At), at, false) || s.sched == 0 {
		s.sched = at - d.At
	}
	t := s.at("sched", s.sched+d.At)
	s.put(schedMaxProcs, t, float64(d.Procs))
	s.put(schedIdleProcs, t, float64(d.IdleProcs))
	s.put(schedThreads, t, float64(d.Threads))
	s.put(schedSpinning, t, float64(d.Spinning))
	if d.NeedSpinning >= 0 {
		s.put(schedNeedSpinning, t, float64(d.NeedSpinning))
	}
	s.put(schedIdleThreads, t, float64(d.IdleThreads))
	s.put(schedQueue, t, float64(d.RunQueue))
	if d.Detail {
		s.block = &detail{sched: *d, t: t, gs: map[string]int64{}}
		return t
	}
	s.put(schedLocal, t, float64(d.Local))
	s.put(schedLocalMax, t, float64(d.LocalMax))
	return t
}

func (s *Sampler) addDetail(l *Line, at int64) int64 {
	b := s.block
	switch {
	case b == nil:
		return at
	case l.Kind == KindP:
		b.sched.Local += l.RunQueue
		b.sched.LocalMax = max(b.sched.LocalMax, l.RunQueue)
	case l.Kind == KindG:
		b.gs[l.State]++
	}
	return b.t
}

func (s *Sampler) endDetail() {
	b := s.block
	if s.block = nil; b == nil {
		return
	}
	s.put(schedLocal, b.t, float64(b.sched.Local))
	s.put(schedLocalMax, b.t, float64(b.sched.LocalMax))
	for state, n := range b.gs {
		s.put(named("schedtrace_goroutines", "state", state), b.t, float64(n))
	}
}

func (s *Sampler) addScav(v *Scav, at int64) int64 {
	t := s.at("scav", at)
	s.put(scavWork[0], t, float64(v.Background)*kib)
	s.put(scavWork[1], t, float64(v.Eager)*kib)
	s.put(scavReleased, t, float64(v.Released)*kib)
	s.put(scavRatio, t, float64(v.Utilisation)/100)
	return t
}

func (s *Sampler) addPacer(p *Pacer, at int64) int64 {
	switch {
	case p.Start:
		t := s.at("pacer start", at)
		s.put(pacerAssist, t, p.AssistRatio)
		return t
	case p.Summary:
		t := s.at("pacer", at)
		s.put(pacerRatio[0], t, float64(p.Percent)/100)
		s.put(pacerRatio[1], t, float64(p.Expected)/100)
		for i, ls := range pacerWork {
			s.put(ls, t, float64(p.Work[i]))
		}
		s.put(pacerExpected, t, float64(p.WorkExpected))
		s.put(pacerTrigger, t, float64(p.Trigger))
		s.put(pacerLive, t, float64(p.Live))
		s.put(pacerOver, t, float64(p.Over))
		s.put(pacerConsMark, t, p.ConsMark)
		return t
	}
	return at
}

func (s *Sampler) addInit(in *Init, at int64) int64 {
	s.anew(ofInit, s.Started, in.At+in.Clock, at, false)
	t := s.start(at, in.At+in.Clock) + int64(math.Round(in.At))
	if s.packages++; s.packages > maxPackages {
		return t
	}
	t = s.at("init "+in.Package, t)
	s.put(named("inittrace_clock_seconds", "package", in.Package), t, seconds(in.Clock))
	s.put(named("inittrace_bytes", "package", in.Package), t, float64(in.Bytes))
	s.put(named("inittrace_allocs", "package", in.Package), t, float64(in.Allocs))
	return t
}
