package store

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// record is one profile in memory: its times, and its rows by kind of column.
type record struct {
	start, end, covered int64 // Unix ms, Unix ms, ms
	groups              [kinds]rows[int64]
	spans               []spanRow // by stack
}

// series is what identifies a series, with its profiles.
type series struct {
	labels  labels.Labels
	typ     string
	period  int64
	columns []column
	records []record
}

// seriesKey is equal for two series if and only if they are the same.
func seriesKey(ls labels.Labels, typ string, columns []column) string {
	var b []byte
	b = append(b, typ...)
	for _, c := range columns {
		b = append(b, 0xff)
		b = append(b, c.Sample...)
		b = append(b, 0xff)
		b = append(b, c.Unit...)
	}
	b = append(b, 0xfe)
	ls.Range(func(l labels.Label) {
		b = append(b, l.Name...)
		b = append(b, 0xff)
		b = append(b, l.Value...)
		b = append(b, 0xff)
	})
	return string(b)
}

// fileWriter builds a segment or block in memory. Not safe for concurrent use.
type fileWriter struct {
	version  int // 0: the newest
	share    share
	last     bool // the file is of a closed window, and lives for days
	buf      []byte
	foot     footer
	comp     *compressor
	regions  [regionCount][]byte
	index    *indexWriter
	rolled   *indexWriter
	ds       *datasetInfo
	series   []seriesInfo
	rollInfo []rollupInfo
	rollups  rollups
	group    groupWriter
	sizes    []int64 // by stack: of its objects in bytes, 0: not known
	spanSets spanTable
	subset   subset
	raw      []byte
	opened   *openedFile // what a reader of the file would have in memory
}

// reset starts a file. Its buffer is handed out by finish, the rest is used again.
func (w *fileWriter) reset(id blockID, level int, created, resolution int64) {
	if w.comp == nil {
		w.comp = &compressor{}
	}
	if w.version == 0 {
		w.version = version2
	}
	w.last = false
	w.foot = footer{version: w.version, id: id, level: level, created: created, resolution: resolution, share: w.share}
	w.opened = &openedFile{foot: &footer{}, datasets: map[string]*dataset{}}
	w.buf = appendHeader(nil, w.version, level)
}

// begin starts the dataset of one service; datasets come in order of service. all are the labels of the series that will be added, of which a segment need not know.
func (w *fileWriter) begin(service string, all []labels.Labels) {
	ds := datasetInfo{Dataset: catalog.Dataset{Service: service, MinStart: math.MaxInt64, MaxStart: math.MinInt64, MaxEnd: math.MinInt64}, version: w.version, resolution: w.foot.resolution}
	w.foot.datasets = append(w.foot.datasets, ds)
	w.ds = &w.foot.datasets[len(w.foot.datasets)-1]
	w.index, w.rolled = newIndexWriter(w.version, w.foot.resolution), newIndexWriter(w.version, w.foot.resolution)
	w.series, w.rollInfo = nil, nil
	w.spanSets.reset()
	for i := range w.regions {
		w.regions[i] = w.regions[i][:0]
	}
	if w.hasRollups() {
		w.rollups.reset(cmp.Or(w.foot.resolution, rollupSizes[0]), all)
	}
}

// hasRollups: segments live too short for them.
func (w *fileWriter) hasRollups() bool { return w.version > version1 && w.foot.level > 0 }

func (w *fileWriter) effort() effort {
	switch {
	case w.foot.level == 0:
		return effortSegment
	case w.last:
		return effortLast
	}
	return effortBlock
}

// part appends a part to a region. Until end its place is that in the region.
func (w *fileWriter) part(region int, raw []byte) (l located) {
	l.at = uint64(len(w.regions[region]))
	w.regions[region], l.part = w.comp.append(w.regions[region], raw, w.effort())
	return l
}

