package store

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// appendSumColumn encodes a slice's share of a column of sums in stack-major order. covered, given for gauges, is that of each of the slice's windows: a sum is
// its quotient by it, which hardly changes from window to window, and the remainder. What takes the fewest bytes is taken.
func appendSumColumn(b []byte, values []int128, of *chunkStacks, covered []int64) []byte {
	flag := byte(0)
	if smallSum(values) {
		flag = flagSmall
	}
	g := gcd128(values)
	scaled := make([]int128, len(values))
	for i, v := range values {
		scaled[i], _ = v.QuoRem(int64(g))
	}
	best := appendSums128(nil, modePlain|flag, g, scaled, of.counts)
	if len(of.counts) < len(values) {
		if d := appendSums128(nil, modeDelta|flag, g, scaled, of.counts); len(d) < len(best) {
			best = d
		}
	}
	if covered != nil && slices.Min(covered) > 0 {
		if m := appendMeans(nil, modeMean|flag, values, of, covered); len(m) < len(best) {
			best = m
		}
	}
	return append(b, best...)
}

func smallSum(values []int128) bool {
	all := uint64(0)
	for _, v := range values {
		hi, lo := v.Abs()
		if hi != 0 || lo >= 1<<62 {
			return false
		}
		if all += lo; all >= 1<<62 {
			return false
		}
	}
	return true
}

func appendSums128(b []byte, mode byte, scale uint64, values []int128, counts []uint32) []byte {
	b = binary.AppendUvarint(append(b, mode), scale)
	if mode&^flagSmall == modePlain {
		for _, v := range values {
			b = appendVarint128(b, v)
		}
		return b
	}
	at := 0
	for _, n := range counts {
		var prev int128
		for _, v := range values[at : at+int(n)] {
			b = appendVarint128(b, v.Sub(prev))
			prev = v
		}
		at += int(n)
	}
	return b
}

func appendMeans(b []byte, mode byte, values []int128, of *chunkStacks, covered []int64) []byte {
	rest := make([]int64, len(values))
	quotients := make([]int128, len(values))
	var g uint64
	for i, v := range values {
		quotients[i], rest[i] = v.QuoRem(covered[of.profile[i]])
		g = gcd(g, magnitude(rest[i]))
	}
	g = max(g, 1)
	b = binary.AppendUvarint(append(b, mode), g)
	at := 0
	for _, n := range of.counts {
		var prev int128
		for _, q := range quotients[at : at+int(n)] {
			b = appendVarint128(b, q.Sub(prev))
			prev = q
		}
		at += int(n)
	}
	for _, r := range rest {
		b = binary.AppendVarint(b, r/int64(g))
	}
	return b
}

// decodeSumColumn reads a slice's share of a column of sums, in stack-major order. covered is that of each of the slice's windows.
func (c *chunkStacks) decodeSumColumn(b []byte, covered []int64, out []int128) ([]int128, error) {
	h, err := columnHeader(b, nil)
	if err != nil {
		return nil, err
	}
	if len(h.b) < len(c.profile) || h.mode > modeMean || h.mode == modeSame {
		return nil, fmt.Errorf("column of sums of mode %d has %d bytes for %d values", h.mode, len(h.b), len(c.profile))
	}
	out = slices.Grow(out[:0], len(c.profile))[:len(c.profile)]
	if h.mode == modePlain {
		for i := range out {
			if len(h.b) > 0 && h.b[0] < 0x80 { // most of them
				v := h.b[0]
				h.b = h.b[1:]
				out[i] = profiles.Mul128(int64(v>>1)^-int64(v&1), h.scale)
				continue
			}
			out[i] = h.varint128().Mul(h.scale)
		}
		return out, h.done()
	}
	at := 0
	for _, n := range c.counts {
		var prev int128
		for i := at; i < at+int(n); i++ {
			prev = prev.Add(h.varint128())
			if h.mode == modeDelta {
				out[i] = prev.Mul(h.scale)
			} else {
				out[i] = prev.Mul(covered[c.profile[i]])
			}
		}
		at += int(n)
	}
	if h.mode == modeMean {
		for i := range out {
			if r := h.varint(); r != 0 {
				out[i] = out[i].Add(profiles.Mul128(r, h.scale))
			}
		}
	}
	return out, h.done()
}

// addScaled adds v × w to the accumulator's cell, the inner step of every merge.
func addScaled(cell *int128, v, w int64) {
	p := profiles.Mul128(v, w)
	var carry uint64
	cell.Lo, carry = bits.Add64(cell.Lo, p.Lo, 0)
	cell.Hi += p.Hi + int64(carry)
}
