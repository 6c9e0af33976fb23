package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// kinds is the number of groups of columns: a series' interval columns share one list of stacks, its gauge columns the other,
// because what was allocated in a window and what is alive hardly meet.
const (
	kinds     = 2
	gaugeKind = int(profiles.Gauge)
)

// rows is what one profile (or one window of sums) holds in one group: ascending stack ids, each with a value in at least one
// of the group's columns. values is column-major: len(stacks) values of the first column, then of the second.
type rows[V any] struct {
	stacks []uint32
	values []V
}

// maxChunkProfiles and maxChunkRows say where a chunk is cut. Larger ones compress better, smaller ones waste less at a range's
// ragged edge.
const (
	maxChunkProfiles = 128
	maxChunkRows     = 32 << 10
)

// transposer turns profile-major rows into stack-major order, in time linear in the rows. Its slices are valid until the next call.
type transposer struct {
	count    []uint32 // by stack id; all zero between calls
	stacks   []uint32 // the distinct stacks, ascending
	counts   []uint32 // rows of each stack
	profile  []uint32 // of each row, in stack-major order, ascending in each stack
	position []uint32 // of each row in its profile
}

func transpose[V any](t *transposer, ps []rows[V]) {
	t.stacks, t.counts = t.stacks[:0], t.counts[:0]
	n := 0
	for _, p := range ps {
		n += len(p.stacks)
		for _, s := range p.stacks {
			if int(s) >= len(t.count) {
				t.count = append(t.count, make([]uint32, int(s)+1-len(t.count))...)
			}
			if t.count[s] == 0 {
				t.stacks = append(t.stacks, s)
			}
			t.count[s]++
		}
	}
	slices.Sort(t.stacks)
	next := uint32(0)
	for _, s := range t.stacks {
		c := t.count[s]
		t.counts = append(t.counts, c)
		t.count[s] = next
		next += c
	}
	t.profile, t.position = slices.Grow(t.profile[:0], n)[:n], slices.Grow(t.position[:0], n)[:n]
	for j, p := range ps {
		for i, s := range p.stacks {
			at := t.count[s]
			t.count[s]++
			t.profile[at], t.position[at] = uint32(j), uint32(i)
		}
	}
	for _, s := range t.stacks {
		t.count[s] = 0
	}
}

// appendStacks encodes which stacks occur in which of n profiles: the part "stacks" of a chunk.
func (t *transposer) appendStacks(b []byte, n int) []byte {
	b = binary.AppendUvarint(b, uint64(len(t.stacks)))
	prev := int64(-1)
	for _, s := range t.stacks {
		b = binary.AppendUvarint(b, uint64(int64(s)-prev-1))
		prev = int64(s)
	}
	for _, c := range t.counts {
		b = binary.AppendUvarint(b, uint64(c))
	}
	at := 0
	for _, c := range t.counts {
		if int(c) == n { // in every profile: the indices are known
			at += n
			continue
		}
		prev := int64(-1)
		for _, j := range t.profile[at : at+int(c)] {
			b = binary.AppendUvarint(b, uint64(int64(j)-prev-1))
			prev = int64(j)
		}
		at += int(c)
	}
	return b
}

// gather returns column c of ps in stack-major order.
func gather[V any](t *transposer, ps []rows[V], c int, out []V) []V {
	out = slices.Grow(out[:0], len(t.profile))[:len(t.profile)]
	for k, j := range t.profile {
		p := &ps[j]
		out[k] = p.values[c*len(p.stacks)+int(t.position[k])]
	}
	return out
}

// How the values of a column are encoded.
const (
	modePlain = iota // zigzag varints
	modeDelta        // each as the difference to the one before it of the same stack
	modeSame         // divided by their gcd they equal an earlier column's: no values follow
	modeMean         // sums of gauges: the quotient by the window's covered time as a delta, then the remainder
)

