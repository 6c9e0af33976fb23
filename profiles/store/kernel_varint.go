package store

import (
	"encoding/binary"
	"math/bits"

	"github.com/sonde-io/sonde/profiles"
)

// sumVarints adds up n zigzag varints from pos on, in 64 bits, and returns where they end.
func sumVarints(b []byte, pos, n int) (sum int64, end int, ok bool) {
	for ; n > 0; n-- {
		if pos >= len(b) {
			return 0, pos, false
		}
		u := uint64(b[pos])
		if pos++; u >= 0x80 {
			if u, pos = longVarint(b, pos, u); pos < 0 {
				return 0, pos, false
			}
		}
		sum += int64(u>>1) ^ -int64(u&1)
	}
	return sum, pos, true
}

// sumDeltas is sumVarints where each number is the difference to the one before.
func sumDeltas(b []byte, pos, n int) (sum int64, end int, ok bool) {
	v := int64(0)
	for ; n > 0; n-- {
		if pos >= len(b) {
			return 0, pos, false
		}
		u := uint64(b[pos])
		if pos++; u >= 0x80 {
			if u, pos = longVarint(b, pos, u); pos < 0 {
				return 0, pos, false
			}
		}
		v += int64(u>>1) ^ -int64(u&1)
		sum += v
	}
	return sum, pos, true
}

// longVarint reads the rest of a varint whose first byte, at pos-1, is first. The position is negative where there is none.
func longVarint(b []byte, pos int, first uint64) (uint64, int) {
	if pos < len(b) && b[pos] < 0x80 {
		return first&0x7f | uint64(b[pos])<<7, pos + 1
	}
	if pos+1 < len(b) && b[pos+1] < 0x80 {
		return first&0x7f | uint64(b[pos]&0x7f)<<7 | uint64(b[pos+1])<<14, pos + 2
	}
	u, n := binary.Uvarint(b[pos-1:])
	if n <= 0 {
		return 0, -1
	}
	return u, pos - 1 + n
}

// sumWide adds up n values in 128 bits.
func sumWide(b []byte, pos, n int, delta bool, scale int64) (sum int128, end int, ok bool) {
	prev := int64(0)
	for ; n > 0; n-- {
		v, k := binary.Varint(b[pos:])
		if k <= 0 {
			return int128{}, pos, false
		}
		pos += k
		if delta {
			v += prev
			prev = v
		}
		sum = sum.Add(profiles.Int128From(v * scale))
	}
	return sum, pos, true
}

// skipVarints returns where the n varints from pos on end.
func skipVarints(b []byte, pos, n int) (end int, ok bool) {
	for n > 0 {
		if pos+8 <= len(b) && n >= 8 { // eight bytes hold the ends of eight of them at most, and then nothing else
			x := ^binary.LittleEndian.Uint64(b[pos:]) & 0x8080808080808080
			n -= bits.OnesCount64(x)
			pos += 8
			continue
		}
		if pos >= len(b) {
			return pos, false
		}
		if b[pos] < 0x80 {
			n--
		}
		pos++
	}
	return pos, true
}
