//go:build unix

package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/sonde-io/sonde/profiles"
)

// CPUTime returns the CPU time of the process so far: user and system, of all threads.
func CPUTime(t testing.TB) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// Meter adds up CPU time of the process over what Run runs. The zero value is ready.
type Meter struct{ Total time.Duration }

// Run runs fn and adds its CPU time.
func (m *Meter) Run(t testing.TB, fn func()) {
	t.Helper()
	before := CPUTime(t)
	fn()
	m.Total += CPUTime(t) - before
}

const (
	batches   = 7
	batchTime = 150 * time.Millisecond // CPU of a batch, about
)

// PerCall returns the CPU time of one call of fn once it is warm: the median of several batches, each of which is long enough to carry its share of garbage
// collection.
func PerCall(t testing.TB, fn func()) time.Duration {
	t.Helper()
	fn()
	fn()
	runtime.GC()
	before := CPUTime(t)
	fn()
	once := max(CPUTime(t)-before, time.Microsecond)
	n := max(1, int(batchTime/once))
	var all []time.Duration
	for range batches {
		before := CPUTime(t)
		for range n {
			fn()
		}
		all = append(all, (CPUTime(t)-before)/time.Duration(n))
	}
	slices.Sort(all)
	return all[batches/2]
}

// RandomAdd returns the CPU time in nanoseconds of one addition to a random one of the 64-bit numbers in 1 MB: the yardstick of merging.
func RandomAdd(t testing.TB) float64 {
	const numbers, adds = 1 << 17, 1 << 20
	acc, order := make([]int64, numbers), make([]uint32, adds)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range order {
		order[i] = rng.Uint32N(numbers)
	}
	k := int64(0)
	d := PerCall(t, func() {
		k++
		for _, i := range order {
			acc[i] += k
		}
	})
	runtime.KeepAlive(acc)
	return float64(d.Nanoseconds()) / adds
}

// Yardsticks are the CPU times that reading what a fleet sends takes at least, per profile.
type Yardsticks struct {
	Decode time.Duration // to gunzip and to decode into flat arrays that are used again
	Google time.Duration // the same gunzip, and google/pprof's ParseUncompressed
}

// Mean returns the mean of two measurements.
func (y Yardsticks) Mean(z Yardsticks) Yardsticks {
	return Yardsticks{(y.Decode + z.Decode) / 2, (y.Google + z.Google) / 2}
}

// Yardsticks measures over what f sends in the order in which f sends it, as the store meets it: read again and again, one file is in the processor's caches
// and its branches are foretold. Of a large fleet it takes some windows, spread over all.
func (f *Fleet) Yardsticks(t testing.TB) Yardsticks {
	t.Helper()
	const most = 4000 // profiles
	var order [][]byte
	every := 1 + f.Windows*f.Instances*4/most
	for w := 0; w < f.Windows; w += every {
		for i := range f.Instances {
			for _, e := range f.Entries(i, w) {
				order = append(order, e.Data)
			}
		}
	}
	each := func(fn func(data []byte) error) time.Duration {
		before := CPUTime(t)
		for _, data := range order {
			if err := fn(data); err != nil {
				t.Fatal(err)
			}
		}
		return (CPUTime(t) - before) / time.Duration(len(order))
	}
	const maxBytes = 64 << 20
	var buf []byte
	var decoder profiles.Decoder
	var y Yardsticks
	runtime.GC()
	y.Decode = each(func(data []byte) error {
		_, err := decoder.Decode(data, profiles.Limits{})
		return err
	})
	y.Google = each(func(data []byte) (err error) {
		if buf, err = profiles.Gunzip(buf[:0], data, maxBytes); err == nil {
			_, err = profile.ParseUncompressed(buf)
		}
		return err
	})
	return y
}

// AtMost reports a figure with the limit that it is held to; a limit of 0 is none.
func AtMost(b *testing.B, value float64, unit string, limit float64) {
	if limit > 0 {
		unit += fmt.Sprintf("(≤%g)", limit)
	}
	b.ReportMetric(value, unit)
}
