package pprofenc

import (
	"compress/gzip"
	"io"
	"time"
)

// Mapping names the program in every profile: pprof wants to know which binary the addresses belong to.
type Mapping struct {
	File    string // the executable's path
	BuildID string // GNU build id, or the Go build id where there is none
}

// Builder writes pprof profiles, one after the other, over the same buffers. It is not safe for concurrent use.
type Builder struct {
	sym     *symbols
	mapping Mapping
	w       io.Writer
	err     error  // of the profile being written
	open    bool   // some of it went to the compressor
	out     []byte // what comes next of it
	msg     []byte // one message of it
	sub     []byte // one message within that
	label   []byte // of the next sample
	strs    int64  // strings written so far
	table   []byte // the string table's fields, appended at the end
	locs    []uint64
	nextLoc uint32
	nextFn  uint32
	samples int
	gz      *gzip.Writer
}

// NewBuilder returns a Builder that resolves addresses with resolve.
func NewBuilder(resolve Symbolizer, m Mapping) *Builder {
	return &Builder{sym: newSymbols(resolve), mapping: m}
}

// valueType is a sample type and its unit.
type valueType struct{ typ, unit string }

// begin starts a profile that covers [start, end) and goes to w, gzipped, as it grows.
func (b *Builder) begin(w io.Writer, types []valueType, period valueType, periodValue int64, def string, start, end time.Time) {
	b.sym.gen++
	b.w, b.err, b.open = w, nil, false
	b.out, b.table, b.strs, b.samples = b.out[:0], b.table[:0], 0, 0
	b.nextLoc, b.nextFn, b.label = 0, 0, b.label[:0]
	b.str("")
	for _, t := range types {
		b.valueType(profileSampleType, t)
	}
	b.valueType(profilePeriodType, period)
	b.out = appendInt(b.out, profilePeriod, periodValue)
	if def != "" {
		b.out = appendInt(b.out, profileDefaultSampleType, b.str(def))
	}
	b.out = appendInt(b.out, profileTimeNanos, start.UnixNano())
	b.out = appendInt(b.out, profileDurationNanos, int64(end.Sub(start)))
	b.msg = appendInt(b.msg[:0], 1, 1) // id
	b.msg = appendInt(b.msg, 5, b.str(b.mapping.File))
	b.msg = appendInt(b.msg, 6, b.str(b.mapping.BuildID))
	for field := 7; field <= 10; field++ { // has functions, filenames, line numbers, inline frames
		b.msg = appendInt(b.msg, field, 1)
	}
	b.out = appendBytes(b.out, profileMapping, b.msg)
}

func (b *Builder) valueType(field int, t valueType) {
	b.msg = appendInt(b.msg[:0], 1, b.str(t.typ))
	b.msg = appendInt(b.msg, 2, b.str(t.unit))
	b.out = appendBytes(b.out, field, b.msg)
}

// str adds s to the string table and returns its index. Callers keep the index where a string comes again.
func (b *Builder) str(s string) int64 {
	if s == "" && b.strs > 0 {
		return 0
	}
	b.table = appendString(b.table, profileStringTable, s)
	b.strs++
	return b.strs - 1
}

// stack turns program counters (leaf first) into location ids, valid until the next call. hideRuntime leaves out the runtime's
// own frames at the leaf, as runtime/pprof does for the heap, unless there are no others.
func (b *Builder) stack(pcs []uintptr, hideRuntime bool) []uint64 {
	if hideRuntime {
		for i, pc := range pcs {
			if !b.sym.locs[b.sym.loc(pc)].runtime {
				if locs := b.locations(pcs[i:]); len(locs) > 0 {
					return locs
				}
				break
			}
		}
	}
	return b.locations(pcs)
}

func (b *Builder) locations(pcs []uintptr) []uint64 {
	b.locs = b.locs[:0]
	for i := 0; i < len(pcs); {
		first := b.sym.loc(pcs[i])
		if b.sym.locs[first].skip {
			i++
			continue
		}
		n := 1
		for last := first; i+n < len(pcs) && b.sym.locs[last].inlined; n++ {
			next := b.sym.loc(pcs[i+n])
			if b.sym.locs[next].skip || b.sym.locs[next].entry != b.sym.locs[first].entry {
				break
			}
			last = next
		}
		b.locs = append(b.locs, b.location(first, pcs[i:i+n]))
		i += n
	}
	return b.locs
}

