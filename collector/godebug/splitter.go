package godebug

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// The longest times that bytes are held back until it shows whether they are a trace's. The runtime writes a line in pieces, each in one go, within microseconds, if nobody stops it.
const (
	holdBegun = 10 * time.Millisecond  // what may be the begin of a line's first piece, such as a prompt that ends in g
	holdMaybe = 300 * time.Millisecond // a line's first piece, to which nothing came yet
	holdSure  = 2 * time.Second        // nobody else prints this
	holdTorn  = 100 * time.Millisecond // a line that something else stands in
)

// The bounds of what may stand in the middle of a line.
const (
	maxTornLines = 16
	maxTornBytes = 8 << 10
)

// Traces says which traces a program prints. The zero value is none.
type Traces struct {
	GC    int // gctrace: 1, or 2 for what each cycle scanned
	Sched time.Duration
	// Detail asks for scheddetail, which prints every goroutine.
	Detail, Scavenger, Pacer, Init bool
}

// AllTraces is for output of which it is not known what was asked for.
var AllTraces = Traces{GC: 2, Sched: time.Second, Detail: true, Scavenger: true, Pacer: true, Init: true}

// TracesOf reads which traces a value of GODEBUG asks for. Of a name that stands there twice the last counts, as in the runtime.
func TracesOf(godebug string) (t Traces) {
	for item := range strings.SplitSeq(godebug, ",") {
		name, value, _ := strings.Cut(item, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			continue
		}
		switch name {
		case "gctrace":
			t.GC = n
		case "schedtrace":
			t.Sched = time.Duration(n) * time.Millisecond
		case "scheddetail":
			t.Detail = n > 0
		case "scavtrace":
			t.Scavenger = n > 0
		case "gcpacertrace":
			t.Pacer = n > 0
		case "inittrace":
			t.Init = n > 0
		}
	}
	return t
}

