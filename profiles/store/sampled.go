package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sonde-io/sonde/profiles"
)

// The runtime's heap profile holds what was sampled, scaled up to what is likely: of c sampled objects of n bytes it prints trunc(c × f) objects and
// trunc(c × n × f) bytes, with f = 1/(1 - exp(-n/rate)) (runtime/pprof/protomem.go, scaleHeapSample), and says n in the numeric label "bytes". Both columns follow from c, which is small
// and hardly changes. f is stored, so that no reader depends on how its machine computes exp, and products of whole numbers and f come out the same everywhere; what does not come out exactly (sums of stacks that met, differences of
// scaled values) is corrected row by row.

// objectSizeLabel is the numeric label by which the runtime says the size of a sample's objects.
const objectSizeLabel = "bytes"

// sampledPair are the places of a group's columns of objects and of bytes that the runtime scales together, and its sampling rate in bytes; a rate of 0 says that there are none.
type sampledPair struct {
	objects, bytes int
	rate           int64
}

// pair finds the pair among cols, the columns of a group of s.
func (w *fileWriter) pair(s *series, cols []int) sampledPair {
	if w.version == version1 || w.foot.level == 0 || s.period <= 0 || len(w.sizes) == 0 { // a segment lives too short
		return sampledPair{}
	}
	for i, c := range cols {
		name, isObjects := strings.CutSuffix(s.columns[c].Sample, "_objects")
		if !isObjects {
			continue
		}
		for j := i + 1; j < len(cols); j++ {
			if b := s.columns[cols[j]]; b.Sample == name+"_space" && b.Unit == "bytes" {
				return sampledPair{i, j, s.period}
			}
		}
	}
	return sampledPair{}
}

// fitSampled fits the pair's columns of a slice.
func (g *groupWriter) fitSampled(of []rows[int64], pair sampledPair, sizes []int64) bool {
	g.values = gather(&g.trans, of, pair.objects, g.values)
	g.bytes = gather(&g.trans, of, pair.bytes, g.bytes)
	g.sizes = slices.Grow(g.sizes[:0], len(g.trans.stacks))[:0]
	for _, id := range g.trans.stacks {
		g.sizes = append(g.sizes, sizes[id])
	}
	return g.sampled.fit(g.values, g.bytes, g.trans.counts, g.sizes, pair.rate)
}

// maxSampled bounds what a count of objects or bytes may become by scaling: floats hold whole numbers exactly up to there.
const maxSampled = 1 << 53

// sizeClass is one object size and the factor that scales its counts.
type sizeClass struct {
	size   int64
	factor float64
}

// correction is what one row's value is beside the scaled count.
type correction struct {
	row  int
	diff int64
}

// objectSizes appends for each stack of s the size that its labels say its objects have, 0 where they say none. It returns nothing if no stack has one.
func objectSizes(s *profiles.Symbols, out []int64) []int64 {
	sizes, some := make([]int64, len(s.LabelSets)), false
	for i, set := range s.LabelSets {
		for _, l := range s.Labels[set.Lo:set.Hi] {
			if l.Numeric && s.Strings[l.Key] == objectSizeLabel && l.Num > 0 {
				sizes[i], some = l.Num, true
			}
		}
	}
	if !some {
		return out
	}
	for _, st := range s.Stacks {
		out = append(out, sizes[st.LabelSet])
	}
	return out
}

// sampledEncoder encodes a column of objects and one of bytes as one column of counts. Not safe for concurrent use.
type sampledEncoder struct {
	classes []sizeClass
	bySize  map[int64]uint32
	rate    int64
	class   []uint32 // of each stack
	counts  []int64  // of each row
	objects []correction
	bytes   []correction
	small   bool // the magnitudes of either column add up to less than 2^62
	plain   bool // the counts themselves are shorter than their differences
}

