package store

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// runtimeScale is runtime/pprof's scaleHeapSample.
func runtimeScale(count, size, rate int64) (int64, int64) {
	if count == 0 || size == 0 {
		return 0, 0
	}
	if rate <= 1 {
		return count, size
	}
	avg := float64(size) / float64(count)
	scale := 1 / (1 - math.Exp(-avg/float64(rate)))
	return int64(float64(count) * scale), int64(float64(size) * scale)
}

var testPair = sampledPair{objects: 0, bytes: 1, rate: 512 << 10}

// scaledColumns are an objects and a bytes column in stack-major order.
type scaledColumns struct {
	objects, bytes []int64
	rows           []uint32
	sizes          []int64
}

// runtimePair makes what the runtime would print for random allocations.
func runtimePair(rng *rand.Rand, stacks, rate int) (p scaledColumns) {
	for range stacks {
		size, n, count := int64(8)<<rng.IntN(16), 1+rng.IntN(32), int64(0)
		p.rows, p.sizes = append(p.rows, uint32(n)), append(p.sizes, size)
		for range n {
			count += 1 + rng.Int64N(5)
			o, b := runtimeScale(count, count*size, int64(rate))
			p.objects, p.bytes = append(p.objects, o), append(p.bytes, b)
		}
	}
	return p
}

func (p *scaledColumns) roundTrip(t *testing.T, e *sampledEncoder) (objects, bytes []byte) {
	t.Helper()
	objects, bytes = e.append(nil, p.rows, testPair, 0), e.append(nil, p.rows, testPair, 1)
	for _, c := range []struct {
		name  string
		share []byte
		want  []int64
	}{{"objects", objects, p.objects}, {"bytes", bytes, p.bytes}} {
		got, err := decodeColumn(c.share, len(c.want), p.rows, nil, new(sampledCounts), func(int) ([]byte, error) { return objects, nil })
		must(t, err)
		if !slices.Equal(got, c.want) {
			t.Fatalf("%s differ after a round trip:\ngot  %v\nwant %v", c.name, got, c.want)
		}
	}
	return objects, bytes
}

// TestSampledExact checks that what the runtime scaled needs no corrections, whatever its rate.
func TestSampledExact(t *testing.T) {
	for _, rate := range []int{1, 4096, 512 << 10} {
		p := runtimePair(rand.New(rand.NewPCG(1, uint64(rate))), 200, rate)
		var e sampledEncoder
		if !e.fit(p.objects, p.bytes, p.rows, p.sizes, int64(rate)) {
			t.Fatalf("rate %d: the runtime's own scaling does not fit", rate)
		}
		if n := len(e.objects) + len(e.bytes); n > 0 {
			t.Errorf("rate %d: %d corrections, want none", rate, n)
		}
		p.roundTrip(t, &e)
	}
}

// TestSampledCorrections disturbs some rows, as the sum of two stacks or the difference of two captures does: they come back to the unit all the same. Where
// too many are disturbed, or numbers are beyond what floats hold, nothing is encoded that way.
func TestSampledCorrections(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 3))
	p := runtimePair(rng, 300, 512<<10)
	for range len(p.objects) / 40 {
		p.objects[rng.IntN(len(p.objects))]++
		p.bytes[rng.IntN(len(p.bytes))] -= rng.Int64N(1 << 30)
	}
	p.sizes[7] = 0
	var e sampledEncoder
	if !e.fit(p.objects, p.bytes, p.rows, p.sizes, 512<<10) {
		t.Fatal("does not fit")
	}
	p.roundTrip(t, &e)
	p.objects[0] = math.MaxInt64
	if e.fit(p.objects, p.bytes, p.rows, p.sizes, 512<<10) {
		t.Error("an int64 that no float holds fits")
	}
	p.objects[0] = 1
	for i := range p.bytes {
		p.bytes[i] = rng.Int64N(1 << 40)
	}
	if e.fit(p.objects, p.bytes, p.rows, p.sizes, 512<<10) {
		t.Error("random numbers fit")
	}
}

func FuzzSampled(f *testing.F) {
	p := runtimePair(rand.New(rand.NewPCG(4, 5)), 20, 512<<10)
	p.objects[3]++
	p.bytes[5]--
	var e sampledEncoder
	e.fit(p.objects, p.bytes, p.rows, p.sizes, 512<<10)
	f.Add(e.append(nil, p.rows, testPair, 0), e.append(nil, p.rows, testPair, 1), uint8(20))
	f.Fuzz(func(t *testing.T, objects, bytes []byte, stacks uint8) {
		rows := slices.Clone(p.rows[:min(int(stacks), len(p.rows))])
		n := 0
		for _, r := range rows {
			n += int(r)
		}
		for _, share := range [][]byte{objects, bytes} {
			got, err := decodeColumn(share, n, rows, nil, new(sampledCounts), func(int) ([]byte, error) { return objects, nil })
			if err == nil && len(got) != n {
				t.Fatalf("%d values, want %d", len(got), n)
			}
		}
	})
}
