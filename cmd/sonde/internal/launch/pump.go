//go:build unix

package launch

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-io/sonde/collector/godebug"
)

const (
	pumpBytes = 256 << 10
	outBytes  = 64 << 10
	// quiet is how long nothing may come once the program has ended: a child of its own may still hold its standard error.
	quiet = 100 * time.Millisecond
	// lastWords bounds that in all.
	lastWords = 2 * time.Second
)

// splitter tells the program's own bytes from the traces: *godebug.Pieces where every write can be told from the next, else *godebug.Splitter.
type splitter interface {
	Write(b []byte) error
	Wait(now time.Time) (time.Duration, bool)
	Expire() error
	Close() error
	Lost() int
}

// pump copies a program's standard error to its place, without the traces.
type pump struct {
	from  *os.File
	conn  syscall.RawConn // of from
	to    io.Writer
	split splitter
	out   []byte // the program's own bytes, until there is nothing more to read for now
	keep  bool
	line  func(text []byte, l *godebug.Line, at time.Time)
	done  chan struct{}
	held  bool // once done: somebody holds the other side still, and from is open

	mu    sync.Mutex
	ended time.Time // when the program did; zero: it runs
}

// newPump returns a pump; packets says that a read returns one write of the program.
func newPump(cfg *Config, from *os.File, packets bool) (*pump, error) {
	conn, err := from.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &pump{from: from, conn: conn, to: cfg.Stderr, keep: cfg.Keep, line: cfg.Line, done: make(chan struct{})}
	if packets {
		p.split = godebug.NewPieces(cfg.Traces, p.write, p.take)
	} else {
		p.split = godebug.NewSplitter(cfg.Traces, p.write, p.take)
	}
	return p, nil
}

// write takes bytes of the program's own. They are written out at once where they are many.
func (p *pump) write(b []byte) error {
	if len(p.out) > 0 || len(b) < outBytes {
		if p.out = append(p.out, b...); len(p.out) < outBytes {
			return nil
		}
		b = p.out
	}
	_, err := p.to.Write(b)
	p.out = p.out[:0]
	return err
}

// flush writes out what there is.
func (p *pump) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	_, err := p.to.Write(p.out)
	p.out = p.out[:0]
	return err
}

func (p *pump) take(text []byte, l *godebug.Line) {
	if p.keep {
		_ = p.write(text) // the next of the program's own bytes meets the same error
	}
	if p.line != nil {
		p.line(text, l, time.Now())
	}
}

// run ends where the other side is closed, or where nobody reads standard error any more: then the program is told as it would be without us, by its own writes.
func (p *pump) run() {
	defer close(p.done)
	defer func() {
		if !p.held {
			_ = p.from.Close()
		}
	}()
	buf := make([]byte, pumpBytes)
	for {
		if p.setDeadline(time.Now()) != nil {
			return
		}
		err := p.read(buf)
		if p.flush() != nil {
			return
		}
		switch {
		case errors.Is(err, errPassOn):
			return
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded): // of a terminal whose other side is closed it is EIO
			p.last()
			return
		case p.isOver(time.Now()):
			p.held = p.last()
			return
		default:
			if wait, held := p.split.Wait(time.Now()); held && wait == 0 && (p.split.Expire() != nil || p.flush() != nil) {
				return
			}
		}
		if p.isTooLate(time.Now()) {
			p.held = p.last()
			return
		}
	}
}

// last passes on what is held back, and reports whether that can be done.
func (p *pump) last() bool { return p.split.Close() == nil && p.flush() == nil }

// errPassOn says that standard error cannot be written.
var errPassOn = errors.New("cannot pass it on")

// read waits for something to read, and takes what there is by then, so that what was written in many pieces is passed on in one.
func (p *pump) read(buf []byte) (err error) {
	wait := p.conn.Read(func(fd uintptr) bool {
		for first := true; first || len(p.out) < outBytes; first = false {
			n, e := unix.Read(int(fd), buf)
			switch {
			case n > 0:
				if p.split.Write(buf[:n]) != nil {
					err = errPassOn
					return true
				}
			case e == nil:
				err = io.EOF
				return true
			case errors.Is(e, unix.EAGAIN):
				return !first // the last read took all
			case !errors.Is(e, unix.EINTR):
				err = e
				return true
			}
		}
		return true
	})
	if err == nil {
		err = wait
	}
	return err
}

// setDeadline makes a read end when there is something to do even if nothing comes.
func (p *pump) setDeadline(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var at time.Time
	if wait, held := p.split.Wait(now); held {
		at = now.Add(wait)
	}
	if end := now.Add(quiet); !p.ended.IsZero() && (at.IsZero() || end.Before(at)) {
		at = end
	}
	return p.from.SetReadDeadline(at)
}

// isOver reports whether the program has ended and nothing more is waited for. It is asked when nothing came for a while.
func (p *pump) isOver(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended.IsZero() && now.Sub(p.ended) >= quiet
}

// isTooLate reports whether what still comes is not the program's own any more: that has long been read.
func (p *pump) isTooLate(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended.IsZero() && now.Sub(p.ended) >= lastWords
}

// finish says that the program has ended. What it wrote is passed on, however long whoever reads takes.
func (p *pump) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = time.Now()
	_ = p.from.SetReadDeadline(p.ended.Add(quiet)) // for a read that waits; where it is closed the pump has ended
}