// add writes one series; they come in the order of the file's version (compareSeries), each once. Its records must be sorted by start and its rows by stack.
func (w *fileWriter) add(s *series) {
	w.flushRollups(s.typ)
	n := len(s.records)
	info := seriesInfo{Labels: s.labels, Type: s.typ, Period: s.period, Columns: s.columns, profiles: n}
	h := headOf(s)
	info.minStart, info.maxStart, info.maxEnd = h.start[0], h.start[n-1], slices.Max(h.end)
	w.raw = appendHead(w.raw[:0], h)
	info.head = w.part(regionHeads, w.raw)
	groups := groupsOf(s.columns)
	var sums *rollup
	var windows []uint32
	if w.hasRollups() {
		sums = w.rollups.of(&info, len(w.series))
		windows = sums.addHeads(w.rollups.size, s.records, h, &groups)
	}
	for lo := 0; lo < n; {
		hi, rowCount := lo, 0
		for hi < n && hi-lo < maxChunkProfiles && (hi == lo || rowCount < maxChunkRows) {
			for k := range s.records[hi].groups {
				rowCount += len(s.records[hi].groups[k].stacks)
			}
			hi++
		}
		c := chunkInfo{version: w.version, profiles: hi - lo, per: min(hi-lo, sliceProfiles)}
		if w.version == version1 {
			c.per = c.profiles
		}
		w.spans(&c, s.records[lo:hi], len(s.columns))
		for k, cols := range groups {
			if len(cols) == 0 {
				continue
			}
			each := func(first int, of *transposer, n int) {
				if sums != nil {
					sums.rows[k].addSlice(of, s.records[lo+first:lo+first+n], windows[lo+first:lo+first+n], k)
				}
			}
			c.groups[k] = w.rawGroup(groupRows(s.records[lo:hi], k), len(cols), c.per, w.pair(s, cols), each)
		}
		info.chunks = append(info.chunks, c)
		lo = hi
	}
	w.addInfo(info)
}

// spans writes the span rows of a chunk. Version 1 has none.
func (w *fileWriter) spans(c *chunkInfo, rs []record, columns int) {
	if w.version == version1 || !slices.ContainsFunc(rs, func(r record) bool { return len(r.spans) > 0 }) {
		return
	}
	w.raw, c.spanRows = appendSpans(w.raw[:0], rs, columns, &w.spanSets)
	c.spans = w.part(regionSpans, w.raw)
}

func (w *fileWriter) addInfo(info seriesInfo) {
	w.index.add(&info)
	w.series = append(w.series, info)
	ds := w.ds
	ds.MinStart, ds.MaxStart, ds.MaxEnd = min(ds.MinStart, info.minStart), max(ds.MaxStart, info.maxStart), max(ds.MaxEnd, info.maxEnd)
	ds.Profiles += int64(info.profiles)
	if i, ok := slices.BinarySearch(ds.Types, info.Type); !ok {
		ds.Types = slices.Insert(ds.Types, i, info.Type)
	}
}

func headOf(s *series) *head {
	h := &head{totals: make([][]int128, len(s.columns))}
	groups := groupsOf(s.columns)
	for i := range s.records {
		r := &s.records[i]
		h.start, h.end, h.covered = append(h.start, r.start), append(h.end, r.end), append(h.covered, r.covered)
		for k, cols := range groups {
			g := &r.groups[k]
			for c, col := range cols {
				h.totals[col] = append(h.totals[col], profiles.Sum128(g.values[c*len(g.stacks):(c+1)*len(g.stacks)]))
			}
		}
	}
	return h
}

func groupRows(rs []record, kind int) []rows[int64] {
	out := make([]rows[int64], len(rs))
	for i := range rs {
		out[i] = rs[i].groups[kind]
	}
	return out
}

// groupWriter has the parts of one group of one chunk in the making. Not safe for concurrent use.
type groupWriter struct {
	trans           transposer
	encoder         columnEncoder
	sampled         sampledEncoder
	values, bytes   []int64
	sizes           []int64
	stacks, members sliced
	columns         []sliced
	rows            int
}

func (g *groupWriter) reset(columns int) {
	g.stacks.reset()
	g.members.reset()
	for len(g.columns) < columns {
		g.columns = append(g.columns, sliced{})
	}
	for c := range columns {
		g.columns[c].reset()
	}
	g.rows = 0
}

