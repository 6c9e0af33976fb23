package store

import (
	"encoding/binary"
	"errors"
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
	head     located                  // of a raw series; what follows too
	chunks   []chunkInfo              //
	sums     *sumInfo                 // of a series of a downsampled block, which has no head and no chunks
	sums1    [len(sumSizes1)]*sumInfo // version 1: sums beside the chunks, nil where there are none of that size. Only Check reads them
}

// chunkInfo locates the next profiles of a series, or the next windows of its sums. Its slices hold per of them each, the last one the rest.
type chunkInfo struct {
	version  int
	profiles int
	per      int
	groups   [kinds]groupInfo
	spanRows int     // of raw chunks: rows of spans
	spans    located // where spanRows is not 0
}

// slices returns the number of the chunk's slices.
func (c *chunkInfo) slices() int { return (c.profiles + c.per - 1) / c.per }

// slice returns the profiles [lo, hi) of the chunk that slice i holds.
func (c *chunkInfo) slice(i int) (lo, hi int) { return i * c.per, min((i+1)*c.per, c.profiles) }

// groupInfo locates the columns of one kind, whose parts lie back to back in this order.
type groupInfo struct {
	rows    int
	stacks  located
	members located // version 1: empty, the members follow the stacks
	columns []located
}

// sumInfo locates sums of one size: of a series, or of a rollup.
type sumInfo struct {
	size    int64 // of the windows, in ms
	windows int
	head    located // version 1: empty
	chunks  []chunkInfo
}

// maxIndexed bounds the counts that an index may give for one series.
const maxIndexed = 1 << 27

// indexWriter builds the section "series index", and the like of it that lists rollups.
type indexWriter struct {
	version    int
	resolution int64
	strings    map[string]uint64
	order      []string
	body       []byte
	n          int
	minTime    int64
}

func newIndexWriter(version int, resolution int64) *indexWriter {
	return &indexWriter{version: version, resolution: resolution, strings: map[string]uint64{}}
}

func (w *indexWriter) number(v int) { w.body = binary.AppendUvarint(w.body, uint64(v)) }

func (w *indexWriter) part(l located) { w.body = appendPart(w.body, l.part, w.version) }

func (w *indexWriter) ref(s string) {
	i, ok := w.strings[s]
	if !ok {
		i = uint64(len(w.order))
		w.strings[s] = i
		w.order = append(w.order, s)
	}
	w.body = binary.AppendUvarint(w.body, i)
}

// identity writes what series and rollups have in common.
func (w *indexWriter) identity(ls labels.Labels, typ string, period int64, columns []column, profiles int, minStart, maxStart, maxEnd int64) {
	w.n++
	w.number(ls.Len())
	ls.Range(func(l labels.Label) {
		w.ref(l.Name)
		w.ref(l.Value)
	})
	w.ref(typ)
	w.body = binary.AppendVarint(w.body, period)
	w.number(len(columns))
	for _, c := range columns {
		w.ref(c.Sample)
		w.ref(c.Unit)
		w.body = append(w.body, byte(c.Kind))
	}
	w.number(profiles)
	w.body = binary.AppendVarint(w.body, minStart-w.minTime)
	w.minTime = minStart
	w.body = binary.AppendUvarint(w.body, uint64(maxStart-minStart))
	w.body = binary.AppendUvarint(w.body, uint64(maxEnd-minStart))
}

func (w *indexWriter) add(s *seriesInfo) {
	w.identity(s.Labels, s.Type, s.Period, s.Columns, s.profiles, s.minStart, s.maxStart, s.maxEnd)
	if w.resolution != 0 {
		w.sum(s.sums)
		return
	}
	w.part(s.head)
	w.chunks(s.chunks)
	if w.version == version1 { // sums of no size
		w.body = append(w.body, make([]byte, len(sumSizes1))...)
	}
}

