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
	rows offheap.Slice[row]
	used int
	gen  uint32
}

// release gives the memory back.
func (t *table) release() { t.rows.Release(); t.used = 0 }

// find returns the row of the key, and a fresh one where there is none.
func (t *table) find(h1, h2 uint64) *row {
	if n := t.rows.Len(); n == 0 || t.used*4 >= n*3 {
		t.grow()
	}
	rows := t.rows.All()
	mask := uint64(len(rows) - 1)
	for i := h1 & mask; ; i = (i + 1) & mask {
		r := &rows[i]
		if r.h1 == h1 && r.h2 == h2 {
			return r
		}
		if r.h1 == 0 && r.h2 == 0 {
			r.h1, r.h2 = h1, h2
			t.used++
			return r
		}
	}
}

func (t *table) grow() {
	old := t.rows
	t.rows = offheap.Make[row](max(256, old.Len()*2))
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

// records returns s with room for n records.
func records[T any](s offheap.Slice[T], n int) offheap.Slice[T] {
	if s.Len() >= n {
		return s
	}
	s.Release()
	return offheap.Make[T](n)
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