// fit finds the counts behind objects and bytes, in stack-major order with rows[i] rows of a stack whose objects have sizes[i] bytes (0: not known), sampled
// once in rate bytes. It reports false where too few rows come out to be worth it.
func (e *sampledEncoder) fit(objects, bytes []int64, rows []uint32, sizes []int64, rate int64) bool {
	if e.bySize == nil || e.rate != rate {
		e.bySize, e.rate = map[int64]uint32{}, rate
	}
	clear(e.bySize)
	e.classes, e.class = e.classes[:0], e.class[:0]
	e.counts, e.objects, e.bytes = e.counts[:0], e.objects[:0], e.bytes[:0]
	at, total, last := 0, 0.0, 0.0
	for i, n := range rows {
		k := e.classOf(sizes[i])
		e.class = append(e.class, k)
		c := e.classes[k]
		for row := at; row < at+int(n); row++ {
			if row > at && objects[row] == objects[row-1] && bytes[row] == bytes[row-1] && !e.corrected(row-1) { // nothing was allocated there meanwhile
				e.counts = append(e.counts, e.counts[row-1])
				total += last
				continue
			}
			// The smallest whole number that scales to at least this many; the division may be off in its last digits.
			count := math.Copysign(math.Ceil(math.Abs(float64(objects[row]))/c.factor*(1-1e-12)), float64(objects[row]))
			if !(math.Abs(count*float64(max(c.size, 1))*c.factor) < maxSampled) {
				return false
			}
			e.counts = append(e.counts, int64(count))
			last = math.Abs(float64(objects[row])) + math.Abs(float64(bytes[row]))
			total += last
			if d := objects[row] - int64(count*c.factor); d != 0 {
				e.objects = append(e.objects, correction{row, d})
			}
			if d := bytes[row] - int64(count*float64(c.size)*c.factor); d != 0 {
				e.bytes = append(e.bytes, correction{row, d})
			}
		}
		at += int(n)
	}
	e.small = total < 1<<61
	e.plain = plainIsShorter(e.counts, rows)
	return 8*(len(e.objects)+len(e.bytes)) <= len(e.counts)
}

// corrected reports whether row, the last one that was fitted, has a correction.
func (e *sampledEncoder) corrected(row int) bool {
	is := func(cs []correction) bool { return len(cs) > 0 && cs[len(cs)-1].row == row }
	return is(e.objects) || is(e.bytes)
}

func (e *sampledEncoder) classOf(size int64) uint32 {
	k, ok := e.bySize[size]
	if !ok {
		k = uint32(len(e.classes))
		e.bySize[size] = k
		c := sizeClass{size, 1}
		if f := 1 / (1 - math.Exp(-float64(size)/float64(e.rate))); size > 0 && e.rate > 1 && f >= 1 && f < maxSampled {
			c.factor = f
		}
		e.classes = append(e.classes, c)
	}
	return k
}

// append encodes the share of column c, one of the pair that fit was given; rows are those of each stack.
func (e *sampledEncoder) append(b []byte, rows []uint32, pair sampledPair, c int) []byte {
	flag := byte(0)
	if e.small {
		flag = flagSmall
	}
	if c == pair.bytes {
		b = append(b, modeSampledBytes|flag, 1)
		b = binary.AppendUvarint(b, uint64(pair.objects))
		return appendCorrections(b, e.bytes)
	}
	b = append(b, modeSampled|flag, 1)
	b = binary.AppendUvarint(b, uint64(len(e.classes)))
	for _, c := range e.classes {
		b = binary.AppendUvarint(b, uint64(c.size))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(c.factor))
	}
	for _, k := range e.class {
		b = binary.AppendUvarint(b, uint64(k))
	}
	b = append(b, bit(!e.plain))
	at := 0
	for _, n := range rows {
		prev := int64(0)
		for _, v := range e.counts[at : at+int(n)] {
			b = binary.AppendVarint(b, v-prev)
			if !e.plain {
				prev = v
			}
		}
		at += int(n)
	}
	return appendCorrections(b, e.objects)
}

func appendCorrections(b []byte, cs []correction) []byte {
	b = binary.AppendUvarint(b, uint64(len(cs)))
	next := 0
	for _, c := range cs {
		b = binary.AppendUvarint(b, uint64(c.row-next))
		b = binary.AppendVarint(b, c.diff)
		next = c.row + 1
	}
	return b
}

// sampledCounts is a decoded column of objects before its scaling.
type sampledCounts struct {
	classes []sizeClass
	class   []uint32
	counts  []int64
	own     []correction
}

// decode reads what follows the head of a column of objects, of n rows; rows are those of each stack. What is left of d are the corrections.
func (s *sampledCounts) decode(d *decoder, n int, rows []uint32) {
	k := d.count(9)
	s.classes = slices.Grow(s.classes[:0], k)[:0]
	for range k {
		c := sizeClass{size: int64(d.uvarint())}
		if raw := d.bytes(8); d.err == nil {
			c.factor = math.Float64frombits(binary.LittleEndian.Uint64(raw))
		}
		if d.err == nil && (c.size < 0 || !(c.factor >= 1 && c.factor <= maxSampled)) {
			d.fail(fmt.Errorf("objects of %d bytes have factor %g", c.size, c.factor))
		}
		s.classes = append(s.classes, c)
	}
	s.class = slices.Grow(s.class[:0], len(rows))[:len(rows)]
	d.uvarints(s.class, uint64(max(k, 1)-1))
	delta := d.byte()
	if d.err == nil && (delta > 1 || k == 0 && len(rows) > 0 || len(d.b) < n) {
		d.fail(fmt.Errorf("column of %d size classes has %d bytes for %d counts of %d stacks", k, len(d.b), n, len(rows)))
	}
	if d.err != nil {
		return
	}
	s.counts = slices.Grow(s.counts[:0], n)[:n]
	d.varints(s.counts)
	if delta == 0 {
		return
	}
	at := 0
	for _, n := range rows {
		prev := int64(0)
		of := s.counts[at : at+int(n)]
		for i, v := range of {
			prev += v
			of[i] = prev
		}
		at += int(n)
	}
}

