package pprofenc

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"strconv"
	"time"

	"github.com/sonde-io/sonde/agent/internal/offheap"
)

// Contention makes profiles of lock contention (mutex) or of blocking (block) since the previous capture.
type Contention struct {
	recs offheap.Slice[runtime.BlockProfileRecord]
	tab  table
	read func([]runtime.BlockProfileRecord) (int, bool)
	hz   float64 // clock cycles per second; 0 until first needed
}

// NewMutex returns a Contention over the runtime's mutex records. Its buffers count in acct; nil sets no bound.
func NewMutex(acct *offheap.Account) *Contention {
	return &Contention{tab: table{acct: acct}, read: runtime.MutexProfile}
}

// NewBlock returns a Contention over the runtime's block records. Its buffers count in acct; nil sets no bound.
func NewBlock(acct *offheap.Account) *Contention {
	return &Contention{tab: table{acct: acct}, read: runtime.BlockProfile}
}

// Release gives the buffers back; the baseline is lost.
func (c *Contention) Release() {
	c.recs.Release()
	c.tab.release()
}

// Baseline reads the records, so that the next capture holds what is counted from here on.
func (c *Contention) Baseline() error {
	if _, err := c.load(); err != nil {
		return err
	}
	c.commit()
	return nil
}

// Capture writes to w the gzipped profile of [start, end) and returns the number of its samples: at 0, nothing was written,
// since a program that sets no rate has nothing to say. An error leaves the baseline as it was.
func (c *Contention) Capture(b *Builder, w io.Writer, start, end time.Time) (int, error) {
	n, err := c.write(b, w, start, end, false)
	if err == nil {
		c.commit()
	}
	return n, err
}

// Snapshot writes to w the gzipped profile of all since the program's start and leaves the baseline alone; it returns what Capture does.
func (c *Contention) Snapshot(b *Builder, w io.Writer, start, end time.Time) (int, error) {
	n, err := c.write(b, w, start, end, true)
	c.recs = settle(c.recs)
	return n, err
}

// write encodes what the records hold beyond the baseline, or all of it.
func (c *Contention) write(b *Builder, w io.Writer, start, end time.Time, all bool) (int, error) {
	recs, err := c.load()
	if err != nil {
		return 0, err
	}
	if len(recs) > 0 && c.hz == 0 {
		if c.hz, err = cyclesPerSecond(); err != nil {
			return 0, err
		}
	}
	b.begin(w, []valueType{{"contentions", "count"}, {"delay", "nanoseconds"}}, valueType{"contentions", "count"}, 1, "delay", start, end)
	rows := c.tab.rows.All()
	for i := range rows {
		r := &rows[i]
		if r.gen != c.tab.gen {
			continue
		}
		prev := r.prev
		if all {
			prev = [2]int64{}
		}
		values := [2]int64{r.cur[0] - prev[0], int64(float64(r.cur[1]-prev[1]) / (c.hz / 1e9))}
		if values[0] <= 0 && values[1] <= 0 {
			continue
		}
		locs := b.stack(trimStack(recs[r.rec].Stack0[:]), false)
		b.sample(locs, values[:])
	}
	if b.samples > 0 {
		if err := b.finish(); err != nil {
			c.recs = settle(c.recs)
			return 0, fmt.Errorf("encode contention profile: %w", err)
		}
	}
	return b.samples, nil
}

func (c *Contention) load() ([]runtime.BlockProfileRecord, error) {
	n, ok := c.read(c.recs.All())
	for !ok {
		var err error
		if c.recs, err = records(&c.tab, c.recs, n); err != nil {
			return nil, err
		}
		n, ok = c.read(c.recs.All())
	}
	recs := c.recs.All()[:n]
	c.tab.gen++
	for i := range recs {
		rec := &recs[i]
		r, err := c.tab.find(hash(trimStack(rec.Stack0[:]), 0))
		if err != nil {
			c.recs = settle(c.recs)
			return nil, &TooManyError{Records: n, Cause: err}
		}
		if r.gen != c.tab.gen {
			r.gen, r.rec, r.cur = c.tab.gen, uint32(i), [2]int64{}
		}
		r.cur[0] += rec.Count
		r.cur[1] += rec.Cycles
	}
	return recs, nil
}

func (c *Contention) commit() {
	rows := c.tab.rows.All()
	for i := range rows {
		if rows[i].gen == c.tab.gen {
			rows[i].prev = rows[i].cur
		}
	}
	c.recs = settle(c.recs)
}

// cyclesPerSecond asks the runtime for the unit of a record's Cycles. The only public place that says it is the second line
// of the legacy text profile, so that is what is read, once per program.
func cyclesPerSecond() (float64, error) {
	w := &headWriter{}
	if err := pprof.Lookup("mutex").WriteTo(w, 1); err != nil {
		return 0, fmt.Errorf("read clock rate: %w", err)
	}
	const key = "cycles/second="
	_, rest, ok := bytes.Cut(w.head, []byte(key))
	if !ok {
		return 0, fmt.Errorf("read clock rate: no %q in the runtime's text profile", key)
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	hz, err := strconv.ParseFloat(string(bytes.TrimSpace(line)), 64)
	if err != nil || hz <= 0 {
		return 0, fmt.Errorf("read clock rate: %q is not a rate", line)
	}
	return hz, nil
}

// headWriter keeps the first bytes written to it.
type headWriter struct{ head []byte }

func (w *headWriter) Write(p []byte) (int, error) {
	if room := 256 - len(w.head); room > 0 {
		w.head = append(w.head, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