// slice adds the stacks of a slice of n profiles.
func (g *groupWriter) slice(of *chunkStacks, n, version int) {
	g.stacks.shares = of.appendStacks(g.stacks.shares, n, version)
	if version == version1 {
		g.stacks.shares = of.appendMembers(g.stacks.shares, n)
	} else {
		g.members.shares = of.appendMembers(g.members.shares, n)
	}
	g.stacks.cut()
	g.members.cut()
	g.rows += len(of.profile)
}

// finishGroup writes the parts of the group at hand into region.
func (w *fileWriter) finishGroup(region, columns int) (g groupInfo) {
	g.rows, g.columns = w.group.rows, make([]located, columns)
	if g.rows == 0 {
		return g
	}
	part := func(s *sliced) located {
		w.raw = s.append(w.raw[:0])
		return w.part(region, w.raw)
	}
	g.stacks = part(&w.group.stacks)
	if g.members.at = g.stacks.end(); w.version > version1 && len(w.group.members.shares) > 0 {
		g.members = part(&w.group.members)
	}
	for c := range columns {
		g.columns[c] = part(&w.group.columns[c])
	}
	return g
}

// rawGroup writes one group of a chunk. pair are its columns of scaled samples. each is called with every slice: its first profile, its rows, its number of profiles.
func (w *fileWriter) rawGroup(ps []rows[int64], columns, per int, pair sampledPair, each func(first int, of *transposer, n int)) (g groupInfo) {
	gw := &w.group
	gw.reset(columns)
	for lo := 0; lo < len(ps); lo += per {
		of := ps[lo:min(lo+per, len(ps))]
		transpose(&gw.trans, of)
		each(lo, &gw.trans, len(of))
		gw.slice(&gw.trans.chunkStacks, len(of), w.version)
		gw.encoder.used = 0
		sampled := pair.rate > 0 && gw.fitSampled(of, pair, w.sizes)
		for c := range columns {
			if sampled && (c == pair.objects || c == pair.bytes) {
				gw.columns[c].shares = gw.sampled.append(gw.columns[c].shares, gw.trans.counts, pair, c)
				gw.columns[c].cut()
				gw.encoder.next(0) // no other column can be the same
				continue
			}
			gw.values = gather(&gw.trans, of, c, gw.values)
			gw.columns[c].shares = gw.encoder.append(gw.columns[c].shares, gw.values, gw.trans.counts, w.version)
			gw.columns[c].cut()
		}
	}
	return w.finishGroup(regionChunks, columns)
}

// flushRollups writes the rollups gathered so far if they are not of typ.
func (w *fileWriter) flushRollups(typ string) {
	if len(w.series) == 0 || w.series[len(w.series)-1].Type == typ || !w.hasRollups() {
		return
	}
	for _, u := range w.rollups.finish() {
		groups := groupsOf(u.info.Columns)
		for _, l := range u.levels(w.rollups.size) {
			u.info.levels = append(u.info.levels, w.sums(l, &groups, regionRollups))
		}
		if len(u.info.levels) > 0 {
			w.rolled.addRollup(&u.info)
			w.rollInfo = append(w.rollInfo, u.info)
		}
		w.rollups.release(u)
	}
}

// symbolSection writes one of the sections that are not about series.
func (w *fileWriter) symbolSection(i int, raw []byte) error {
	if len(raw) > maxPart {
		return fmt.Errorf("write dataset of %s: %s take %d bytes, more than %d", w.ds.Service, sectionNames[i], len(raw), maxPart)
	}
	e := w.effort()
	switch {
	case e == effortLast:
		e = effortSymbols
	case e == effortBlock: // most of a young block
		e = effortLast
	case e == effortSegment && i != sectionStrings: // numbers: without entropy coding there is little to save
		e = effortNone
	}
	l := &w.ds.sections[i]
	l.at = uint64(len(w.buf))
	w.buf, l.part = w.comp.append(w.buf, raw, e)
	return nil
}

