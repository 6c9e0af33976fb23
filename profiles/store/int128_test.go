package store

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/sonde-io/sonde/profiles"
)

func bigOf(a int128) *big.Int {
	v := new(big.Int).Lsh(big.NewInt(a.Hi), 64)
	return v.Add(v, new(big.Int).SetUint64(a.Lo))
}

func randomInt64(rng *rand.Rand) int64 {
	switch rng.IntN(4) {
	case 0:
		return []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt64 - 1}[rng.IntN(6)]
	default:
		return int64(rng.Uint64()) >> rng.IntN(64)
	}
}

// TestInt128 compares the arithmetic with math/big.
func TestInt128(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		x, y, w := randomInt64(rng), randomInt64(rng), randomInt64(rng)&math.MaxInt64|1
		p := profiles.Mul128(x, y)
		if want := new(big.Int).Mul(big.NewInt(x), big.NewInt(y)); bigOf(p).Cmp(want) != 0 {
			t.Fatalf("%d × %d is %v, want %v", x, y, bigOf(p), want)
		}
		q, r := p.QuoRem(w)
		if wq, wr := new(big.Int).QuoRem(bigOf(p), big.NewInt(w), new(big.Int)); bigOf(q).Cmp(wq) != 0 || r != wr.Int64() {
			t.Fatalf("%v / %d is %v and %d, want %v and %v", bigOf(p), w, bigOf(q), r, wq, wr)
		}
		if back := q.Mul(w).Add(profiles.Int128From(r)); back != p {
			t.Fatalf("%v / %d × %d is %v", bigOf(p), w, w, bigOf(back))
		}
		var cell int128
		addScaled(&cell, x, y)
		addScaled(&cell, y, w)
		if want := p.Add(profiles.Mul128(y, w)); cell != want {
			t.Fatalf("accumulated %v, want %v", bigOf(cell), bigOf(want))
		}
		b := appendVarint128(nil, p)
		if got, n := varint128(b); got != p || n != len(b) {
			t.Fatalf("%v comes back as %v after %d of %d bytes", bigOf(p), bigOf(got), n, len(b))
		}
		if p.Fits() {
			if plain := binary.AppendVarint(nil, int64(p.Lo)); string(plain) != string(b) {
				t.Fatalf("%d is encoded as %x, want %x", int64(p.Lo), b, plain)
			}
		}
	}
}

func TestDivRound(t *testing.T) {
	for _, test := range []struct {
		v         int128
		by, want  int64
		saturated bool
	}{
		{profiles.Int128From(5), 2, 3, false}, {profiles.Int128From(-5), 2, -3, false}, {profiles.Int128From(4), 3, 1, false}, {profiles.Int128From(-4), 3, -1, false},
		{profiles.Int128From(1), 2, 1, false}, {profiles.Int128From(0), 7, 0, false}, {profiles.Mul128(math.MaxInt64, 4), 2, math.MaxInt64, true},
		{profiles.Mul128(math.MinInt64, 4), 2, math.MinInt64, true}, {profiles.Mul128(math.MaxInt64, 1000), 1000, math.MaxInt64, false}, {profiles.Int128From(math.MinInt64), 1, math.MinInt64, false},
	} {
		if got, cut := test.v.DivRound(test.by); got != test.want || cut != test.saturated {
			t.Errorf("%v / %d is %d, %v; want %d, %v", bigOf(test.v), test.by, got, cut, test.want, test.saturated)
		}
	}
}