// appendColumn encodes values, the column at index c of its group, and returns what they are divided by their gcd. earlier holds
// that of the columns before it.
func appendColumn(b []byte, values []int64, counts []uint32, earlier [][]int64) ([]byte, []int64) {
	var g uint64
	for _, v := range values {
		if g = gcd(g, magnitude(v)); g == 1 {
			break
		}
	}
	if g == 0 || g > 1<<62 {
		g = 1
	}
	scaled := make([]int64, len(values))
	for i, v := range values {
		scaled[i] = v / int64(g)
	}
	for i, e := range earlier {
		if slices.Equal(e, scaled) {
			b = append(b, modeSame)
			b = binary.AppendUvarint(b, g)
			return binary.AppendUvarint(b, uint64(i)), scaled
		}
	}
	plain, delta, at := 0, 0, 0
	for _, c := range counts {
		prev := int64(0)
		for _, v := range scaled[at : at+int(c)] {
			plain += varintLen(v)
			delta += varintLen(v - prev)
			prev = v
		}
		at += int(c)
	}
	if plain <= delta {
		b = binary.AppendUvarint(append(b, modePlain), g)
		for _, v := range scaled {
			b = binary.AppendVarint(b, v)
		}
		return b, scaled
	}
	b = binary.AppendUvarint(append(b, modeDelta), g)
	at = 0
	for _, c := range counts {
		prev := int64(0)
		for _, v := range scaled[at : at+int(c)] {
			b = binary.AppendVarint(b, v-prev) // wraps, and wraps back in the reader
			prev = v
		}
		at += int(c)
	}
	return b, scaled
}

func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

// chunkStacks is a decoded "stacks" part.
type chunkStacks struct {
	stacks  []uint32 // ascending
	counts  []uint32 // rows of each
	profile []uint32 // of each row, ascending in each stack
}

// decode reads a part that holds rows rows of n profiles; stack ids are below limit.
func (c *chunkStacks) decode(b []byte, n, rowCount, limit int) error {
	d := decoder{b: b}
	k := d.count(1)
	c.stacks, c.counts = slices.Grow(c.stacks[:0], k)[:k], slices.Grow(c.counts[:0], k)[:k]
	d.uvarints(c.stacks, uint64(limit))
	if d.err == nil && !ascend(c.stacks, limit) {
		d.fail(fmt.Errorf("stack ids are not below %d", limit))
	}
	d.uvarints(c.counts, uint64(n))
	total := 0
	for _, v := range c.counts {
		if v == 0 {
			d.fail(errors.New("stack occurs in no profile"))
		}
		total += int(v)
	}
	if d.err != nil {
		return d.err
	}
	if total != rowCount {
		return fmt.Errorf("stacks have %d rows, the index says %d", total, rowCount)
	}
	c.profile = slices.Grow(c.profile[:0], total)[:total]
	at := 0
	for _, count := range c.counts {
		of := c.profile[at : at+int(count)]
		at += int(count)
		if int(count) == n {
			for j := range of {
				of[j] = uint32(j)
			}
			continue
		}
		d.uvarints(of, uint64(n))
		if d.err == nil && !ascend(of, n) {
			d.fail(fmt.Errorf("profile indices are not below %d", n))
		}
		if d.err != nil {
			return d.err
		}
	}
	return d.done()
}

// ascend turns differences to the one before, minus 1, into the numbers themselves, and reports whether all are below limit.
func ascend(ids []uint32, limit int) bool {
	next := uint64(0)
	for i, delta := range ids {
		id := next + uint64(delta)
		if id >= uint64(limit) {
			return false
		}
		ids[i] = uint32(id)
		next = id + 1
	}
	return true
}

