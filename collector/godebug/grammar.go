package godebug

import "bytes"

// The grammars, from runtime/mgc.go, proc.go, mgcscavenge.go and mgcpacer.go of Go 1.18 to 1.26. The line's needle has been read.

// gc N @S.SSSs P%[ (checking for goroutine leaks)]: a+b+c ms clock, a+b/c/d+e ms cpu, x->y->z MB, G MB goal, K MB stacks, L MB globals, N P[ (forced)]
func parseGC(c *cursor, l *Line) {
	g := &l.GC
	g.Cycle = c.int()
	c.lit(" @")
	g.At = c.dec()
	c.lit("s ")
	c.sure = c.sure || !c.failed()
	g.Percent = c.int()
	c.lit("%")
	g.GoroutineLeaks = c.try(" (checking for goroutine leaks)")
	c.lit(": ")
	for i, end := range [...]string{"+", "+", " ms clock, "} {
		g.Clock[i] = c.dec()
		c.lit(end)
	}
	for i, end := range [...]string{"+", "/", "/", "+", " ms cpu, "} {
		g.CPU[i] = c.dec()
		c.lit(end)
	}
	for i, end := range [...]string{"->", "->", " MB, "} {
		g.Heap[i] = c.int()
		c.lit(end)
	}
	g.Goal = c.int()
	c.lit(" MB goal, ")
	g.Stacks = c.int()
	c.lit(" MB stacks, ")
	g.Globals = c.int()
	c.lit(" MB globals, ")
	g.Procs = c.int()
	c.lit(" P")
	g.Forced = c.try(" (forced)")
}

// GC forced
func parseForced(*cursor, *Line) {}

// scan: total 1+2+3=6 objs, 1+2=3 spans, or scan: class 16B 1+2+3=6 objs, …; class L is that of large objects. Without the green tea collector there is one number.
func parseScan(c *cursor, _ *Line) {
	switch {
	case c.try("total "):
	case c.try("class L "):
	default:
		c.lit("class ")
		c.int()
		c.lit("B ")
	}
	c.int()
	c.sure = c.sure || !c.failed()
	c.token(200, func(b byte) bool { return isDigit(b) || bytes.IndexByte([]byte("+= objs,pan"), b) >= 0 })
}

// SCHED Tms: gomaxprocs=N idleprocs=N threads=N spinningthreads=N[ needspinning=N] idlethreads=N runqueue=N, then [ N N ][ schedticks=[ N N ]] with spaces or without, or with scheddetail gcwaiting=B nmidlelocked=N stopwait=N sysmonwait=B
func parseSched(c *cursor, l *Line) {
	s := &l.Sched
	s.NeedSpinning = -1
	c.sure = c.sure || !c.failed() // the word is rare enough
	s.At = c.int()
	c.lit("ms: gomaxprocs=")
	s.Procs = c.int()
	c.lit(" idleprocs=")
	s.IdleProcs = c.signed()
	c.lit(" threads=")
	s.Threads = c.signed()
	c.lit(" spinningthreads=")
	s.Spinning = c.signed()
	if c.try(" needspinning=") {
		s.NeedSpinning = c.signed()
	}
	c.lit(" idlethreads=")
	s.IdleThreads = c.signed()
	c.lit(" runqueue=")
	s.RunQueue = c.signed()
	if s.Detail = c.try(" gcwaiting="); s.Detail {
		c.values("", " nmidlelocked=", " stopwait=", " sysmonwait=")
		return
	}
	c.lit(" [")
	c.try(" ")
	for !c.failed() {
		n := c.int() & 0xffffffff // the difference of two counters that wrap at 32 bits
		if n < 1<<31 {
			s.Local += n
			s.LocalMax = max(s.LocalMax, n)
		}
		if c.try(" ]") || c.try("]") {
			break
		}
		c.lit(" ")
	}
	if c.try(" schedticks=[ ") {
		for !c.failed() && !c.try("]") {
			c.int()
			c.lit(" ")
		}
	}
}

// P0: status=1 schedtick=1 syscalltick=0 m=nil runqsize=0 gfreecnt=0 timerslen=0
func parseP(c *cursor, l *Line) {
	c.int()
	c.lit(": status=")
	c.sure = c.sure || !c.failed()
	c.int()
	c.lit(" schedtick=")
	c.int()
	c.lit(" syscalltick=")
	c.int()
	c.lit(" m=")
	c.ref()
	c.lit(" runqsize=")
	l.RunQueue = c.int() & 0xffffffff
	if l.RunQueue >= 1<<31 {
		l.RunQueue = 0
	}
	c.lit(" gfreecnt=")
	c.values("", " timerslen=")
}

