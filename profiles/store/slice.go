package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// chunkStacks is what a slice of a chunk holds in one group, without the values: its rows in order of stack, and of profile in each stack.
type chunkStacks struct {
	stacks  []uint32 // ascending
	counts  []uint32 // rows of each
	profile []uint32 // of each row its profile's index in the slice, ascending in each stack
}

// appendStacks encodes which stacks occur in a slice of n profiles, and how often: its share of the part "stacks".
func (c *chunkStacks) appendStacks(b []byte, n, version int) []byte {
	full := len(c.profile) == n*len(c.stacks)
	if version == version1 {
		full = false
		b = binary.AppendUvarint(b, uint64(len(c.stacks)))
	} else {
		b = binary.AppendUvarint(b, uint64(len(c.stacks))<<1|uint64(bit(full)))
	}
	prev := int64(-1)
	for _, s := range c.stacks {
		b = binary.AppendUvarint(b, uint64(int64(s)-prev-1))
		prev = int64(s)
	}
	if full {
		return b
	}
	for _, c := range c.counts {
		b = binary.AppendUvarint(b, uint64(c))
	}
	return b
}

// appendMembers encodes which of n profiles each stack is in: a slice's share of the part "members".
func (c *chunkStacks) appendMembers(b []byte, n int) []byte {
	at := 0
	for _, count := range c.counts {
		if int(count) != n { // else in every profile: the indices are known
			prev := int64(-1)
			for _, j := range c.profile[at : at+int(count)] {
				b = binary.AppendUvarint(b, uint64(int64(j)-prev-1))
				prev = int64(j)
			}
		}
		at += int(count)
	}
	return b
}

// decodeStacks reads a slice's share of the part "stacks", of n profiles: stacks, whose ids are below limit, and counts, at most rows in all. It returns the
// number of rows, and what follows: in version 1 the members.
func (c *chunkStacks) decodeStacks(b []byte, n, rows, limit, version int) (total int, rest []byte, err error) {
	d := decoder{b: b}
	full := false
	if version != version1 && len(b) > 0 {
		full = b[0]&1 != 0
		x := d.uvarint()
		if d.checkCount(x>>1, 1); d.err != nil {
			return 0, nil, d.err
		}
		c.sized(int(x >> 1))
	} else {
		c.sized(d.count(1))
	}
	if d.err != nil {
		return 0, nil, d.err
	}
	d.uvarints(c.stacks, uint64(limit))
	if d.err == nil && !ascend(c.stacks, limit) {
		d.fail(fmt.Errorf("stack ids are not below %d", limit))
	}
	if full {
		for i := range c.counts {
			c.counts[i] = uint32(n)
		}
	} else {
		d.uvarints(c.counts, uint64(n))
	}
	for _, v := range c.counts {
		if v == 0 {
			d.fail(errors.New("stack occurs in no profile"))
		}
		total += int(v)
	}
	if d.err == nil && total > rows {
		d.fail(fmt.Errorf("stacks have %d rows, the index says %d in all", total, rows))
	}
	return total, d.b, d.err
}

func (c *chunkStacks) sized(k int) {
	c.stacks, c.counts = slices.Grow(c.stacks[:0], k)[:k], slices.Grow(c.counts[:0], k)[:k]
}

// checkCount fails if the rest of the section cannot hold n things of size bytes.
func (d *decoder) checkCount(n uint64, size int) {
	if n > uint64(len(d.b)/size) {
		d.fail(fmt.Errorf("count %d is more than %d bytes can hold", n, len(d.b)))
	}
}

// decodeMembers reads a slice's share of the part "members": profile, of total rows of the stacks read before.
func (c *chunkStacks) decodeMembers(b []byte, n, total int) error {
	d := decoder{b: b}
	c.profile = slices.Grow(c.profile[:0], total)[:total]
	at := 0
	for _, count := range c.counts {
		of := c.profile[at : at+int(count)]
		at += int(count)
		if int(count) == n {
			for j := range of {
				of[j] = uint32(j)
			}
			continue
		}
		d.uvarints(of, uint64(n))
		if d.err == nil && !ascend(of, n) {
			d.fail(fmt.Errorf("profile indices are not below %d", n))
		}
		if d.err != nil {
			return d.err
		}
	}
	return d.done()
}

// ascend turns differences to the one before, minus 1, into the numbers themselves, and reports whether all are below limit.
func ascend(ids []uint32, limit int) bool {
	next := uint64(0)
	for i, delta := range ids {
		id := next + uint64(delta)
		if id >= uint64(limit) {
			return false
		}
		ids[i] = uint32(id)
		next = id + 1
	}
	return true
}

// sliced is a part in the making that is cut into the shares of a chunk's slices.
type sliced struct {
	shares []byte
	ends   []int
}

func (s *sliced) reset() { s.shares, s.ends = s.shares[:0], s.ends[:0] }

// cut ends a slice's share.
func (s *sliced) cut() { s.ends = append(s.ends, len(s.shares)) }

// append appends the part: the length of each share but the last, then the shares.
func (s *sliced) append(b []byte) []byte {
	at := 0
	for _, end := range s.ends[:len(s.ends)-1] {
		b = binary.AppendUvarint(b, uint64(end-at))
		at = end
	}
	return append(b, s.shares...)
}

// shares is a part that was read, cut into the shares of n slices.
type shares struct {
	raw  []byte
	ends []int // of each share in raw
}

// split reads the lengths of n shares.
func (s *shares) split(raw []byte, n int) error {
	d := decoder{b: raw}
	s.ends = slices.Grow(s.ends[:0], n)[:0]
	total := uint64(0)
	for range n - 1 {
		total += uint64(d.uint32())
		s.ends = append(s.ends, int(total))
	}
	if d.err == nil && total > uint64(len(d.b)) {
		d.fail(fmt.Errorf("shares of %d bytes in %d", total, len(d.b)))
	}
	s.raw, s.ends = d.b, append(s.ends, len(d.b))
	return d.err
}

// share returns that of slice i.
func (s *shares) share(i int) []byte {
	lo := 0
	if i > 0 {
		lo = s.ends[i-1]
	}
	return s.raw[lo:s.ends[i]:s.ends[i]]
}