// Merge returns own, a program's value of GODEBUG, with the traces of t that it does not set itself.
func (t Traces) Merge(own string) string {
	items := []string{}
	if own != "" {
		items = append(items, own)
	}
	set := map[string]bool{}
	for item := range strings.SplitSeq(own, ",") {
		name, _, _ := strings.Cut(item, "=")
		set[name] = true
	}
	for _, s := range []struct {
		name  string
		value int
	}{{"gctrace", t.GC}, {"schedtrace", int(t.Sched.Milliseconds())}, {"scheddetail", one(t.Detail)}, {"scavtrace", one(t.Scavenger)}, {"gcpacertrace", one(t.Pacer)}, {"inittrace", one(t.Init)}} {
		if s.value > 0 && !set[s.name] {
			items = append(items, s.name+"="+strconv.Itoa(s.value))
		}
	}
	return strings.Join(items, ",")
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (t Traces) kinds() (ks []Kind) {
	add := func(on bool, k ...Kind) {
		if on {
			ks = append(ks, k...)
		}
	}
	add(t.GC > 0, KindGC, KindForced)
	add(t.GC > 1, KindScan)
	add(t.Sched > 0, KindSched)
	add(t.Sched > 0 && t.Detail, KindP, KindM, KindG)
	add(t.Scavenger, KindScav)
	add(t.Pacer, KindPacer)
	add(t.Init, KindInit)
	return ks
}

// Splitter takes the lines of traces out of a stream. It is made by NewSplitter.
type Splitter struct {
	pass func([]byte) error         // takes the program's own bytes, in their order
	take func(text []byte, l *Line) // takes a trace's line, with its line break

	kinds []Kind
	next  []int // of each kind, where its needle stands next in the buffer that is scanned; before the place of scanning: not known

	held  []byte // what may be the begin of a line
	hold  time.Duration
	since time.Time

	cur  cursor // of the line that is looked at, and what it says
	line Line

	last  byte  // of the program's own
	after bool  // a trace's line came last, so that the runtime may go on in the middle of the program's line
	cycle int64 // the last of gctrace
	sched int64 // ms, of the last of schedtrace

	Torn int // lines that something else stood in and that were left where they were
}

// NewSplitter returns a Splitter for what a program prints from its start. pass and take may not keep what they get.
func NewSplitter(t Traces, pass func([]byte) error, take func(text []byte, l *Line)) *Splitter {
	s := &Splitter{pass: pass, take: take, kinds: t.kinds(), last: '\n'}
	s.next = make([]int, len(s.kinds))
	return s
}

// Write takes the next bytes of the stream. Its error is pass's, after which the Splitter is of no use.
func (s *Splitter) Write(b []byte) error {
	if len(s.held) > 0 {
		s.held = append(s.held, b...)
		b = s.held
	}
	return s.scan(b, false)
}

// Wait reports whether bytes are held back, and for how much longer if nothing comes; then Expire is to be called.
func (s *Splitter) Wait(now time.Time) (wait time.Duration, held bool) {
	if len(s.held) == 0 {
		return 0, false
	}
	if s.since.IsZero() {
		s.since = now
	}
	return max(0, s.since.Add(s.hold).Sub(now)), true
}

// Expire passes on what was held back too long. What came behind it may be held on.
func (s *Splitter) Expire() error { return s.scan(s.held, true) }

// Close passes on all that is held back: nothing comes any more.
func (s *Splitter) Close() error {
	for len(s.held) > 0 { // each turn gives up one line at least
		if err := s.Expire(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Splitter) emit(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	s.last, s.after = b[len(b)-1], false
	return s.pass(b)
}

// keep holds b back, which is the end of what was scanned.
func (s *Splitter) keep(b []byte, hold time.Duration) {
	changed := hold != s.hold || len(b) < len(s.held)
	s.held = append(s.held[:0], b...) // b may be the end of held itself
	if s.hold = hold; changed || len(b) == 0 {
		s.since = time.Time{}
	}
}

// scan goes through b, which begins where the last scan ended. give says that a line whose end is not there is none.
func (s *Splitter) scan(b []byte, give bool) error {
	clear(s.next)
	from := 0 // what lies before has been emitted or taken
	for at := 0; ; {
		k, c := s.candidate(b, at)
		if k == 0 {
			tail := s.begun(b[at:])
			if give {
				tail = 0
			}
			err := s.emit(b[from : len(b)-tail])
			s.keep(b[len(b)-tail:], holdBegun)
			return err
		}
		if prose(k, b, c) {
			at = c + 1
			continue
		}
		cur, l := &s.cur, &s.line
		*cur = cursor{b: b[c:]}
		read(cur, k, l)
		switch {
		case !cur.failed() && s.accept(k, l, b, from, c):
			if err := s.emit(b[from:c]); err != nil {
				return err
			}
			s.deliver(b[c:c+cur.i], l)
			from, at = c+cur.i, c+cur.i
		case cur.short && !give && len(b)-c < MaxLine && s.mayBegin(k, b, from, c):
			hold := holdMaybe
			if cur.sure {
				hold = holdSure
			}
			err := s.emit(b[from:c])
			s.keep(b[c:], hold)
			return err
		case cur.bad && cur.sure && s.mayBegin(k, b, from, c):
			done, more, err := s.mend(b, from, c, cur.i, k, give)
			if done || err != nil {
				return err
			}
			if more != nil { // the line is taken out, and what stood in it is scanned with what came after
				b, from, at = more, 0, 0
				clear(s.next)
				continue
			}
			s.Torn++
			give = false
			at = c + 1
		default:
			give = give && cur.bad // it was for the first line that is not complete
			at = c + 1
		}
	}
}

// prose reports whether a word follows what mostly begins prose, gc, where the trace has a number.
func prose(k Kind, b []byte, c int) bool {
	next := c + len(kinds[KindGC].needle)
	return k == KindGC && next < len(b) && !isDigit(b[next])
}

// deliver hands a line over.
func (s *Splitter) deliver(text []byte, l *Line) {
	switch l.Kind {
	case KindGC:
		s.cycle = l.GC.Cycle
	case KindSched:
		s.sched = l.Sched.At
	}
	s.after = true
	s.take(text, l)
}

// mend looks whether something else stands in the middle of the line of which b[c:c+n] is the begin: then the line goes on at the begin of a later one. It returns done if that cannot be said
// yet (b[c:] is held), else, where the line was taken out, what is to be scanned now; both unset: it is no such line.
func (s *Splitter) mend(b []byte, from, c, n int, k Kind, give bool) (done bool, more []byte, err error) {
	begin, rest := b[c:c+n], b[c+n:]
	joined := append([]byte(nil), begin...)
	lines, open := 0, true
	for p := 0; p <= maxTornBytes; {
		end := bytes.IndexByte(rest[p:], '\n')
		if end < 0 {
			open = len(rest) < maxTornBytes
			break
		}
		if p += end + 1; p > maxTornBytes {
			open = false
			break
		}
		if lines++; lines > maxTornLines {
			open = false
			break
		}
		var l Line
		joined = append(joined[:n], rest[p:min(len(rest), p+MaxLine)]...)
		cur := cursor{b: joined}
		read(&cur, k, &l)
		switch {
		case cur.short && len(rest)-p < MaxLine && cur.i > n || p == len(rest):
			open = true // it goes on, as far as it is there
		case !cur.failed() && s.accept(k, &l, b, from, c):
			if err := s.emit(b[from:c]); err != nil {
				return false, nil, err
			}
			s.deliver(joined[:cur.i], &l)
			return false, append(append(make([]byte, 0, len(rest)), rest[:p]...), rest[p+cur.i-n:]...), nil
		}
		if p == len(rest) {
			break
		}
	}
	if !open || give {
		return false, nil, nil
	}
	err = s.emit(b[from:c])
	s.keep(b[c:], holdTorn)
	return true, nil, err
}

// candidate finds the first needle from at on.
func (s *Splitter) candidate(b []byte, at int) (Kind, int) {
	first, kind := len(b), Kind(0)
	for i, k := range s.kinds {
		if s.next[i] < at || s.next[i] == 0 {
			s.next[i] = len(b)
			if n := bytes.Index(b[at:], kinds[k].needle); n >= 0 {
				s.next[i] = at + n
			}
		}
		if s.next[i] < first {
			first, kind = s.next[i], k
		}
	}
	return kind, first
}

// begun returns how much of the end of b may be the begin of a needle.
func (s *Splitter) begun(b []byte) int {
	most := 0
	for _, k := range s.kinds {
		needle := kinds[k].needle
		for n := min(len(needle)-1, len(b)); n > most; n-- {
			if bytes.HasSuffix(b, needle[:n]) {
				most = n
			}
		}
	}
	return most
}

// mayBegin reports whether a line of kind k may begin at b[c]: at the begin of a line, behind another trace's, or, for those that are numbered, anywhere.
func (s *Splitter) mayBegin(k Kind, b []byte, from, c int) bool {
	if k == KindGC || k == KindSched {
		return true
	}
	return s.lineStart(b, from, c)
}

func (s *Splitter) lineStart(b []byte, from, c int) bool {
	if c > from {
		return b[c-1] == '\n'
	}
	return s.last == '\n' || s.after
}

// accept reports whether a whole line is the program's own runtime's. In the middle of a line of the program (progress without a line break, say) only the one that is due is: a program may well
// print what another one printed.
func (s *Splitter) accept(k Kind, l *Line, b []byte, from, c int) bool {
	if s.lineStart(b, from, c) {
		return true
	}
	switch k {
	case KindGC:
		return l.GC.Cycle == s.cycle+1
	case KindSched:
		return s.sched == 0 || l.Sched.At > s.sched
	}
	return false
}