// M0: p=0 curg=1 mallocing=0 throwing=0 preemptoff= locks=1 …
func parseM(c *cursor, _ *Line) {
	c.int()
	c.lit(": p=")
	c.ref()
	c.lit(" curg=")
	c.sure = c.sure || !c.failed()
	c.values("", " mallocing=", " throwing=")
	c.lit(" preemptoff=")
	if !c.try(" ") { // mostly it is empty
		c.until(' ', 100)
		c.lit(" ")
	}
	c.lit("locks=")
	c.values("", " dying=", " spinning=", " blocked=", " lockedg=")
}

// states are the names of the runtime's states of a goroutine, by number.
var states = [...]string{0: "idle", 1: "runnable", 2: "running", 3: "syscall", 4: "waiting", 5: "unused", 6: "dead", 7: "enqueued", 8: "copystack", 9: "preempted", 10: "leaked", 11: "extra"}

// G1: status=4(chan receive) m=nil lockedm=nil
func parseG(c *cursor, l *Line) {
	c.int()
	c.lit(": status=")
	c.sure = c.sure || !c.failed()
	status := c.int() &^ 0x1000 // the bit says that its stack is being scanned
	c.lit("(")
	if status < int64(len(states)) {
		l.State = states[status]
	} else {
		l.State = "other"
	}
	if !c.try(") ") { // the reason may have parentheses of its own
		c.token(100, func(b byte) bool { return b != '=' && b != '\n' })
	} else {
		c.lit("m")
	}
	c.lit("=")
	c.values("", " lockedm=")
}

// scav N KiB work (bg), N KiB work (eager), N KiB now, N% util[ (forced)| [controller reset]]; Go 1.18 and 1.19: scav [GEN ]N KiB work, N KiB total, N% util
func parseScav(c *cursor, l *Line) {
	s := &l.Scav
	c.sure = c.sure || !c.failed()
	s.Background = c.int()
	if c.try(" KiB work (bg), ") {
		s.Eager = c.int()
		c.lit(" KiB work (eager), ")
		s.Released = c.int()
		c.lit(" KiB now, ")
	} else {
		if !c.try(" KiB work, ") { // what was read is the number of the generation
			c.lit(" ")
			s.Background = c.int()
			c.lit(" KiB work, ")
		}
		s.Released = c.int()
		c.lit(" KiB total, ")
	}
	s.Utilisation = c.int()
	c.lit("% util")
	if s.Forced = c.try(" (forced)"); !s.Forced {
		c.try(" [controller reset]")
	}
}

// pacer: assist ratio=F (scan N MB in N->N MB) workers=N+F, or pacer: P% CPU (P exp.) for A+B+C B work (D B exp.) in T B -> L B (∆goal N, cons/mark F), or sweep done at heap size …, or H_m_prev=… of Go 1.18's old pacer
func parsePacer(c *cursor, l *Line) {
	p := &l.Pacer
	switch {
	case c.try("assist ratio="):
		c.sure = true
		p.Start, p.AssistRatio = true, c.float()
		c.lit(" (scan ")
		c.int()
		c.lit(" MB in ")
		c.int()
		c.lit("->")
		c.int()
		c.lit(" MB) workers=")
		c.int()
		c.lit("+")
		c.float()
		return
	case c.try("sweep done at heap size "):
		c.sure = true
		c.int()
		c.lit("MB; allocated ")
		c.int()
		c.lit("MB during sweep; swept ")
		c.int()
		c.lit(" pages at ")
		c.float()
		c.lit(" pages/byte")
		return
	case c.try("H_m_prev="):
		c.sure = true
		c.rest(400)
		return
	}
	p.Percent = c.signed()
	c.lit("% CPU (")
	c.sure = c.sure || !c.failed()
	p.Expected = c.signed()
	c.lit(" exp.) for ")
	for i, end := range [...]string{"+", "+", " B work ("} {
		p.Work[i] = c.int()
		c.lit(end)
	}
	p.WorkExpected = c.int()
	c.lit(" B exp.) in ")
	p.Trigger = c.int()
	c.lit(" B -> ")
	p.Live = c.int()
	c.lit(" B (∆goal ")
	p.Over = c.signed()
	c.lit(", cons/mark ")
	p.ConsMark = c.float()
	c.lit(")")
	c.try("[controller reset]")
	p.Summary = true
}

// init PKG @T ms, T ms clock, N bytes, N allocs
func parseInit(c *cursor, l *Line) {
	in := &l.Init
	in.Package = c.until(' ', 1000)
	c.lit(" @")
	c.sure = c.sure || !c.failed() // scheddetail's first block often stands in the first of these lines
	in.At = c.dec()
	c.lit(" ms, ")
	in.Clock = c.dec()
	c.lit(" ms clock, ")
	in.Bytes = c.int()
	c.lit(" bytes, ")
	in.Allocs = c.int()
	c.lit(" allocs")
}