// values scales the counts, to objects or to bytes. out has a place for each row.
func (s *sampledCounts) values(out []int64, rows []uint32, bytes bool) error {
	at := 0
	for i, n := range rows {
		c := s.classes[s.class[i]]
		size := 1.0
		if bytes {
			size = float64(c.size)
		}
		for row := at; row < at+int(n); row++ {
			v := float64(s.counts[row]) * size * c.factor
			if !(math.Abs(v) < maxSampled) {
				return fmt.Errorf("row %d: %d objects of %d bytes, scaled by %g, are too many", row, s.counts[row], c.size, c.factor)
			}
			out[row] = int64(v)
		}
		at += int(n)
	}
	return nil
}

// decodeCorrections reads corrections of n rows, the last of d.
func decodeCorrections(d *decoder, n int, out []correction) []correction {
	out = out[:0]
	next := uint64(0)
	for range d.count(2) {
		row := next + d.uvarint()
		diff := d.varint()
		if d.err == nil && (row < next || row >= uint64(n)) {
			d.fail(fmt.Errorf("correction of row %d of %d", row, n))
		}
		if d.err != nil {
			break
		}
		out = append(out, correction{int(row), diff})
		next = row + 1
	}
	return out
}

// sampled reports whether the column is of one of the modes of this file.
func (h *columnHead) sampled() bool { return h.mode == modeSampled || h.mode == modeSampledBytes }

// decodeColumn reads such a column, whose head was read, of n rows; rows are those of each stack. same returns the same slice's share
// of another column of the group; own's bytes need not survive that.
func (s *sampledCounts) decodeColumn(own *columnHead, n int, rows []uint32, out []int64, same func(c int) ([]byte, error)) ([]int64, error) {
	objects, bytes := &own.decoder, own.mode == modeSampledBytes
	if bytes {
		c := own.uvarint()
		s.own = decodeCorrections(&own.decoder, n, s.own)
		if err := own.done(); err != nil {
			return nil, err
		}
		if c >= maxColumns || same == nil {
			return nil, fmt.Errorf("column refers to column %d", c)
		}
		b, err := same(int(c))
		if err != nil {
			return nil, err
		}
		head, err := columnHeader(b, nil)
		if err != nil {
			return nil, err
		}
		if head.mode != modeSampled {
			return nil, fmt.Errorf("column of bytes refers to one of mode %d", head.mode)
		}
		objects = &head.decoder
	}
	s.decode(objects, n, rows)
	if !bytes {
		s.own = decodeCorrections(&own.decoder, n, s.own)
		if err := own.done(); err != nil {
			return nil, err
		}
	}
	if objects.err != nil {
		return nil, objects.err
	}
	out = slices.Grow(out[:0], n)[:n]
	if err := s.values(out, rows, bytes); err != nil {
		return nil, err
	}
	for _, c := range s.own {
		out[c.row] += c.diff
	}
	return out, nil
}

// addSampled is addSlice for a column of one of the modes of this file.
func (a *adder) addSampled(h *columnHead, total int, sel *selection, weights []int64, slots []uint32, at uint32, uniform bool) (err error) {
	st := &a.stacks
	a.values, err = a.sampled.decodeColumn(h, total, st.counts, a.values, func(c int) ([]byte, error) { return a.share(2+c, a.slice) })
	if err != nil {
		return err
	}
	if !uniform {
		if err := a.openMembers(total); err != nil {
			return err
		}
		if slots == nil {
			a.scatter(sel.base, sel.at, weights)
		} else {
			a.scatterSlots(sel.base, sel.at, weights, slots)
		}
		return nil
	}
	row := 0
	for i, id := range st.stacks {
		of := a.values[row : row+int(st.counts[i])]
		row += len(of)
		if sel.base[id] == noCell {
			continue
		}
		var sum int128
		if h.small {
			n := int64(0)
			for _, v := range of {
				n += v
			}
			sum = profiles.Int128From(n)
		} else {
			sum = profiles.Sum128(of)
		}
		a.samples += len(of)
		cell := &a.cells[sel.base[id]+at]
		*cell = cell.Add(sum.Mul(weights[0]))
	}
	return nil
}