// end finishes the dataset with its symbols, its regions and its indices. from is where the symbols are in a dictionary, nil if in none.
func (w *fileWriter) end(sym *profiles.Symbols, from *origin) error {
	w.flushRollups("")
	for i := range symbolSections {
		w.raw = appendSymbols(w.raw[:0], i, sym, w.version)
		if n := stringBytes(sym); i == sectionStrings && n > maxPart {
			return fmt.Errorf("write dataset of %s: %s have %d bytes, more than %d", w.ds.Service, sectionNames[i], n, maxPart)
		}
		if err := w.symbolSection(i, w.raw); err != nil {
			return err
		}
	}
	if err := w.symbolSection(sectionSpanSets, w.spanSets.bytes()); err != nil {
		return err
	}
	var rolled []byte
	if len(w.rollInfo) > 0 {
		rolled = w.rolled.bytes()
	}
	if err := w.symbolSection(sectionRollups, rolled); err != nil {
		return err
	}
	for i, r := range w.regions {
		w.ds.regions[i] = span{uint64(len(w.buf)), uint64(len(r))}
		w.buf = append(w.buf, r...)
	}
	if err := w.symbolSection(sectionIndex, w.index.bytes()); err != nil {
		return err
	}
	w.place()
	ds := &dataset{info: *w.ds, series: w.series, rollups: w.rollInfo, origin: from}
	w.opened.datasets[w.ds.Service] = ds
	w.opened.bytes += indexBytes(w.series, w.rollInfo)
	if from != nil { // the dictionary has the symbols; where it is gone they are read
		w.opened.bytes += int64(4 * len(from.stacks))
	} else {
		ds.symbols = sym
		w.opened.bytes += symbolBytes(sym)
	}
	return nil
}

// place turns the places of parts in their regions into places in the file.
func (w *fileWriter) place() {
	chunks := func(cs []chunkInfo, base uint64) {
		for i := range cs {
			if cs[i].spanRows > 0 {
				cs[i].spans.at += w.ds.regions[regionSpans].at
			}
			for k := range cs[i].groups {
				g := &cs[i].groups[k]
				if g.rows == 0 {
					continue
				}
				g.stacks.at += base
				g.members.at += base
				for c := range g.columns {
					g.columns[c].at += base
				}
			}
		}
	}
	sum := func(s *sumInfo, base uint64) {
		s.head.at += base
		chunks(s.chunks, base)
	}
	for i := range w.series {
		s := &w.series[i]
		s.head.at += w.ds.regions[regionHeads].at
		chunks(s.chunks, w.ds.regions[regionChunks].at)
		if s.sums != nil {
			sum(s.sums, w.ds.regions[regionSums].at)
		}
	}
	for i := range w.rollInfo {
		for j := range w.rollInfo[i].levels {
			sum(&w.rollInfo[i].levels[j], w.ds.regions[regionRollups].at)
		}
	}
}

// finish returns the file and its catalogue row.
func (w *fileWriter) finish(ancestors []blockID) ([]byte, catalog.Block) {
	l := &w.foot.ancestors
	l.at = uint64(len(w.buf))
	w.buf, l.part = w.comp.append(w.buf, appendAncestors(w.raw[:0], ancestors), w.effort())
	b := appendFooter(w.buf, &w.foot)
	w.buf = nil
	*w.opened.foot = w.foot
	return b, w.foot.block(int64(len(b)))
}

// compareSeries orders series as files of version hold them: the newer ones have what is read together side by side.
func compareSeries(a, b *series, version int) int {
	ls, typ := labels.Compare(a.labels, b.labels), strings.Compare(a.typ, b.typ)
	if version == version1 {
		return cmp.Or(ls, typ, compareColumns(a.columns, b.columns))
	}
	return cmp.Or(typ, compareColumns(a.columns, b.columns), ls)
}

func compareColumns(a, b []column) int {
	return slices.CompareFunc(a, b, func(a, b column) int {
		return cmp.Or(strings.Compare(a.Sample, b.Sample), strings.Compare(a.Unit, b.Unit))
	})
}
