package profiles

import (
	"fmt"
	"math"
	"math/bits"
)

// LimitValue is the LimitError.Limit of a value that would no longer fit 63 bits.
const LimitValue = "max_value"

// Scale multiplies every value of p by n, which is at least 1: a profile that was taken of one process, or in one slot of time, in n stands for n of them. Either
// all values are multiplied or, where one would pass 63 bits, none and the error is a *LimitError. Period, time and duration stay as they are.
func (p *Profile) Scale(n int64) error {
	if n < 1 {
		return fmt.Errorf("scale profile by %d: want at least 1", n)
	}
	if n == 1 {
		return nil
	}
	for _, v := range p.Values {
		size := uint64(v)
		if v < 0 {
			size = -size
		}
		if hi, lo := bits.Mul64(size, uint64(n)); hi != 0 || lo > math.MaxInt64 {
			return &LimitError{Limit: LimitValue, What: fmt.Sprintf("a value of which there are to be %d", n), Max: math.MaxInt64 / n, Got: int64(min(size, math.MaxInt64))}
		}
	}
	for i := range p.Values {
		p.Values[i] *= n
	}
	return nil
}
