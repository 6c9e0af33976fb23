package store

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// How the values of a column are encoded, in a slice's share of it.
const (
	modePlain        = iota // zigzag varints
	modeDelta               // each as the difference to the one before it of the same stack
	modeSame                // divided by their gcd they equal an earlier column's: no values follow
	modeMean                // sums of gauges: the quotient by the window's covered time as a delta, then the remainder
	modeSampled             // what the runtime's heap profile scaled up: the counts before scaling, see sampled.go
	modeSampledBytes        // the column of bytes beside one of modeSampled
	modeCount
)

// flagSmall is set beside a mode where the magnitudes of all values of the share add up to less than 2^62: they can be added up in 64 bits, in any order. Version 1 has none.
const flagSmall = 0x80

// columnEncoder encodes the columns of one group of one slice. Not safe for concurrent use.
type columnEncoder struct {
	scaled [][]int64 // of each column of the slice what it is divided by its gcd
	used   int
}

// next returns a buffer of n values, which counts as the slice's next column.
func (e *columnEncoder) next(n int) []int64 {
	if e.used == len(e.scaled) {
		e.scaled = append(e.scaled, nil)
	}
	e.scaled[e.used] = slices.Grow(e.scaled[e.used][:0], n)[:n]
	e.used++
	return e.scaled[e.used-1]
}

// append encodes values, the next column of a slice whose stacks have counts rows each.
func (e *columnEncoder) append(b []byte, values []int64, counts []uint32, version int) []byte {
	var g, all uint64
	small := true
	for _, v := range values {
		m := magnitude(v)
		if g != 1 {
			g = gcd(g, m)
		}
		all += m
		small = small && m < 1<<62 && all < 1<<62
	}
	if g == 0 || g > 1<<62 {
		g = 1
	}
	flag := byte(0)
	if small && version != version1 {
		flag = flagSmall
	}
	earlier := e.scaled[:e.used]
	scaled := e.next(len(values))
	if g == 1 {
		copy(scaled, values)
	} else {
		for i, v := range values {
			scaled[i] = v / int64(g)
		}
	}
	for i, o := range earlier {
		if slices.Equal(o, scaled) {
			b = binary.AppendUvarint(append(b, modeSame|flag), g)
			return binary.AppendUvarint(b, uint64(i))
		}
	}
	if plainIsShorter(scaled, counts) {
		b = binary.AppendUvarint(append(b, modePlain|flag), g)
		for _, v := range scaled {
			b = binary.AppendVarint(b, v)
		}
		return b
	}
	b = binary.AppendUvarint(append(b, modeDelta|flag), g)
	at := 0
	for _, c := range counts {
		prev := int64(0)
		for _, v := range scaled[at : at+int(c)] {
			b = binary.AppendVarint(b, v-prev) // wraps, and wraps back in the reader
			prev = v
		}
		at += int(c)
	}
	return b
}

func plainIsShorter(values []int64, counts []uint32) bool {
	if len(counts) == len(values) { // each stack is there once: there is nothing before it
		return true
	}
	plain, delta, at := 0, 0, 0
	for _, c := range counts {
		prev := int64(0)
		for _, v := range values[at : at+int(c)] {
			plain += varintLen(v)
			delta += varintLen(v - prev)
			prev = v
		}
		at += int(c)
	}
	return plain <= delta
}

func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

// columnHead is the start of a column's share, with what follows.
type columnHead struct {
	mode  byte
	small bool // the magnitudes of the values add up to less than 2^62
	scale int64
	decoder
}

// columnHeader reads it. For modeSame it follows same, which returns the same slice's share of another column of the group.
func columnHeader(b []byte, same func(c int) ([]byte, error)) (h columnHead, err error) {
	h.b = b
	m := h.byte()
	h.mode, h.small = m&^flagSmall, m&flagSmall != 0
	g := h.uvarint()
	if h.err == nil && (h.mode >= modeCount || g == 0 || g > 1<<62) {
		h.fail(fmt.Errorf("column has mode %d and scale %d", h.mode, g))
	}
	h.scale = int64(g)
	if h.mode != modeSame || h.err != nil {
		return h, h.err
	}
	c := h.uvarint()
	if err := h.done(); err != nil {
		return h, err
	}
	if c >= maxColumns || same == nil {
		return h, fmt.Errorf("column refers to column %d", c)
	}
	b, err = same(int(c))
	if err != nil {
		return h, err
	}
	of, err := columnHeader(b, nil)
	of.small, of.scale = h.small, h.scale
	return of, err
}

// decodeColumn reads a column of n rows of profiles in stack-major order; counts are the rows of each stack.
func decodeColumn(b []byte, n int, counts []uint32, out []int64, scratch *sampledCounts, same func(c int) ([]byte, error)) ([]int64, error) {
	h, err := columnHeader(b, same)
	if err != nil {
		return nil, err
	}
	if h.sampled() {
		return scratch.decodeColumn(&h, n, counts, out, same)
	}
	if len(h.b) < n || h.mode == modeMean {
		return nil, fmt.Errorf("column of mode %d has %d bytes for %d values", h.mode, len(h.b), n)
	}
	return decodeInt64s(&h, n, counts, out)
}

// decodeInt64s reads n values in stack-major order, of a column of mode plain or delta whose head was read; counts are the rows of each stack.
func decodeInt64s(h *columnHead, n int, counts []uint32, out []int64) ([]int64, error) {
	out = slices.Grow(out[:0], n)[:n]
	h.varints(out)
	if h.mode == modeDelta {
		at := 0
		for _, n := range counts {
			prev := int64(0)
			of := out[at : at+int(n)]
			for i, v := range of {
				prev += v
				of[i] = prev
			}
			at += int(n)
		}
	}
	if h.scale != 1 {
		for i := range out {
			out[i] *= h.scale
		}
	}
	return out, h.done()
}
