package pprofenc

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/sonde-io/sonde/agent/internal/offheap"
)

// TooManyError says that the runtime holds more stacks than fit into the account: each takes some 400 bytes while a capture lasts.
type TooManyError struct {
	Records int
	Cause   error
}

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d stacks are too many: %v", e.Records, e.Cause)
}

// Unwrap returns the cause, an offheap.FullError.
func (e *TooManyError) Unwrap() error { return e.Cause }

// Heap makes profiles of allocations since the previous capture and of what is in use, from one reading of the runtime's
// records. Stacks have at most 32 frames, the public record's size.
type Heap struct {
	// Default is the sample type that tools show first; empty: inuse_space.
	Default string

	recs offheap.Slice[runtime.MemProfileRecord]
	tab  table
	read func([]runtime.MemProfileRecord, bool) (int, bool)
}

// NewHeap returns a Heap over the runtime's records. Its buffers count in acct; nil sets no bound.
func NewHeap(acct *offheap.Account) *Heap {
	return &Heap{tab: table{acct: acct}, read: runtime.MemProfile}
}

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
	def := h.Default
	if def == "" {
		def = "inuse_space"
	}
	n, err := h.write(b, w, def, start, end, false)
	if err == nil {
		h.commit()
	}
	return n, err
}

// Snapshot writes to w the gzipped profile of what is in use and of all allocations since the program's start, with the sample type def as its default, and
// leaves the baseline alone; it returns what Capture does.
func (h *Heap) Snapshot(b *Builder, w io.Writer, def string, start, end time.Time) (int, error) {
	n, err := h.write(b, w, def, start, end, true)
	h.recs = settle(h.recs)
	return n, err
}

// write encodes what the records hold beyond the baseline, or all of it.
func (h *Heap) write(b *Builder, w io.Writer, def string, start, end time.Time, all bool) (int, error) {
	recs, err := h.load()
	if err != nil {
		return 0, err
	}
	rate := int64(runtime.MemProfileRate)
	b.begin(w, []valueType{{"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"}, {"inuse_space", "bytes"}},
		valueType{"space", "bytes"}, rate, def, start, end)
	label := b.str("bytes")
	rows := h.tab.rows.All()
	var values [4]int64
	for i := range rows {
		r := &rows[i]
		if r.gen != h.tab.gen {
			continue
		}
		prev := r.prev
		if all {
			prev = [2]int64{}
		}
		values[0], values[1] = scaleHeap(r.cur[0]-prev[0], r.cur[1]-prev[1], rate)
		values[2], values[3] = scaleHeap(r.inuse[0], r.inuse[1], rate)
		if values == [4]int64{} {
			continue
		}
		locs := b.stack(trimStack(recs[r.rec].Stack0[:]), true)
		b.numLabel(label, r.size)
		b.sample(locs, values[:])
	}
	if err := b.finish(); err != nil {
		h.recs = settle(h.recs)
		return 0, fmt.Errorf("encode heap profile: %w", err)
	}
	return b.samples, nil
}

// load reads the runtime's records and sums them up by key.
func (h *Heap) load() ([]runtime.MemProfileRecord, error) {
	n, ok := h.read(h.recs.All(), true)
	for !ok {
		var err error
		if h.recs, err = records(&h.tab, h.recs, n); err != nil {
			return nil, err
		}
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
		r, err := h.tab.find(hash(trimStack(rec.Stack0[:]), size))
		if err != nil {
			h.recs = settle(h.recs)
			return nil, &TooManyError{Records: n, Cause: err}
		}
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