// columnHeader reads a column's mode and gcd. For modeSame it follows same, which opens another column of the group.
func columnHeader(b []byte, same func(c int) ([]byte, error)) (mode byte, scale int64, rest decoder, err error) {
	d := decoder{b: b}
	mode = d.byte()
	g := d.uvarint()
	if d.err == nil && (mode > modeMean || g == 0 || g > 1<<62) {
		d.fail(fmt.Errorf("column has mode %d and scale %d", mode, g))
	}
	if mode != modeSame || d.err != nil {
		return mode, int64(g), d, d.err
	}
	c := d.uvarint()
	if err := d.done(); err != nil {
		return 0, 0, d, err
	}
	if c >= maxColumns || same == nil {
		return 0, 0, d, fmt.Errorf("column refers to column %d", c)
	}
	b, err = same(int(c))
	if err != nil {
		return 0, 0, d, err
	}
	mode, _, d, err = columnHeader(b, nil)
	return mode, int64(g), d, err
}

// decodeColumn reads a column of a chunk of profiles in stack-major order.
func (c *chunkStacks) decodeColumn(b []byte, out []int64, same func(c int) ([]byte, error)) ([]int64, error) {
	mode, scale, d, err := columnHeader(b, same)
	if err != nil {
		return nil, err
	}
	if len(d.b) < len(c.profile) || mode == modeMean {
		return nil, fmt.Errorf("column of mode %d has %d bytes for %d values", mode, len(d.b), len(c.profile))
	}
	out = slices.Grow(out[:0], len(c.profile))[:len(c.profile)]
	d.varints(out)
	if mode == modeDelta {
		at := 0
		for _, n := range c.counts {
			prev := int64(0)
			of := out[at : at+int(n)]
			for i, v := range of {
				prev += v
				of[i] = prev
			}
			at += int(n)
		}
	}
	if scale != 1 {
		for i := range out {
			out[i] *= scale
		}
	}
	return out, d.done()
}

// profileMajor turns one decoded group of a chunk of n profiles back into rows, appended to out. Columns are in stack-major order.
func (c *chunkStacks) profileMajor(columns [][]int64, n int, remap []uint32, out []rows[int64]) []rows[int64] {
	sizes := make([]uint32, n)
	for _, j := range c.profile {
		sizes[j]++
	}
	stacks, values := make([]uint32, len(c.profile)), make([]int64, len(c.profile)*len(columns))
	first, at := len(out), 0
	for _, k := range sizes {
		e := at + int(k)
		out = append(out, rows[int64]{stacks[at:at:e], values[at*len(columns) : e*len(columns) : e*len(columns)]})
		at = e
	}
	row := 0
	for i, s := range c.stacks {
		if remap != nil {
			s = remap[s]
		}
		for range c.counts[i] {
			j := c.profile[row]
			r := &out[first+int(j)]
			for k, col := range columns {
				r.values[k*int(sizes[j])+len(r.stacks)] = col[row]
			}
			r.stacks = append(r.stacks, s)
			row++
		}
	}
	return out
}

func (r *rows[V]) columns() int {
	if len(r.stacks) == 0 {
		return 0
	}
	return len(r.values) / len(r.stacks)
}

// sortRows brings rows into ascending order of stacks, which are distinct.
func sortRows(r *rows[int64], scratch []uint64) []uint64 {
	if slices.IsSorted(r.stacks) {
		return scratch
	}
	n, cols := len(r.stacks), r.columns()
	scratch = slices.Grow(scratch[:0], n)[:n]
	for i, s := range r.stacks {
		scratch[i] = uint64(s)<<32 | uint64(i)
	}
	slices.Sort(scratch)
	values := make([]int64, len(r.values))
	for i, x := range scratch {
		r.stacks[i] = uint32(x >> 32)
		for c := range cols {
			values[c*n+i] = r.values[c*n+int(uint32(x))]
		}
	}
	r.values = values
	return scratch
}

// groupsOf returns, for each kind, the indices of the columns of that kind.
func groupsOf(cols []column) [kinds][]int {
	var g [kinds][]int
	for i, c := range cols {
		g[c.Kind] = append(g[c.Kind], i)
	}
	return g
}

// column is one column of values of a series.
type column struct {
	Sample, Unit string
	Kind         profiles.Kind
}

// maxColumns bounds the sample types of one profile; the runtime's have at most 4.
const maxColumns = 64
