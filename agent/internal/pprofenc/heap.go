package pprofenc

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/sonde-io/sonde/agent/internal/offheap"
)

// MaxRecords is the most stacks of one kind that are captured: 18 MB of records while a capture lasts. A program with more has no such profile.
const MaxRecords = 1 << 16

// TooManyError says that the runtime holds more stacks than MaxRecords.
type TooManyError struct{ Records int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d stacks, more than %d", e.Records, MaxRecords)
}

// Heap makes profiles of allocations since the previous capture and of what is in use, from one reading of the runtime's
// records. Stacks have at most 32 frames, the public record's size.
type Heap struct {
	recs offheap.Slice[runtime.MemProfileRecord]
	tab  table
	read func([]runtime.MemProfileRecord, bool) (int, bool)
}

// NewHeap returns a Heap over the runtime's records.
func NewHeap() *Heap { return &Heap{read: runtime.MemProfile} }

// Release gives the buffers back; the baseline is lost.
func (h *Heap) Release() {
	h.recs.Release()
	h.tab.release()
}

// Baseline reads the records, so that the next capture holds what is allocated from here on.
func (h *Heap) Baseline() error {
	if _, err := h.load(); err != nil {
		return err
	}
	h.commit()
	return nil
}

// Capture writes to w the gzipped profile of [start, end) and returns the number of its samples. An error leaves the baseline
// as it was, so that the next capture holds this interval too.
func (h *Heap) Capture(b *Builder, w io.Writer, start, end time.Time) (int, error) {
	recs, err := h.load()
	if err != nil {
		return 0, err
	}
	rate := int64(runtime.MemProfileRate)
	b.begin([]valueType{{"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"}, {"inuse_space", "bytes"}},
		valueType{"space", "bytes"}, rate, "inuse_space", start, end)
	label := b.str("bytes")
	rows := h.tab.rows.All()
	var values [4]int64
	for i := range rows {
		r := &rows[i]
		if r.gen != h.tab.gen {
			continue
		}
		values[0], values[1] = scaleHeap(r.cur[0]-r.prev[0], r.cur[1]-r.prev[1], rate)
		values[2], values[3] = scaleHeap(r.inuse[0], r.inuse[1], rate)
		if values == [4]int64{} {
			continue
		}
		locs := b.stack(trimStack(recs[r.rec].Stack0[:]), true)
		b.sample(locs, values[:], label, r.size)
	}
	if err := b.finish(w); err != nil {
		h.recs = settle(h.recs)
		return 0, fmt.Errorf("encode heap profile: %w", err)
	}
	h.commit()
	return b.samples, nil
}

// load reads the runtime's records and sums them up by key.
func (h *Heap) load() ([]runtime.MemProfileRecord, error) {
	n, ok := h.read(h.recs.All(), true)
	for !ok {
		if n > MaxRecords {
			return nil, &TooManyError{n}
		}
		h.recs = records(h.recs, n+n/8+64) // a few more: others allocate meanwhile
		n, ok = h.read(h.recs.All(), true)
	}
	recs := h.recs.All()[:n]
	h.tab.gen++
	for i := range recs {
		rec := &recs[i]
		if rec.AllocObjects <= 0 {
			continue
		}
		size := rec.AllocBytes / rec.AllocObjects
		r := h.tab.find(hash(trimStack(rec.Stack0[:]), size))
		if r.gen != h.tab.gen {
			r.gen, r.rec, r.size = h.tab.gen, uint32(i), size
			r.cur, r.inuse = [2]int64{}, [2]int64{}
		}
		r.cur[0] += rec.AllocObjects
		r.cur[1] += rec.AllocBytes
		r.inuse[0] += rec.InUseObjects()
		r.inuse[1] += rec.InUseBytes()
	}
	return recs, nil
}

// commit makes this capture the baseline of the next.
func (h *Heap) commit() {
	rows := h.tab.rows.All()
	for i := range rows {
		if rows[i].gen == h.tab.gen {
			rows[i].prev = rows[i].cur
		}
	}
	h.recs = settle(h.recs)
}

// scaleHeap estimates the true count and size from sampled ones exactly as runtime/pprof does: a sample of average size S
// appears with probability 1-exp(-S/rate).
func scaleHeap(count, size, rate int64) (int64, int64) {
	if count <= 0 || size <= 0 {
		return 0, 0
	}
	if rate <= 1 {
		return count, size
	}
	scale := 1 / (1 - math.Exp(-float64(size)/float64(count)/float64(rate)))
	return int64(float64(count) * scale), int64(float64(size) * scale)
}
