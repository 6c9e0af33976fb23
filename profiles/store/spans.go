package store

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sonde-io/sonde/profiles"
)

// The sample labels that say which request a sample was taken in. Each request has its own, so they are kept apart from the label sets of stacks, of which they would make
// as many as there are requests, and from sums, which would not get smaller.
const (
	spanLabel  = "span_id"
	traceLabel = "trace_id"
)

// spanSet is the span labels of a sample; either may be "".
type spanSet struct{ span, trace string }

// spanRow is what a profile holds of one stack with one span set, once more than in its rows.
type spanRow struct {
	stack  uint32
	set    spanSet
	values []int64 // of all columns of the series
}

// isSpanLabel reports whether l is one of the span labels.
func isSpanLabel(l *profiles.SampleLabel) bool {
	return !l.Numeric && (l.Key == spanLabel || l.Key == traceLabel)
}

// spanSplitter takes the span labels out of profiles. Not safe for concurrent use.
type spanSplitter struct {
	profile profiles.Profile
	sets    []spanSet           // of each sample
	known   map[spanSet]spanSet // copies of the strings, which are the profile's
}

// split returns p without its span labels, valid until the next call and as long as p; p itself where it has none.
func (s *spanSplitter) split(p *profiles.Profile) (*profiles.Profile, bool) {
	if !slices.ContainsFunc(p.Labels, func(l profiles.SampleLabel) bool { return isSpanLabel(&l) }) {
		return p, false
	}
	samples, ls := s.profile.Samples[:0], s.profile.Labels[:0]
	s.profile = *p
	s.sets, s.known = s.sets[:0], map[spanSet]spanSet{}
	for _, sample := range p.Samples {
		set, lo := spanSet{}, uint32(len(ls))
		for i := range p.Labels[sample.Labels.Lo:sample.Labels.Hi] {
			l := &p.Labels[int(sample.Labels.Lo)+i]
			switch {
			case !isSpanLabel(l):
				ls = append(ls, *l)
			case l.Key == spanLabel:
				set.span = l.Str
			default:
				set.trace = l.Str
			}
		}
		sample.Labels = profiles.Span{Lo: lo, Hi: uint32(len(ls))}
		samples, s.sets = append(samples, sample), append(s.sets, s.keep(set))
	}
	s.profile.Samples, s.profile.Labels = samples, ls
	return &s.profile, true
}

func (s *spanSplitter) keep(set spanSet) spanSet {
	if set == (spanSet{}) {
		return set
	}
	k, ok := s.known[set]
	if !ok {
		k = spanSet{strings.Clone(set.span), strings.Clone(set.trace)}
		s.known[k] = k
	}
	return k
}

// rows returns the rows of the samples that have a span set; ids are the samples' stacks.
func (s *spanSplitter) rows(p *profiles.Profile, ids []uint32) (out []spanRow) {
	for i, set := range s.sets {
		if set != (spanSet{}) && slices.ContainsFunc(p.Row(i), func(v int64) bool { return v != 0 }) {
			out = append(out, spanRow{ids[i], set, slices.Clone(p.Row(i))})
		}
	}
	sortSpans(out)
	n := 0
	for _, r := range out {
		if n > 0 && out[n-1].stack == r.stack && out[n-1].set == r.set {
			for c, v := range r.values {
				out[n-1].values[c] = addSaturated(out[n-1].values[c], v)
			}
			continue
		}
		out[n] = r
		n++
	}
	return out[:n]
}

func sortSpans(rs []spanRow) {
	slices.SortFunc(rs, func(a, b spanRow) int {
		return cmp.Or(cmp.Compare(a.stack, b.stack), strings.Compare(a.set.trace, b.set.trace), strings.Compare(a.set.span, b.set.span))
	})
}

// spanTable gathers the span sets of a dataset that is being written. Its first entry is the empty one.
type spanTable struct {
	ids  map[spanSet]uint32
	sets []spanSet
}

func (t *spanTable) reset() {
	t.ids, t.sets = map[spanSet]uint32{{}: 0}, append(t.sets[:0], spanSet{})
}

