package store

import (
	"encoding/binary"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// seriesInfo is one series of a dataset as its index describes it.
type seriesInfo struct {
	Labels   labels.Labels
	Type     string // cpu, heap, …
	Period   int64  // of the profile that starts last
	Columns  []column
	profiles int
	minStart int64
	maxStart int64
	maxEnd   int64
	head     located
	chunks   []chunkInfo
	sums     [len(sumSizes)]*sumInfo // nil: none of that size
}

// chunkInfo locates the next profiles profiles of a series.
type chunkInfo struct {
	profiles int
	groups   [kinds]groupInfo
}

// groupInfo locates the columns of one kind.
type groupInfo struct {
	rows    int
	stacks  located
	columns []located
}

// sumInfo locates a series' sums of one size.
type sumInfo struct {
	windows int
	groups  [kinds]groupInfo
}

// maxIndexed bounds the counts that an index may give for one series.
const maxIndexed = 1 << 27

// indexWriter builds the section "series index".
type indexWriter struct {
	strings map[string]uint64
	order   []string
	body    []byte
	n       int
	minTime int64
}

func newIndexWriter() *indexWriter { return &indexWriter{strings: map[string]uint64{}} }

func (w *indexWriter) ref(s string) {
	i, ok := w.strings[s]
	if !ok {
		i = uint64(len(w.order))
		w.strings[s] = i
		w.order = append(w.order, s)
	}
	w.body = binary.AppendUvarint(w.body, i)
}

func (w *indexWriter) add(s *seriesInfo) {
	w.n++
	w.body = binary.AppendUvarint(w.body, uint64(s.Labels.Len()))
	s.Labels.Range(func(l labels.Label) {
		w.ref(l.Name)
		w.ref(l.Value)
	})
	w.ref(s.Type)
	w.body = binary.AppendVarint(w.body, s.Period)
	w.body = binary.AppendUvarint(w.body, uint64(len(s.Columns)))
	for _, c := range s.Columns {
		w.ref(c.Sample)
		w.ref(c.Unit)
		w.body = append(w.body, byte(c.Kind))
	}
	w.body = binary.AppendUvarint(w.body, uint64(s.profiles))
	w.body = binary.AppendVarint(w.body, s.minStart-w.minTime)
	w.minTime = s.minStart
	w.body = binary.AppendUvarint(w.body, uint64(s.maxStart-s.minStart))
	w.body = binary.AppendUvarint(w.body, uint64(s.maxEnd-s.minStart))
	w.body = appendPart(w.body, s.head.part)
	w.body = binary.AppendUvarint(w.body, uint64(len(s.chunks)))
	for i := range s.chunks {
		w.body = binary.AppendUvarint(w.body, uint64(s.chunks[i].profiles))
		w.groups(&s.chunks[i].groups)
	}
	for _, sum := range s.sums {
		if sum == nil {
			w.body = append(w.body, 0)
			continue
		}
		w.body = binary.AppendUvarint(w.body, uint64(sum.windows))
		w.groups(&sum.groups)
	}
}

func (w *indexWriter) groups(gs *[kinds]groupInfo) {
	for i := range gs {
		g := &gs[i]
		if len(g.columns) == 0 {
			continue
		}
		w.body = binary.AppendUvarint(w.body, uint64(g.rows))
		if g.rows == 0 {
			continue
		}
		w.body = appendPart(w.body, g.stacks.part)
		for _, c := range g.columns {
			w.body = appendPart(w.body, c.part)
		}
	}
}

// bytes returns the section.
func (w *indexWriter) bytes() []byte {
	b := appendStrings(nil, w.order)
	b = binary.AppendUvarint(b, uint64(w.n))
	return append(b, w.body...)
}

// indexReader decodes the section, giving each part its place in the regions.
type indexReader struct {
	*decoder
	strings []string
	next    [regionCount]uint64 // where the region's next part starts
	end     [regionCount]uint64
	minTime int64
}

func decodeIndex(b []byte, info *datasetInfo) ([]seriesInfo, error) {
	r := &indexReader{decoder: &decoder{b: b}}
	for i, reg := range info.regions {
		r.next[i], r.end[i] = reg.at, reg.at+reg.length
	}
	r.strings = decodeStrings(r.decoder)
	out := make([]seriesInfo, 0, r.count(24))
	for range cap(out) {
		out = append(out, r.series())
		if r.err != nil {
			return nil, fmt.Errorf("series %d: %w", len(out)-1, r.err)
		}
	}
	for i := range r.next {
		if r.next[i] != r.end[i] {
			r.fail(fmt.Errorf("region %s has %d bytes that no series names", regionNames[i], r.end[i]-r.next[i]))
		}
	}
	return out, r.done()
}

func (r *indexReader) ref() string {
	i := r.uvarint()
	if i >= uint64(len(r.strings)) {
		r.fail(fmt.Errorf("string %d of %d", i, len(r.strings)))
		return ""
	}
	return r.strings[i]
}

// place reads a part that lies next in region.
func (r *indexReader) place(region int) located {
	l := located{part: r.part(), at: r.next[region]}
	if r.err == nil && uint64(l.stored) > r.end[region]-l.at {
		r.fail(fmt.Errorf("part of %d bytes is outside the region %s", l.stored, regionNames[region]))
		return located{}
	}
	r.next[region] = l.end()
	return l
}

func (r *indexReader) bounded(what string) int {
	v := r.uvarint()
	if v > maxIndexed {
		r.fail(fmt.Errorf("%d %s are too many", v, what))
		return 0
	}
	return int(v)
}

func (r *indexReader) series() seriesInfo {
	var s seriesInfo
	lb := labels.NewScratchBuilder(8)
	prev := ""
	for i := range r.count(2) {
		name, value := r.ref(), r.ref()
		if i > 0 && name <= prev {
			r.fail(fmt.Errorf("labels are not in order"))
		}
		prev = name
		lb.Add(name, value)
	}
	if r.err != nil {
		return s
	}
	s.Labels = lb.Labels()
	s.Type = r.ref()
	s.Period = r.varint()
	for range min(r.count(3), maxColumns) {
		c := column{Sample: r.ref(), Unit: r.ref(), Kind: profiles.Kind(r.byte())}
		if c.Kind >= kinds {
			r.fail(fmt.Errorf("column %s has kind %d", c.Sample, c.Kind))
			return s
		}
		s.Columns = append(s.Columns, c)
	}
	s.profiles = r.bounded("profiles")
	s.minStart = r.minTime + r.varint()
	r.minTime = s.minStart
	s.maxStart = s.minStart + r.offset()
	s.maxEnd = s.minStart + r.offset()
	s.head = r.place(regionHeads)
	left, columns := s.profiles, groupsOf(s.Columns)
	for range r.count(2) {
		c := chunkInfo{profiles: r.bounded("profiles")}
		left -= c.profiles
		c.groups = r.groups(&columns, regionChunks)
		s.chunks = append(s.chunks, c)
	}
	if r.err == nil && left != 0 {
		r.fail(fmt.Errorf("chunks hold %d profiles less than the %d of their series", left, s.profiles))
	}
	for i := range s.sums {
		n := r.bounded("windows")
		if n == 0 {
			continue
		}
		s.sums[i] = &sumInfo{windows: n, groups: r.groups(&columns, regionSums)}
	}
	return s
}

func (r *indexReader) groups(columns *[kinds][]int, region int) (gs [kinds]groupInfo) {
	for k := range gs {
		if len(columns[k]) == 0 {
			continue
		}
		g := &gs[k]
		g.rows = r.bounded("rows")
		g.columns = make([]located, len(columns[k]))
		if g.rows == 0 {
			continue
		}
		g.stacks = r.place(region)
		for i := range g.columns {
			g.columns[i] = r.place(region)
		}
		// The first column refers to no other: it has a byte for each value at least.
		if r.err == nil && uint32(g.rows) > g.columns[0].raw {
			r.fail(fmt.Errorf("%d rows in a column of %d bytes", g.rows, g.columns[0].raw))
		}
	}
	return gs
}

// indexBytes estimates what a dataset's series take in memory.
func indexBytes(series []seriesInfo) int64 {
	n := 0
	for i := range series {
		s := &series[i]
		n += 256 + int(s.Labels.ByteSize()) + len(s.Columns)*40 + len(s.chunks)*(8+kinds*56+len(s.Columns)*24)
	}
	return int64(n)
}
