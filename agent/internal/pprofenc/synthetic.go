package pprofenc

import (
	"io"
	"runtime"
	"time"
)

// NewHeapFrom returns a Heap over the records that read hands out instead of the runtime's: for golden files and tests, whose
// bytes must not depend on the machine.
func NewHeapFrom(read func() []runtime.MemProfileRecord) *Heap {
	return &Heap{read: func(p []runtime.MemProfileRecord, _ bool) (int, bool) {
		recs := read()
		if len(p) < len(recs) {
			return len(recs), false
		}
		return copy(p, recs), true
	}}
}

// WriteCPU writes the gzipped CPU profile of [start, end) in which each stack was seen count times at 100 Hz: for golden files.
func WriteCPU(b *Builder, w io.Writer, start, end time.Time, stacks [][]uintptr, counts []int64) error {
	const period = int64(10 * time.Millisecond)
	b.begin(w, []valueType{{"samples", "count"}, {"cpu", "nanoseconds"}}, valueType{"cpu", "nanoseconds"}, period, "", start, end)
	for i, s := range stacks {
		b.sample(b.stack(s, false), []int64{counts[i], counts[i] * period})
	}
	return b.finish()
}
