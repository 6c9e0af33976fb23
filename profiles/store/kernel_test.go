package store

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// kernelParts encodes a slice of n profiles with random stacks as the writer does.
func kernelParts(rng *rand.Rand, n, stacks int) (parts [3][]byte) {
	var st chunkStacks
	var values []int64
	for s := range stacks {
		count := uint32(0)
		for j := range n {
			if rng.IntN(3) != 0 || s%4 == 0 {
				st.profile = append(st.profile, uint32(j))
				values = append(values, rng.Int64N(1<<uint(1+rng.IntN(40)))-100)
				count++
			}
		}
		if count > 0 {
			st.stacks, st.counts = append(st.stacks, uint32(2*s)), append(st.counts, count)
		}
	}
	var e columnEncoder
	return [3][]byte{st.appendStacks(nil, n, version2), st.appendMembers(nil, n), e.append(nil, values, st.counts, version2)}
}

// FuzzKernel adds up a slice of any bytes in all ways: none panics, and those that succeed agree.
func FuzzKernel(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 5, 32} {
		p := kernelParts(rng, n, 30)
		f.Add(byte(n), p[0], p[1], p[2])
		f.Add(byte(n), p[0], p[1], append([]byte{p[2][0] &^ flagSmall}, p[2][1:]...)) // in 128 bits
	}
	f.Fuzz(func(t *testing.T, profiles byte, stacks, members, column []byte) {
		n := 1 + int(profiles)%64
		chunk := &chunkInfo{version: version2, profiles: n, per: n}
		g := &groupInfo{rows: 1 << 20, columns: make([]located, 1)}
		g.members.stored = uint32(len(members)) // where it is 0 there is no such part
		const limit = 100
		honest := true // the flag says that the values add up in 64 bits, and they do
		add := func(weights []int64, slots []uint32) ([]int128, error) {
			a := adder{cells: make([]int128, limit+n)}
			must(t, a.open(chunk, g, nil, limit))
			for i, b := range [][]byte{stacks, members, column} {
				a.parts[i] = openedPart{opened: true}
				must(t, a.parts[i].split(b, 1))
			}
			base := make([]uint32, limit)
			for i := range base {
				if base[i] = uint32(i); i%5 == 4 {
					base[i] = noCell
				}
			}
			sel := &selection{weights: weights, slots: slots, base: base}
			err := a.addSlice(0, 0, n, sel, weights, slots, 0, slots == nil && allEqual(weights))
			all := uint64(0)
			for _, v := range a.values {
				honest = honest && magnitude(v) < 1<<62 && all < 1<<62
				all += magnitude(v)
			}
			return a.cells, err
		}
		ones := slices.Repeat([]int64{1}, n)
		whole, err := add(ones, nil)
		scattered, scatterErr := add(ones, make([]uint32, n))
		if err == nil && scatterErr == nil && honest && !slices.Equal(whole, scattered) {
			t.Errorf("added as a whole %v, one by one %v", whole, scattered)
		}
		some := slices.Clone(ones)
		for i := range some {
			some[i] = int64(i % 2)
		}
		marked, markedErr := add(some, nil)
		scattered, scatterErr = add(some, make([]uint32, n))
		if markedErr == nil && scatterErr == nil && honest && !slices.Equal(marked, scattered) {
			t.Errorf("marked ones added %v, one by one %v", marked, scattered)
		}
		if n > 1 && (markedErr == nil) != (scatterErr == nil) && len(column) > 0 && column[0]&flagSmall != 0 {
			t.Errorf("marked ones: %v, one by one: %v", markedErr, scatterErr)
		}
	})
}
