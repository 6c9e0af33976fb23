package store

import (
	"encoding/binary"
	"errors"

	"github.com/sonde-io/sonde/profiles"
)

// int128 is what sums are made in.
type int128 = profiles.Int128

// appendVarint128 appends a as a zigzag varint of at most 19 bytes; int64s take the bytes that binary.AppendVarint gives them.
func appendVarint128(b []byte, a int128) []byte {
	s := uint64(a.Hi >> 63)
	hi, lo := (uint64(a.Hi)<<1|a.Lo>>63)^s, a.Lo<<1^s
	for hi != 0 || lo >= 0x80 {
		b = append(b, byte(lo)|0x80)
		lo, hi = lo>>7|hi<<57, hi>>7
	}
	return append(b, byte(lo))
}

var errVarint = errors.New("varint is cut short or too long")

func varint128(b []byte) (int128, int) {
	if v, n := binary.Varint(b); n > 0 {
		return profiles.Int128From(v), n
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
			return int128{Hi: int64(hi>>1 ^ s), Lo: (lo>>1 | hi<<63) ^ s}, i + 1
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
