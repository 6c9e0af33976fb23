package inspect

import (
	"errors"
	"fmt"
	"time"
)

// errGone says that the process has ended, or that another one has its pid.
var errGone = errors.New("the process has ended")

// errStarting says that the process is between its birth and its first instruction.
var errStarting = errors.New("the process is just being started")

// part is one piece of memory to read: len(b) bytes at addr.
type part struct {
	addr uint64
	b    []byte
}

// memory is the memory of another process, which changes while it is read.
type memory interface {
	// readv fills the parts in order and returns how many it has filled. Where that is not all of them, the one after these cannot be read
	// (err is nil), or nothing can be read any more (err says why).
	readv(parts []part) (filled int, err error)
}

// maxParts is how many pieces one system call reads: IOV_MAX.
const maxParts = 1024

// budget bounds what one snapshot may read, whatever the process's memory claims.
type budget struct {
	bytes, parts int64
}

// Bounds of one snapshot. A process with a million goroutines or a hundred thousand stacks in its profiles stays below them.
const (
	maxBytes = 4 << 30
	maxReads = 16 << 20
)

// errBudget says that a snapshot was given up: the structures are larger than any that is known, or they lie.
var errBudget = fmt.Errorf("more than %d GiB or %d million pieces of memory to read", maxBytes>>30, maxReads>>20)

// maxTime bounds one snapshot, on the clock: what takes longer is swapped out, or made to.
const maxTime = time.Minute

// errSlow says that a snapshot was given up for that.
var errSlow = fmt.Errorf("reading took longer than %v", maxTime)

// reader reads memory within a budget and remembers what failed. Not safe for concurrent use.
type reader struct {
	mem  memory
	left budget
	one  [1]part
}

func newReader(mem memory) *reader { return &reader{mem: mem, left: budget{maxBytes, maxReads}} }

// readv reads the parts and returns for each whether it was filled, in ok, which is as long as parts. The error is that nothing can be read any
// more; a part that cannot be read is no error.
func (r *reader) readv(parts []part, ok []bool) error {
	clear(ok)
	for i := 0; i < len(parts); {
		batch := parts[i:min(i+maxParts, len(parts))]
		r.left.parts -= int64(len(batch))
		for _, p := range batch {
			r.left.bytes -= int64(len(p.b))
		}
		if r.left.parts < 0 || r.left.bytes < 0 {
			return errBudget
		}
		n, err := r.mem.readv(batch)
		if err != nil {
			return err
		}
		for j := range n {
			ok[i+j] = true
		}
		if n < len(batch) {
			n++ // the one that cannot be read
		}
		i += n
	}
	return nil
}

// read fills b from addr and reports whether it could.
func (r *reader) read(addr uint64, b []byte) (bool, error) {
	var ok [1]bool
	r.one[0] = part{addr, b}
	err := r.readv(r.one[:], ok[:])
	return ok[0], err
}

// word reads eight bytes.
func (r *reader) word(addr uint64) (v uint64, ok bool, err error) {
	var b [8]byte
	ok, err = r.read(addr, b[:])
	return le.Uint64(b[:]), ok, err
}
