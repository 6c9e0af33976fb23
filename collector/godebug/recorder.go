package godebug

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// The bounds of what a Recorder gathers until it is taken; what is beyond is counted and left out.
const (
	maxGathered = 15_000    // samples: less than a push may have
	maxText     = 512 << 10 // bytes of lines
)

// Recorder gathers what the lines of one process say, and the lines themselves. Each line is kept as `TIME<tab>LINE`, the time in Unix ms.
type Recorder struct {
	Sampler Sampler
	Source  string // of the lines: stderr, or a file

	// Redact takes out of a line what may not leave the machine; it may change and return what it gets. nil: nothing is taken out.
	Redact func([]byte) []byte

	samples  []series.Sample
	text     bytes.Buffer
	z        *gzip.Writer
	raw      int // bytes of text
	from, to int64
	count    int

	Lines   map[Kind]int // lines so far
	Foreign int          // of them, those of other processes that print to the same place
	Dropped int          // lines that did not fit
}

// Add takes a line that came at the time at, Unix ms.
func (r *Recorder) Add(text []byte, l *Line, at int64) {
	if r.Lines == nil {
		r.Lines = map[Kind]int{}
	}
	r.Lines[l.Kind]++
	t, own := r.Sampler.Add(l, at)
	if !own {
		r.Foreign++
	}
	r.samples = append(r.samples, r.Sampler.Take()...)
	r.keep(text, t)
	if len(r.samples) > maxGathered {
		r.Dropped++
		r.samples = r.samples[:maxGathered]
	}
}

func (r *Recorder) keep(text []byte, t int64) {
	if r.Redact != nil {
		text = r.Redact(bytes.Clone(text))
	}
	text = bytes.TrimRight(text, "\r\n")
	if r.raw+len(text)+20 > maxText {
		r.Dropped++
		return
	}
	if r.z == nil {
		r.z = gzip.NewWriter(&r.text)
	}
	if r.count == 0 {
		r.from, r.to = t, t
		r.z.Reset(&r.text)
	}
	r.from, r.to = min(r.from, t), max(r.to, t)
	line := append(strconv.AppendInt(make([]byte, 0, len(text)+20), t, 10), '\t')
	line = append(append(line, text...), '\n')
	_, _ = r.z.Write(line) // to memory
	r.raw += len(line)
	r.count++
}

// Full reports whether it is time to take what was gathered before more is left out.
func (r *Recorder) Full() bool { return len(r.samples) > maxGathered*3/4 || r.raw > maxText*3/4 }

// Empty reports whether there is nothing to take.
func (r *Recorder) Empty() bool { return len(r.samples) == 0 && r.count == 0 }

// Taken is what a Recorder gathered.
type Taken struct {
	Samples []series.Sample
	Lines   *wire.LinesChunk // nil: none. Its Process is the caller's to set
}

// Take returns what was gathered since the last time; flush ends a scheddetail that may go on, too.
func (r *Recorder) Take(flush bool) (t Taken) {
	if flush {
		r.Sampler.Flush()
		r.samples = append(r.samples, r.Sampler.Take()...)
	}
	t.Samples, r.samples = r.samples, nil
	if r.count > 0 {
		_ = r.z.Close() // to memory
		t.Lines = &wire.LinesChunk{Source: r.Source, From: r.from, To: r.to, Count: r.count, Gzip: bytes.Clone(r.text.Bytes()), TextBytes: r.raw}
		r.text.Reset()
		r.raw, r.count = 0, 0
	}
	return t
}

// Counters returns how many lines there were of each kind, and what was left out, as samples at the time now.
func (r *Recorder) Counters(now time.Time, torn, dropped int) []series.Sample {
	t := now.UnixMilli()
	out := []series.Sample{{Labels: linesForeign, T: t, V: float64(r.Foreign)}, {Labels: linesTorn, T: t, V: float64(torn)}, {Labels: linesDropped, T: t, V: float64(r.Dropped + dropped)}}
	for k, n := range r.Lines {
		out = append(out, series.Sample{Labels: linesOf[k], T: t, V: float64(n)})
	}
	return out
}

var (
	linesForeign = named("sonde_godebug_foreign_lines_total")
	linesTorn    = named("sonde_godebug_torn_lines_total")
	linesDropped = named("sonde_godebug_dropped_lines_total")
	linesOf      = func() (all [len(kinds)]labels.Labels) {
		for k := KindGC; int(k) < len(kinds); k++ {
			all[k] = named("sonde_godebug_lines_total", "kind", k.String())
		}
		return all
	}()
)
