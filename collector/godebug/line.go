package godebug

import "bytes"

// Kind says which trace a line belongs to.
type Kind uint8

// The kinds of lines.
const (
	KindGC     Kind = iota + 1 // gctrace: a cycle
	KindForced                 // gctrace: GC forced, since there was none for two minutes
	KindScan                   // gctrace=2: what a cycle scanned
	KindSched                  // schedtrace, and the first line of scheddetail
	KindP                      // scheddetail: a processor
	KindM                      // scheddetail: a thread
	KindG                      // scheddetail: a goroutine
	KindScav                   // scavtrace
	KindPacer                  // gcpacertrace
	KindInit                   // inittrace
)

// kinds is each kind's name and how its lines begin, as the runtime writes that in one piece.
var kinds = [...]struct {
	name   string
	needle []byte
	parse  func(c *cursor, l *Line)
}{
	KindGC:     {"gc", []byte("gc "), parseGC},
	KindForced: {"forced", []byte("GC forced\n"), parseForced},
	KindScan:   {"scan", []byte("scan: "), parseScan},
	KindSched:  {"sched", []byte("SCHED "), parseSched},
	KindP:      {"p", []byte("  P"), parseP},
	KindM:      {"m", []byte("  M"), parseM},
	KindG:      {"g", []byte("  G"), parseG},
	KindScav:   {"scav", []byte("scav "), parseScav},
	KindPacer:  {"pacer", []byte("pacer: "), parsePacer},
	KindInit:   {"init", []byte("init "), parseInit},
}

func (k Kind) String() string { return kinds[k].name }

// MaxLine bounds a line, in bytes: a schedtrace of 4,096 processors fits.
const MaxLine = 64 << 10

// Line is one line that was read. What its kind does not have is zero.
type Line struct {
	Kind  Kind
	GC    GC
	Sched Sched
	Scav  Scav
	Pacer Pacer
	Init  Init
	// RunQueue of a P, and State of a G: runnable, running, syscall, waiting, …
	RunQueue int64
	State    string
}

// GC is a gctrace line: one cycle of the garbage collector.
type GC struct {
	Cycle                  int64   // from 1
	At                     float64 // seconds from the program's start to the cycle's
	Percent                int64   // of the program's CPU time since its start
	Clock                  [3]float64
	CPU                    [5]float64 // ms: stopped for sweep termination, assists, background workers (dedicated and fractional), idle workers, stopped for mark termination
	Heap                   [3]int64   // MiB at the cycle's start and end, and what lives
	Goal, Stacks, Globals  int64      // MiB
	Procs                  int64
	Forced, GoroutineLeaks bool
}

// Pause is how long a cycle stopped the program, in ms.
func (g *GC) Pause() float64 { return g.Clock[0] + g.Clock[2] }

// Sched is a schedtrace line, or the first of scheddetail.
type Sched struct {
	At                                               int64 // ms since the first such line
	Procs, IdleProcs, Threads, Spinning, IdleThreads int64
	NeedSpinning                                     int64 // -1: not told, before Go 1.20
	RunQueue                                         int64 // the global one
	Local                                            int64 // the sum of the processors' queues
	LocalMax                                         int64
	Detail                                           bool // the lines of processors, threads and goroutines follow
}

// Scav is a scavtrace line, in KiB.
type Scav struct {
	Background, Eager int64 // Go 1.18 and 1.19 tell one figure, of both: Background
	Released          int64
	Utilisation       int64 // percent
	Forced            bool
}

// Pacer is a line of gcpacertrace. Summary says that it is a cycle's summary, AssistRatio that it is the line of its start; the others are only kept as they are.
type Pacer struct {
	Start, Summary      bool
	AssistRatio         float64
	Percent, Expected   int64    // of the CPU, at most
	Work                [3]int64 // bytes of heap, stacks, globals scanned
	WorkExpected        int64
	Trigger, Live, Over int64 // bytes; Over is Live less the goal
	ConsMark            float64
}

// Init is a line of inittrace.
type Init struct {
	Package       string
	At, Clock     float64 // ms, from the program's start
	Bytes, Allocs int64
}

// Parse reads one line, with or without its line break. False: the runtime prints no such line.
func Parse(text []byte) (l Line, ok bool) {
	if len(text) > MaxLine {
		return l, false
	}
	if !bytes.HasSuffix(text, []byte("\n")) || bytes.HasSuffix(text, []byte("\r\n")) {
		text = append(bytes.Clone(bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))), '\n')
	}
	for k := KindGC; int(k) < len(kinds); k++ {
		if !bytes.HasPrefix(text, kinds[k].needle) {
			continue
		}
		c := cursor{b: text}
		read(&c, k, &l)
		return l, !c.failed() && c.i == len(text)
	}
	return l, false
}

// read reads a line of one kind, with its line break.
func read(c *cursor, k Kind, l *Line) {
	*l = Line{Kind: k}
	c.lit(string(kinds[k].needle))
	kinds[k].parse(c, l)
	if k != KindForced { // its line break is in the needle: the runtime's sentence is no more than that
		c.lit("\n")
	}
}
