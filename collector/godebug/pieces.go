package godebug

import (
	"bytes"
	"time"
)

// Pieces takes the lines of traces out of writes: unlike a Splitter it sees where each write(2) of the program ends, as a pipe in packet mode tells. The runtime writes a line in some forty
// writes, a needle first, and whatever other threads of the program write comes in between, often: on two busy CPUs in every fourth line. So a write belongs to a line if it continues it, and
// is the program's own otherwise. It is made by NewPieces.
type Pieces struct {
	pass  func([]byte) error
	take  func(text []byte, l *Line)
	kinds []Kind

	open  []fragment // lines that have begun, the last one first to be continued
	own   [][]byte   // writes that are held back, since the line before them may be none
	bytes int        // of own
	since time.Time  // when the first of them came
	cur   cursor
	line  Line

	Torn int // lines that never ended
}

// fragment is a line that has begun.
type fragment struct {
	kind   Kind
	text   []byte
	pieces int
}

const (
	// surePieces is how many writes in a row make it sure that a line is the runtime's: gc, its number, and what follows.
	surePieces = 3
	// maxOpen bounds the lines that have begun: schedtrace, gctrace in it, and the same of children.
	maxOpen = 8
	// longestBegin bounds the first write of a line, in bytes.
	longestBegin = 24
	maxHeld      = 64 << 10
	holdPieces   = 50 * time.Millisecond
)

// NewPieces returns Pieces. pass and take may not keep what they get.
func NewPieces(t Traces, pass func([]byte) error, take func(text []byte, l *Line)) *Pieces {
	return &Pieces{pass: pass, take: take, kinds: t.kinds()}
}

// Write takes one write of the program. Its error is pass's, after which the Pieces are of no use.
func (p *Pieces) Write(b []byte) error {
	if len(p.open) == 0 {
		if len(b) > longestBegin || !p.begins(b) {
			return p.pass(b)
		}
		return nil
	}
	if p.continues(b) {
		if p.allSure() {
			return p.release()
		}
		return nil
	}
	if len(b) <= longestBegin && len(p.open) < maxOpen && p.begins(b) {
		return nil
	}
	if p.allSure() {
		return p.pass(b)
	}
	if p.bytes += len(b); p.bytes > maxHeld {
		if err := p.Expire(); err != nil {
			return err
		}
		return p.pass(b)
	}
	p.own = append(p.own, bytes.Clone(b))
	return nil
}

// begins reports whether b is the first write of a line, and opens that.
func (p *Pieces) begins(b []byte) bool {
	for _, k := range p.kinds {
		needle := bytes.TrimSuffix(kinds[k].needle, []byte("\n"))
		if !bytes.HasPrefix(b, needle) {
			continue
		}
		p.cur = cursor{b: b}
		if read(&p.cur, k, &p.line); p.cur.short {
			p.open = append(p.open, fragment{kind: k, text: bytes.Clone(b), pieces: 1})
			return true
		}
	}
	return false
}

// continues reports whether b continues a line that has begun, and does so; a line that ends with it is handed over.
func (p *Pieces) continues(b []byte) bool {
	for i := len(p.open) - 1; i >= 0; i-- {
		f := &p.open[i]
		n := len(f.text)
		f.text = append(f.text, b...)
		p.cur = cursor{b: f.text}
		read(&p.cur, f.kind, &p.line)
		switch {
		case p.cur.bad || !p.cur.short && p.cur.i < len(f.text) || len(f.text) > MaxLine:
			f.text = f.text[:n]
			continue
		case p.cur.short:
			f.pieces++
		default:
			text := f.text
			p.open = append(p.open[:i], p.open[i+1:]...)
			p.take(text, &p.line)
		}
		return true
	}
	return false
}

func (p *Pieces) allSure() bool {
	for i := range p.open {
		if p.open[i].pieces < surePieces {
			return false
		}
	}
	return true
}

// release passes on what was held back.
func (p *Pieces) release() error {
	for _, b := range p.own {
		if err := p.pass(b); err != nil {
			return err
		}
	}
	p.own, p.bytes, p.since = nil, 0, time.Time{}
	return nil
}

// Wait reports whether something is held back that may be the program's own, and for how much longer if nothing comes; then Expire is to be called.
func (p *Pieces) Wait(now time.Time) (wait time.Duration, held bool) {
	if p.allSure() {
		p.since = time.Time{}
		return 0, false
	}
	if p.since.IsZero() {
		p.since = now
	}
	return max(0, p.since.Add(holdPieces).Sub(now)), true
}

// Expire passes on what has begun as a line and did not go on, and what came behind it.
func (p *Pieces) Expire() error {
	sure := p.open[:0]
	for _, f := range p.open {
		if f.pieces >= surePieces {
			sure = append(sure, f)
			continue
		}
		if err := p.pass(f.text); err != nil {
			return err
		}
	}
	p.open = sure
	return p.release()
}

// Close passes on what is held back: nothing comes any more. A line of the runtime's that did not end is none of the program's bytes; it is counted.
func (p *Pieces) Close() error {
	err := p.Expire()
	p.Torn += len(p.open)
	p.open = nil
	return err
}

// Lost returns how many lines were not read.
func (p *Pieces) Lost() int { return p.Torn }

// Lost returns how many lines were left where they are, since something stands in them.
func (s *Splitter) Lost() int { return s.Torn }