func (w *indexWriter) addRollup(r *rollupInfo) {
	w.identity(r.Labels, r.Type, r.Period, r.Columns, r.profiles, r.minStart, r.maxStart, r.maxEnd)
	w.number(len(r.Dropped))
	for _, name := range r.Dropped {
		w.ref(name)
	}
	w.number(len(r.members))
	next := uint32(0)
	for _, m := range r.members {
		w.number(int(m - next))
		next = m + 1
	}
	w.number(len(r.levels))
	for i := range r.levels {
		w.number(int(r.levels[i].size))
		w.sum(&r.levels[i])
	}
}

func (w *indexWriter) sum(s *sumInfo) {
	w.number(s.windows)
	w.part(s.head)
	w.chunks(s.chunks)
}

func (w *indexWriter) chunks(chunks []chunkInfo) {
	w.number(len(chunks))
	for i := range chunks {
		c := &chunks[i]
		w.number(c.profiles)
		if w.version > version1 {
			w.number(c.per)
			w.number(c.spanRows)
			if c.spanRows > 0 {
				w.part(c.spans)
			}
		}
		w.groups(&c.groups)
	}
}

func (w *indexWriter) groups(gs *[kinds]groupInfo) {
	for i := range gs {
		g := &gs[i]
		if len(g.columns) == 0 {
			continue
		}
		w.number(g.rows)
		if g.rows == 0 {
			continue
		}
		w.part(g.stacks)
		if w.version > version1 {
			w.part(g.members)
		}
		for _, c := range g.columns {
			w.part(c)
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
	info    *datasetInfo
	strings []string
	next    [regionCount]uint64 // where the region's next part starts
	end     [regionCount]uint64
	minTime int64
}

func newIndexReader(b []byte, info *datasetInfo) *indexReader {
	r := &indexReader{decoder: &decoder{b: b}, info: info}
	for i, reg := range info.regions {
		r.next[i], r.end[i] = reg.at, reg.at+reg.length
	}
	r.strings = decodeStrings(r.decoder)
	return r
}

func decodeIndex(b []byte, info *datasetInfo) ([]seriesInfo, error) {
	r := newIndexReader(b, info)
	out := make([]seriesInfo, 0, r.count(12))
	for range cap(out) {
		out = append(out, r.series())
		if r.err != nil {
			return nil, fmt.Errorf("series %d: %w", len(out)-1, r.err)
		}
	}
	r.used(regionHeads, regionChunks, regionSums, regionSpans)
	return out, r.done()
}

// decodeRollups reads the section "rollups" of a dataset of n series.
func decodeRollups(b []byte, info *datasetInfo, n int) ([]rollupInfo, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := newIndexReader(b, info)
	out := make([]rollupInfo, 0, r.count(12))
	for range cap(out) {
		out = append(out, r.rollup(n))
		if r.err != nil {
			return nil, fmt.Errorf("rollup %d: %w", len(out)-1, r.err)
		}
	}
	r.used(regionRollups)
	return out, r.done()
}

// used fails if parts do not fill the regions.
func (r *indexReader) used(regions ...int) {
	for _, i := range regions {
		if r.next[i] != r.end[i] {
			r.fail(fmt.Errorf("region %s has %d bytes that nothing names", regionNames[i], r.end[i]-r.next[i]))
		}
	}
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
	l := located{part: r.part(r.info.version), at: r.next[region]}
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

// identity reads what series and rollups have in common.
func (r *indexReader) identity() (s seriesInfo) {
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
	return s
}

func (r *indexReader) series() seriesInfo {
	s := r.identity()
	if r.err != nil {
		return s
	}
	columns := groupsOf(s.Columns)
	if r.info.resolution != 0 {
		s.sums = r.sum(r.info.resolution, &columns, regionSums)
		return s
	}
	s.head = r.place(regionHeads)
	s.chunks = r.chunks(s.profiles, &columns, regionChunks)
	if r.info.version == version1 {
		for i := range s.sums1 {
			n := r.bounded("windows")
			if n == 0 {
				continue
			}
			c := chunkInfo{version: version1, profiles: n, per: n, groups: r.groups(&columns, regionSums)}
			s.sums1[i] = &sumInfo{size: sumSizes1[i], windows: n, chunks: []chunkInfo{c}}
		}
	}
	return s
}

func (r *indexReader) rollup(series int) (out rollupInfo) {
	s := r.identity()
	out = rollupInfo{Labels: s.Labels, Type: s.Type, Period: s.Period, Columns: s.Columns, profiles: s.profiles, minStart: s.minStart, maxStart: s.maxStart, maxEnd: s.maxEnd}
	for range r.count(1) {
		out.Dropped = append(out.Dropped, r.ref())
	}
	next := uint64(0)
	for range r.count(1) {
		m := next + uint64(r.uint32())
		if m >= uint64(series) {
			r.fail(fmt.Errorf("rollup of series %d of %d", m, series))
			return out
		}
		out.members = append(out.members, uint32(m))
		next = m + 1
	}
	columns := groupsOf(s.Columns)
	prev := int64(0)
	for range r.count(4) {
		size := r.offset()
		if r.err == nil && (size <= prev || prev != 0 && size%prev != 0) {
			r.fail(fmt.Errorf("sums of %d ms after those of %d", size, prev))
		}
		if r.err != nil {
			return out
		}
		prev = size
		out.levels = append(out.levels, *r.sum(size, &columns, regionRollups))
	}
	return out
}

func (r *indexReader) sum(size int64, columns *[kinds][]int, region int) *sumInfo {
	s := &sumInfo{size: size, windows: r.bounded("windows")}
	s.head = r.place(region)
	if r.err == nil && s.windows > int(s.head.raw) {
		r.fail(fmt.Errorf("%d windows in a head of %d bytes", s.windows, s.head.raw))
	}
	s.chunks = r.chunks(s.windows, columns, region)
	return s
}

// chunks reads chunks of n profiles or windows in all.
func (r *indexReader) chunks(n int, columns *[kinds][]int, region int) (out []chunkInfo) {
	left := n
	for range r.count(2) {
		c := chunkInfo{version: r.info.version, profiles: r.bounded("profiles")}
		if c.per = c.profiles; c.version > version1 {
			c.per = r.bounded("profiles")
			if r.err == nil && (c.per == 0 || c.per > c.profiles || c.profiles > maxChunkDecoded) {
				r.fail(fmt.Errorf("chunk of %d profiles has slices of %d", c.profiles, c.per))
			}
			if c.spanRows = r.bounded("rows"); c.spanRows > 0 {
				if c.spans = r.place(regionSpans); r.err == nil && uint32(c.spanRows) > c.spans.raw {
					r.fail(fmt.Errorf("%d rows of spans in %d bytes", c.spanRows, c.spans.raw))
				}
			}
		}
		if r.err == nil && c.profiles == 0 {
			r.fail(errors.New("chunk of no profiles"))
		}
		if r.err != nil {
			return out
		}
		left -= c.profiles
		c.groups = r.groups(columns, region)
		out = append(out, c)
	}
	if r.err == nil && left != 0 {
		r.fail(fmt.Errorf("chunks hold %d profiles less than the %d there are", left, n))
	}
	return out
}

// maxChunkDecoded bounds the profiles of a chunk that readers take, so that nobody looks at slices that no byte stands for.
const maxChunkDecoded = 1 << 16

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
		if g.members.at = r.next[region]; r.info.version > version1 {
			g.members = r.place(region)
		}
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

// indexBytes estimates what a dataset's series and rollups take in memory.
func indexBytes(series []seriesInfo, rollups []rollupInfo) int64 {
	n := 0
	chunks := func(cs []chunkInfo, columns int) {
		n += len(cs) * (64 + kinds*96 + columns*32)
	}
	for i := range series {
		s := &series[i]
		n += 288 + int(s.Labels.ByteSize()) + len(s.Columns)*40
		chunks(s.chunks, len(s.Columns))
		if s.sums != nil {
			chunks(s.sums.chunks, len(s.Columns))
		}
	}
	for i := range rollups {
		r := &rollups[i]
		n += 256 + int(r.Labels.ByteSize()) + len(r.Columns)*40 + len(r.members)*4
		for _, l := range r.levels {
			n += 80
			chunks(l.chunks, len(r.Columns))
		}
	}
	return int64(n)
}
