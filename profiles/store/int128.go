package store

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// int128 is a signed 128-bit integer in two's complement. Sums of byte-milliseconds of a fleet pass 64 bits, and a sum that
// was cut could not be equal to the sum of its parts.
type int128 struct {
	hi int64
	lo uint64
}

func int128From(v int64) int128 { return int128{v >> 63, uint64(v)} }

func (a int128) add(b int128) int128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	return int128{a.hi + b.hi + int64(carry), lo}
}

func (a int128) neg() int128 {
	lo, borrow := bits.Sub64(0, a.lo, 0)
	return int128{-a.hi - int64(borrow), lo}
}

func (a int128) sub(b int128) int128 { return a.add(b.neg()) }

func (a int128) isZero() bool { return a.hi == 0 && a.lo == 0 }

// fits reports whether a is an int64.
func (a int128) fits() bool { return a.hi == int64(a.lo)>>63 }

// abs returns the magnitude of a, which as an unsigned number has room for that of the smallest int128 too.
func (a int128) abs() (hi, lo uint64) {
	if a.hi < 0 {
		a = a.neg()
	}
	return uint64(a.hi), a.lo
}

// sum64 returns the sum of vs.
func sum64(vs []int64) int128 {
	var hi int64
	var lo uint64
	for _, v := range vs {
		var carry uint64
		lo, carry = bits.Add64(lo, uint64(v), 0)
		hi += v>>63 + int64(carry)
	}
	return int128{hi, lo}
}

// mul64 returns v × w exactly.
func mul64(v, w int64) int128 {
	hi, lo := bits.Mul64(uint64(v), uint64(w))
	h := int64(hi)
	if v < 0 {
		h -= w
	}
	if w < 0 {
		h -= v
	}
	return int128{h, lo}
}

// mulSmall returns a × w modulo 2^128.
func (a int128) mulSmall(w int64) int128 {
	hi, lo := bits.Mul64(a.lo, uint64(w))
	h := int64(hi) + a.hi*w
	if w < 0 {
		h -= int64(a.lo)
	}
	return int128{h, lo}
}

// quoRem divides by w > 0, towards zero; the remainder has the sign of a.
func (a int128) quoRem(w int64) (q int128, r int64) {
	hi, lo := a.abs()
	qhi, rem := hi/uint64(w), hi%uint64(w)
	qlo, rem := bits.Div64(rem, lo, uint64(w))
	q, r = int128{int64(qhi), qlo}, int64(rem)
	if a.hi < 0 {
		return q.neg(), -r
	}
	return q, r
}

// divRound divides by w > 0 and rounds half away from zero. saturated says that the result was cut to an int64.
func (a int128) divRound(w int64) (v int64, saturated bool) {
	q, r := a.quoRem(w)
	if r < 0 {
		r = -r
	}
	if r >= w-r {
		if a.hi < 0 {
			q = q.sub(int128From(1))
		} else {
			q = q.add(int128From(1))
		}
	}
	return q.int64()
}

// int64 returns a, cut to the range of int64.
func (a int128) int64() (v int64, saturated bool) {
	if a.fits() {
		return int64(a.lo), false
	}
	if a.hi < 0 {
		return math.MinInt64, true
	}
	return math.MaxInt64, true
}

// float returns the nearest float64 or one beside it.
func (a int128) float() float64 {
	hi, lo := a.abs()
	f := math.Ldexp(float64(hi), 64) + float64(lo)
	if a.hi < 0 {
		return -f
	}
	return f
}

// appendVarint128 appends a as a zigzag varint of at most 19 bytes; int64s take the bytes that binary.AppendVarint gives them.
func appendVarint128(b []byte, a int128) []byte {
	s := uint64(a.hi >> 63)
	hi, lo := (uint64(a.hi)<<1|a.lo>>63)^s, a.lo<<1^s
	for hi != 0 || lo >= 0x80 {
		b = append(b, byte(lo)|0x80)
		lo, hi = lo>>7|hi<<57, hi>>7
	}
	return append(b, byte(lo))
}

var errVarint = errors.New("varint is cut short or too long")

func varint128(b []byte) (int128, int) {
	if v, n := binary.Varint(b); n > 0 {
		return int128From(v), n
	}
	var hi, lo uint64
	for i, c := range b {
		if i > 18 || i == 18 && c > 3 {
			return int128{}, 0
		}
		x, shift := uint64(c&0x7f), uint(7*i)
		if shift < 64 {
			lo |= x << shift
			if shift > 57 {
				hi |= x >> (64 - shift)
			}
		} else {
			hi |= x << (shift - 64)
		}
		if c < 0x80 {
			s := -(lo & 1)
			return int128{int64(hi>>1 ^ s), (lo>>1 | hi<<63) ^ s}, i + 1
		}
	}
	return int128{}, 0
}

// magnitude returns |v|, right for the smallest int64 too.
func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