func (t *spanTable) id(set spanSet) uint32 {
	id, ok := t.ids[set]
	if !ok {
		id = uint32(len(t.sets))
		t.ids[set] = id
		t.sets = append(t.sets, set)
	}
	return id
}

// How a span id or trace id is stored.
const (
	idSame   = iota // as the one of the entry before
	idString        // length and bytes
	idHex8          // 8 bytes, written as 16 lower-case hexadecimal digits
	idHex16         // 16 bytes
	idForms
)

// bytes returns the section "span sets", empty where there are none.
func (t *spanTable) bytes() []byte {
	if len(t.sets) < 2 {
		return nil
	}
	b := binary.AppendUvarint(nil, uint64(len(t.sets)-1))
	var ids []byte
	for _, of := range [...]func(spanSet) string{func(s spanSet) string { return s.trace }, func(s spanSet) string { return s.span }} {
		for i, set := range t.sets[1:] {
			var form byte
			form, ids = appendID(ids, of(set), of(t.sets[i]))
			b = append(b, form)
		}
	}
	return append(b, ids...)
}

func appendID(b []byte, id, before string) (form byte, out []byte) {
	if id == before {
		return idSame, b
	}
	if raw, err := hex.DecodeString(id); err == nil && (len(raw) == 8 || len(raw) == 16) && hex.EncodeToString(raw) == id {
		return byte(idHex8 + len(raw)/16), append(b, raw...)
	}
	return idString, appendString(b, id)
}

// decodeSpanSets reads the section "span sets". The first is the empty one.
func decodeSpanSets(b []byte) ([]spanSet, error) {
	if len(b) == 0 {
		return []spanSet{{}}, nil
	}
	d := decoder{b: b}
	n := d.count(2)
	forms := d.bytes(2 * uint64(n))
	if d.err != nil {
		return nil, d.err
	}
	out := make([]spanSet, n+1)
	for i := range n {
		out[i+1].trace = d.id(forms[i], out[i].trace)
	}
	for i := range n {
		out[i+1].span = d.id(forms[n+i], out[i].span)
	}
	return out, d.done()
}

func (d *decoder) id(form byte, before string) string {
	switch form {
	case idSame:
		return before
	case idString:
		return d.string()
	case idHex8, idHex16:
		return hex.EncodeToString(d.bytes(8 << (form - idHex8)))
	}
	d.fail(fmt.Errorf("id has form %d", form))
	return ""
}

// appendSpans encodes the span rows of a chunk's profiles, column by column, and returns how many there are.
func appendSpans(b []byte, rs []record, columns int, t *spanTable) (out []byte, rows int) {
	prev := uint64(0)
	each := func(fn func(i int, r *spanRow)) {
		for i := range rs {
			for j := range rs[i].spans {
				fn(i, &rs[i].spans[j])
			}
		}
	}
	each(func(i int, _ *spanRow) {
		b = binary.AppendUvarint(b, uint64(i)-prev)
		prev = uint64(i)
		rows++
	})
	last := int64(0)
	each(func(_ int, r *spanRow) {
		b = binary.AppendVarint(b, int64(r.stack)-last)
		last = int64(r.stack)
	})
	last = 0
	each(func(_ int, r *spanRow) {
		id := int64(t.id(r.set))
		b = binary.AppendVarint(b, id-last)
		last = id
	})
	for c := range columns {
		each(func(_ int, r *spanRow) { b = binary.AppendVarint(b, r.values[c]) })
	}
	return b, rows
}

// spanRows are the decoded span rows of a chunk, in order of profile.
type spanRows struct {
	profile []uint32 // its index in the chunk
	stack   []uint32
	set     []uint32 // index into the dataset's span sets
	values  [][]int64
}