// location returns the id of the location of pcs, an address and the calls it is inlined into; first is the index of pcs[0].
func (b *Builder) location(first uint32, pcs []uintptr) uint64 {
	l := &b.sym.locs[first]
	if l.gen == b.sym.gen && int(l.n) == len(pcs) {
		return uint64(l.id)
	}
	b.nextLoc++
	id := b.nextLoc
	l.gen, l.id, l.n = b.sym.gen, id, uint8(len(pcs))
	b.msg = appendInt(b.msg[:0], 1, int64(id))
	b.msg = appendInt(b.msg, 2, 1) // the mapping
	b.msg = appendInt(b.msg, 3, int64(pcs[0]))
	for _, pc := range pcs {
		li := b.sym.locs[b.sym.loc(pc)]
		b.sub = appendInt(b.sub[:0], 1, int64(b.function(li.fn)))
		b.sub = appendInt(b.sub, 2, int64(li.line))
		b.msg = appendBytes(b.msg, 4, b.sub)
	}
	b.out = appendBytes(b.out, profileLocation, b.msg)
	return uint64(id)
}

// function writes function i of the symbols once per profile and returns its id. It leaves b.msg and b.sub alone up to its own end.
func (b *Builder) function(i uint32) uint32 {
	f := &b.sym.funcs[i]
	if f.gen == b.sym.gen {
		return f.id
	}
	b.nextFn++
	f.gen, f.id = b.sym.gen, b.nextFn
	file := &b.sym.files[f.file]
	if file.gen != b.sym.gen {
		file.gen, file.str = b.sym.gen, b.str(file.name)
	}
	name := b.str(f.name)
	b.sub = appendInt(b.sub[:0], 1, int64(f.id))
	b.sub = appendInt(b.sub, 2, name)
	b.sub = appendInt(b.sub, 3, name)
	b.sub = appendInt(b.sub, 4, file.str)
	b.sub = appendInt(b.sub, 5, int64(f.start))
	b.out = appendBytes(b.out, profileFunction, b.sub)
	b.sub = b.sub[:0]
	return f.id
}

// numLabel gives the next sample a label with a number; key is the index of its name. A number of 0 leaves it out.
func (b *Builder) numLabel(key, num int64) {
	if num != 0 {
		b.label = appendInt(b.label[:0], 1, key)
		b.label = appendInt(b.label, 3, num)
	}
}

// textLabel gives the next sample a label; key and value are indices of strings.
func (b *Builder) textLabel(key, value int64) {
	b.label = appendInt(b.label[:0], 1, key)
	b.label = appendInt(b.label, 2, value)
}

// sample writes one sample, with the label that was set for it.
func (b *Builder) sample(locs []uint64, values []int64) {
	b.msg = b.msg[:0]
	b.sub = b.sub[:0]
	for _, id := range locs {
		b.sub = appendUvarint(b.sub, id)
	}
	b.msg = appendBytes(b.msg, 1, b.sub)
	b.sub = b.sub[:0]
	for _, v := range values {
		b.sub = appendUvarint(b.sub, uint64(v))
	}
	b.msg = appendBytes(b.msg, 2, b.sub)
	if len(b.label) > 0 {
		b.msg = appendBytes(b.msg, 3, b.label)
		b.label = b.label[:0]
	}
	b.out = appendBytes(b.out, profileSample, b.msg)
	b.samples++
	if len(b.out) >= flushBytes {
		b.flush()
	}
}

// flushBytes is how much of a profile is gathered before it is compressed: the order of fields is free but for the strings, so none has to be whole.
const flushBytes = 32 << 10

// flush compresses what is gathered.
func (b *Builder) flush() {
	if !b.open {
		b.open = true
		if b.gz == nil {
			b.gz, _ = gzip.NewWriterLevel(b.w, gzip.BestSpeed) // the level is a valid constant
		} else {
			b.gz.Reset(b.w)
		}
	}
	if b.err == nil {
		_, b.err = b.gz.Write(b.out)
	}
	b.out = b.out[:0]
}

// finish writes the rest of the profile.
func (b *Builder) finish() error {
	b.flush()
	b.out, b.table = b.table, b.out
	b.flush()
	if b.err != nil {
		return b.err
	}
	return b.gz.Close()
}

// Compressor returns the profiles' compressor, writing to w, for what goes out beside them; the caller closes it before the next profile.
func (b *Builder) Compressor(w io.Writer) io.WriteCloser {
	b.w, b.err, b.open, b.out = w, nil, false, b.out[:0]
	b.flush()
	return b.gz
}

// maxSymbols is how many program counters stay known from window to window: 2 MB with their functions.
const maxSymbols = 1 << 14

// Rest drops what should not stay between two windows. The compressor is 0.8 MB, the largest thing this package allocates: used by all profiles of a
// window and then left to the collector, it costs a small program less than as a part of its live heap, which the collector's pace follows.
func (b *Builder) Rest() {
	b.gz, b.w = nil, nil
	if len(b.sym.locs) > maxSymbols {
		b.sym = newSymbols(b.sym.resolve)
	}
	if cap(b.table) > flushBytes*2 {
		b.table = nil
	}
}
