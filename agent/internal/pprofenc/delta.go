package pprofenc

import (
	"math/bits"
	"unsafe"

	"github.com/sonde-io/sonde/agent/internal/offheap"
)

// row is what a table knows of one stack (and object size): the counts now and at the previous capture.
type row struct {
	h1, h2    uint64 // of the key; both 0 marks a free slot
	cur, prev [2]int64
	inuse     [2]int64
	rec       uint32 // a record of this capture with the stack
	gen       uint32 // the capture that rec belongs to
	size      int64
}

// table maps a 128-bit hash of (stack, object size) to a row by open addressing, outside the Go heap. Several of the
// runtime's records can have one key, since the public records cut stacks at 32 frames: a row sums them.
type table struct {
	acct *offheap.Account
	rows offheap.Slice[row]
	used int
	gen  uint32
}

// release gives the memory back.
func (t *table) release() { t.rows.Release(); t.used = 0 }

// full reports whether one more than n rows would be too many for a table of size slots.
func full(n, size int) bool { return n*4 >= size*3 }

// find returns the row of the key, and a fresh one where there is none.
func (t *table) find(h1, h2 uint64) (*row, error) {
	if full(t.used, t.rows.Len()) {
		if err := t.reserve(t.used + 1); err != nil {
			return nil, err
		}
	}
	rows := t.rows.All()
	mask := uint64(len(rows) - 1)
	for i := h1 & mask; ; i = (i + 1) & mask {
		r := &rows[i]
		if r.h1 == h1 && r.h2 == h2 {
			return r, nil
		}
		if r.h1 == 0 && r.h2 == 0 {
			r.h1, r.h2 = h1, h2
			t.used++
			return r, nil
		}
	}
}

// lookup returns the row of the key, nil where there is none.
func (t *table) lookup(h1, h2 uint64) *row {
	rows := t.rows.All()
	if len(rows) == 0 {
		return nil
	}
	mask := uint64(len(rows) - 1)
	for i := h1 & mask; rows[i].h1 != 0 || rows[i].h2 != 0; i = (i + 1) & mask {
		if rows[i].h1 == h1 && rows[i].h2 == h2 {
			return &rows[i]
		}
	}
	return nil
}

// reserve makes room for n rows in all. An error leaves the table as it was.
func (t *table) reserve(n int) error {
	size := max(256, t.rows.Len())
	for full(n, size) {
		size *= 2
	}
	if size == t.rows.Len() {
		return nil
	}
	bigger, err := offheap.Make[row](t.acct, size)
	if err != nil {
		return err
	}
	old := t.rows
	t.rows = bigger
	rows := t.rows.All()
	mask := uint64(len(rows) - 1)
	for _, r := range old.All() {
		if r.h1 == 0 && r.h2 == 0 {
			continue
		}
		i := r.h1 & mask
		for rows[i].h1 != 0 || rows[i].h2 != 0 {
			i = (i + 1) & mask
		}
		rows[i] = r
	}
	old.Release()
	return nil
}

// hash returns 128 bits over the stack and the object size. They come from two multiplications with different constants, so that two
// stacks of one process do not meet by chance; nobody outside chooses these addresses.
func hash(pcs []uintptr, size int64) (h1, h2 uint64) {
	h1, h2 = 0x9e3779b97f4a7c15^uint64(size), 0xc2b2ae3d27d4eb4f^uint64(len(pcs))
	for _, pc := range pcs {
		hi, lo := bits.Mul64(h1^uint64(pc), 0xa0761d6478bd642f)
		h1 = hi ^ lo
		hi, lo = bits.Mul64(h2^bits.RotateLeft64(uint64(pc), 32), 0xe7037ed1a0b428db)
		h2 = hi ^ lo + h1
	}
	if h1 == 0 && h2 == 0 {
		h1 = 1
	}
	return h1, h2
}

// trimStack cuts the zeros that fill the runtime's fixed-size stacks.
func trimStack(pcs []uintptr) []uintptr {
	for i, pc := range pcs {
		if pc == 0 {
			return pcs[:i]
		}
	}
	return pcs
}

// keepBytes is the most that a record buffer may hold between two captures; a bigger one is given back and mapped again.
const keepBytes = 1 << 20

// records returns an s with room for n records and a few more, since the program goes on meanwhile, and room for their rows in t. The
// rows come first: a table that grows is there twice for a moment, and the records are the biggest of all.
func records[T any](t *table, s offheap.Slice[T], n int) (offheap.Slice[T], error) {
	s.Release()
	err := t.reserve(n)
	if err == nil {
		s, err = offheap.Make[T](t.acct, n+n/64+64)
	}
	if err != nil {
		return s, &TooManyError{Records: n, Cause: err}
	}
	return s, nil
}

// settle gives s back where it is big.
func settle[T any](s offheap.Slice[T]) offheap.Slice[T] {
	var zero T
	if uintptr(s.Len())*unsafe.Sizeof(zero) > keepBytes {
		s.Release()
		return offheap.Slice[T]{}
	}
	return s
}
