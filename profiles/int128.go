package profiles

import (
	"math"
	"math/bits"
)

// Int128 is a signed 128-bit integer in two's complement. Sums of byte-milliseconds of a fleet pass 64 bits, and a sum that
// was cut could not be equal to the sum of its parts.
type Int128 struct {
	Hi int64
	Lo uint64 // Hi × 2^64 + Lo
}

// Int128From returns v.
func Int128From(v int64) Int128 { return Int128{v >> 63, uint64(v)} }

// Add returns a + b modulo 2^128.
func (a Int128) Add(b Int128) Int128 {
	lo, carry := bits.Add64(a.Lo, b.Lo, 0)
	return Int128{a.Hi + b.Hi + int64(carry), lo}
}

// Neg returns -a.
func (a Int128) Neg() Int128 {
	lo, borrow := bits.Sub64(0, a.Lo, 0)
	return Int128{-a.Hi - int64(borrow), lo}
}

// Sub returns a - b modulo 2^128.
func (a Int128) Sub(b Int128) Int128 { return a.Add(b.Neg()) }

// IsZero reports whether a is 0.
func (a Int128) IsZero() bool { return a.Hi == 0 && a.Lo == 0 }

// Fits reports whether a is an int64.
func (a Int128) Fits() bool { return a.Hi == int64(a.Lo)>>63 }

// Abs returns the magnitude of a, which as an unsigned number has room for that of the smallest Int128 too.
func (a Int128) Abs() (hi, lo uint64) {
	if a.Hi < 0 {
		a = a.Neg()
	}
	return uint64(a.Hi), a.Lo
}

// Sum128 returns the sum of vs.
func Sum128(vs []int64) Int128 {
	var hi int64
	var lo uint64
	for _, v := range vs {
		var carry uint64
		lo, carry = bits.Add64(lo, uint64(v), 0)
		hi += v>>63 + int64(carry)
	}
	return Int128{hi, lo}
}

// Mul128 returns v × w exactly.
func Mul128(v, w int64) Int128 {
	hi, lo := bits.Mul64(uint64(v), uint64(w))
	h := int64(hi)
	if v < 0 {
		h -= w
	}
	if w < 0 {
		h -= v
	}
	return Int128{h, lo}
}

// Mul returns a × w modulo 2^128.
func (a Int128) Mul(w int64) Int128 {
	hi, lo := bits.Mul64(a.Lo, uint64(w))
	h := int64(hi) + a.Hi*w
	if w < 0 {
		h -= int64(a.Lo)
	}
	return Int128{h, lo}
}

// QuoRem divides by w > 0, towards zero; the remainder has the sign of a.
func (a Int128) QuoRem(w int64) (q Int128, r int64) {
	hi, lo := a.Abs()
	qhi, rem := hi/uint64(w), hi%uint64(w)
	qlo, rem := bits.Div64(rem, lo, uint64(w))
	q, r = Int128{int64(qhi), qlo}, int64(rem)
	if a.Hi < 0 {
		return q.Neg(), -r
	}
	return q, r
}

// DivRound divides by w > 0 and rounds half away from zero. saturated says that the result was cut to an int64.
func (a Int128) DivRound(w int64) (v int64, saturated bool) {
	q, r := a.QuoRem(w)
	if r < 0 {
		r = -r
	}
	if r >= w-r {
		if a.Hi < 0 {
			q = q.Sub(Int128From(1))
		} else {
			q = q.Add(Int128From(1))
		}
	}
	return q.Int64()
}

// Int64 returns a, cut to the range of int64.
func (a Int128) Int64() (v int64, saturated bool) {
	if a.Fits() {
		return int64(a.Lo), false
	}
	if a.Hi < 0 {
		return math.MinInt64, true
	}
	return math.MaxInt64, true
}

// Float returns the nearest float64 or one beside it.
func (a Int128) Float() float64 {
	hi, lo := a.Abs()
	f := math.Ldexp(float64(hi), 64) + float64(lo)
	if a.Hi < 0 {
		return -f
	}
	return f
}
