package store

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func (a int128) big() *big.Int {
	v := new(big.Int).Lsh(big.NewInt(a.hi), 64)
	return v.Add(v, new(big.Int).SetUint64(a.lo))
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
		p := mul64(x, y)
		if want := new(big.Int).Mul(big.NewInt(x), big.NewInt(y)); p.big().Cmp(want) != 0 {
			t.Fatalf("%d × %d is %v, want %v", x, y, p.big(), want)
		}
		q, r := p.quoRem(w)
		if wq, wr := new(big.Int).QuoRem(p.big(), big.NewInt(w), new(big.Int)); q.big().Cmp(wq) != 0 || r != wr.Int64() {
			t.Fatalf("%v / %d is %v and %d, want %v and %v", p.big(), w, q.big(), r, wq, wr)
		}
		if back := q.mulSmall(w).add(int128From(r)); back != p {
			t.Fatalf("%v / %d × %d is %v", p.big(), w, w, back.big())
		}
		var cell int128
		addScaled(&cell, x, y)
		addScaled(&cell, y, w)
		if want := p.add(mul64(y, w)); cell != want {
			t.Fatalf("accumulated %v, want %v", cell.big(), want.big())
		}
		b := appendVarint128(nil, p)
		if got, n := varint128(b); got != p || n != len(b) {
			t.Fatalf("%v comes back as %v after %d of %d bytes", p.big(), got.big(), n, len(b))
		}
		if p.fits() {
			if plain := binary.AppendVarint(nil, int64(p.lo)); string(plain) != string(b) {
				t.Fatalf("%d is encoded as %x, want %x", int64(p.lo), b, plain)
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
		{int128From(5), 2, 3, false}, {int128From(-5), 2, -3, false}, {int128From(4), 3, 1, false}, {int128From(-4), 3, -1, false},
		{int128From(1), 2, 1, false}, {int128From(0), 7, 0, false}, {mul64(math.MaxInt64, 4), 2, math.MaxInt64, true},
		{mul64(math.MinInt64, 4), 2, math.MinInt64, true}, {mul64(math.MaxInt64, 1000), 1000, math.MaxInt64, false}, {int128From(math.MinInt64), 1, math.MinInt64, false},
	} {
		if got, cut := test.v.divRound(test.by); got != test.want || cut != test.saturated {
			t.Errorf("%v / %d is %d, %v; want %d, %v", test.v.big(), test.by, got, cut, test.want, test.saturated)
		}
	}
}