// decodeSpans reads the span rows of a chunk of n profiles of columns; stack ids are below stacks, span sets below sets.
func decodeSpans(b []byte, rows, n, columns, stacks, sets int) (*spanRows, error) {
	if rows > len(b) || rows*(3+columns) > len(b) {
		return nil, fmt.Errorf("%d rows of spans in %d bytes", rows, len(b))
	}
	d := decoder{b: b}
	r := &spanRows{profile: make([]uint32, rows), stack: make([]uint32, rows), set: make([]uint32, rows)}
	at := uint64(0)
	for i := range r.profile {
		at += d.uvarint()
		if at >= uint64(n) {
			d.fail(fmt.Errorf("span row of profile %d of %d", at, n))
			break
		}
		r.profile[i] = uint32(at)
	}
	for _, ids := range [...]struct {
		out   []uint32
		limit int
	}{{r.stack, stacks}, {r.set, sets}} {
		v := int64(0)
		for i := range ids.out {
			v += d.varint()
			if v < 0 || v >= int64(ids.limit) {
				d.fail(fmt.Errorf("span row refers to %d of %d", v, ids.limit))
				break
			}
			ids.out[i] = uint32(v)
		}
	}
	for range columns {
		values := make([]int64, rows)
		d.varints(values)
		r.values = append(r.values, values)
		if d.err != nil {
			break
		}
	}
	return r, d.done()
}

// readSpanSets reads the dataset's span sets.
func (f *file) readSpanSets(ds *dataset) ([]spanSet, error) {
	raw, err := f.section(ds.info.sections[sectionSpanSets])
	if err == nil {
		var sets []spanSet
		if sets, err = decodeSpanSets(raw); err == nil {
			return sets, nil
		}
	}
	return nil, fmt.Errorf("dataset %s: %s: %w", ds.info.Service, sectionNames[sectionSpanSets], err)
}

// readSpans reads the span rows of a chunk of a series, nil if it has none.
func (f *file) readSpans(c *chunkInfo, columns, stacks, sets int) (*spanRows, error) {
	if c.spanRows == 0 {
		return nil, nil
	}
	raw, err := f.section(c.spans)
	if err == nil {
		var r *spanRows
		if r, err = decodeSpans(raw, c.spanRows, c.profiles, columns, stacks, sets); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("spans at %d: %w", c.spans.at, err)
}

// spans decodes the span rows of a chunk into the records, the first of which is the chunk's profile skip.
func (c *compaction) spans(f *file, si *seriesInfo, chunk *chunkInfo, skip int, remap []uint32, out []record) error {
	if chunk.spanRows == 0 {
		return nil
	}
	ds, err := f.dataset(si.Labels.Get(serviceLabel))
	if err == nil && ds == nil {
		err = errors.New("series is in another service's dataset")
	}
	if err != nil {
		return err
	}
	sets, ok := c.spanSets[ds]
	if !ok {
		if sets, err = f.readSpanSets(ds); err != nil {
			return err
		}
		if c.spanSets == nil {
			c.spanSets = map[*dataset][]spanSet{}
		}
		c.spanSets[ds] = sets
	}
	rows, err := f.readSpans(chunk, len(si.Columns), len(remap), len(sets))
	if err != nil {
		return err
	}
	for i, p := range rows.profile {
		at := int(p) - skip
		if at < 0 || at >= len(out) {
			continue
		}
		r := spanRow{remap[rows.stack[i]], sets[rows.set[i]], make([]int64, len(si.Columns))}
		for k := range r.values {
			r.values[k] = rows.values[k][i]
		}
		out[at].spans = append(out[at].spans, r)
	}
	for i := range out {
		sortSpans(out[i].spans)
	}
	return nil
}

// spans verifies that a series' span rows can be read.
func (c *checker) spans(si *seriesInfo, stacks int) error {
	for i := range si.chunks {
		if si.chunks[i].spanRows == 0 {
			continue
		}
		ds, err := c.f.dataset(si.Labels.Get(serviceLabel))
		if err != nil || ds == nil {
			return err // which the caller reports
		}
		sets, err := c.f.readSpanSets(ds)
		if err == nil {
			_, err = c.f.readSpans(&si.chunks[i], len(si.Columns), stacks, len(sets))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
