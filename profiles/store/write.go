package store

import (
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
	buf     []byte
	foot    footer
	comp    *compressor
	regions [regionCount][]byte
	index   *indexWriter
	ds      *datasetInfo
	trans   transposer
	summer  summer
	subset  subset
	raw     []byte
	sums    bool
	opened  *openedFile // what a reader of the file would have in memory
}

// reset starts a file. Its buffer is handed out by finish, the rest is used again.
func (w *fileWriter) reset(id blockID, level int, created int64) {
	if w.comp == nil || w.sums != (level > 0) {
		w.comp = newCompressor(level)
	}
	w.foot = footer{id: id, level: level, created: created}
	w.opened = &openedFile{foot: &footer{}, datasets: map[string]*dataset{}}
	w.buf = appendHeader(nil, level)
	w.sums = level > 0
}

// begin starts the dataset of one service; datasets come in order of service.
func (w *fileWriter) begin(service string) {
	w.foot.datasets = append(w.foot.datasets, datasetInfo{Dataset: catalog.Dataset{Service: service, MinStart: math.MaxInt64, MaxStart: math.MinInt64, MaxEnd: math.MinInt64}})
	w.ds = &w.foot.datasets[len(w.foot.datasets)-1]
	w.index = newIndexWriter()
	for i := range w.regions {
		w.regions[i] = w.regions[i][:0]
	}
}

func (w *fileWriter) part(region int, raw []byte) (l located) {
	w.regions[region], l.part = w.comp.append(w.regions[region], raw)
	return l
}

// add writes one series; they come in the order of compareSeries, each once. Its records must be sorted by start and its rows by stack.
func (w *fileWriter) add(s *series) {
	n := len(s.records)
	info := &seriesInfo{Labels: s.labels, Type: s.typ, Period: s.period, Columns: s.columns, profiles: n}
	h := headOf(s)
	info.minStart, info.maxStart, info.maxEnd = h.start[0], h.start[n-1], slices.Max(h.end)
	w.raw = appendHead(w.raw[:0], h)
	info.head = w.part(regionHeads, w.raw)
	groups := groupsOf(s.columns)
	for lo := 0; lo < n; {
		hi, rowCount := lo, 0
		for hi < n && hi-lo < maxChunkProfiles && (hi == lo || rowCount < maxChunkRows) {
			for k := range s.records[hi].groups {
				rowCount += len(s.records[hi].groups[k].stacks)
			}
			hi++
		}
		c := chunkInfo{profiles: hi - lo}
		for k, cols := range groups {
			c.groups[k] = w.group(groupRows(s.records[lo:hi], k), len(cols))
		}
		info.chunks = append(info.chunks, c)
		lo = hi
	}
	if w.sums {
		w.addSums(info, s, h, &groups)
	}
	w.index.add(info)
	ds := w.ds
	ds.MinStart, ds.MaxStart, ds.MaxEnd = min(ds.MinStart, info.minStart), max(ds.MaxStart, info.maxStart), max(ds.MaxEnd, info.maxEnd)
	ds.Profiles += int64(n)
	if i, ok := slices.BinarySearch(ds.Types, s.typ); !ok {
		ds.Types = slices.Insert(ds.Types, i, s.typ)
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
				var t int128
				for _, v := range g.values[c*len(g.stacks) : (c+1)*len(g.stacks)] {
					t = t.Add(profiles.Int128From(v))
				}
				h.totals[col] = append(h.totals[col], t)
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

// group writes one group of a chunk.
func (w *fileWriter) group(ps []rows[int64], columns int) (g groupInfo) {
	if columns == 0 {
		return g
	}
	transpose(&w.trans, ps)
	g.rows, g.columns = len(w.trans.profile), make([]located, columns)
	if g.rows == 0 {
		return g
	}
	w.raw = w.trans.appendStacks(w.raw[:0], len(ps))
	g.stacks = w.part(regionChunks, w.raw)
	var values []int64
	var earlier [][]int64
	for c := range columns {
		values = gather(&w.trans, ps, c, values)
		var scaled []int64
		w.raw, scaled = appendColumn(w.raw[:0], values, w.trans.counts, earlier)
		earlier = append(earlier, scaled)
		g.columns[c] = w.part(regionChunks, w.raw)
	}
	return g
}

// addSums writes the series' sums of each size that pays.
func (w *fileWriter) addSums(info *seriesInfo, s *series, h *head, groups *[kinds][]int) {
	var all [kinds][]rows[int64]
	rawRows := 0
	for k := range groups {
		all[k] = groupRows(s.records, k)
		for _, r := range all[k] {
			rawRows += len(r.stacks)
		}
	}
	for i, size := range sumSizes {
		var sums [kinds][]rows[int128]
		win := windowsOf(h, size)
		sumRows := 0
		for k, cols := range groups {
			if len(cols) == 0 {
				continue
			}
			sums[k] = w.summer.sum(win, h, all[k], profiles.Kind(k), len(cols))
			for _, r := range sums[k] {
				sumRows += len(r.stacks)
			}
		}
		if sumRows*sumsPay > rawRows || rawRows == 0 {
			continue
		}
		sum := &sumInfo{windows: win.len()}
		for k, cols := range groups {
			sum.groups[k] = w.sumGroup(sums[k], win, profiles.Kind(k), len(cols))
		}
		info.sums[i] = sum
	}
}

func (w *fileWriter) sumGroup(ps []rows[int128], win *windows, kind profiles.Kind, columns int) (g groupInfo) {
	if columns == 0 {
		return g
	}
	transpose(&w.trans, ps)
	g.rows, g.columns = len(w.trans.profile), make([]located, columns)
	if g.rows == 0 {
		return g
	}
	w.raw = w.trans.appendStacks(w.raw[:0], len(ps))
	g.stacks = w.part(regionSums, w.raw)
	var covered []int64
	if kind == profiles.Gauge {
		covered = win.covered
	}
	var values []int128
	for c := range columns {
		values = gather(&w.trans, ps, c, values)
		w.raw = appendSumColumn(w.raw[:0], values, w.trans.counts, w.trans.profile, covered)
		g.columns[c] = w.part(regionSums, w.raw)
	}
	return g
}

// end finishes the dataset with its symbols, its regions and its index. from is where the symbols are in a dictionary, nil if in none.
func (w *fileWriter) end(sym *profiles.Symbols, from *origin) error {
	for i := range sectionIndex {
		w.raw = appendSymbols(w.raw[:0], i, sym)
		if len(w.raw) > maxPart {
			return fmt.Errorf("write dataset of %s: %s take %d bytes, more than %d", w.ds.Service, sectionNames[i], len(w.raw), maxPart)
		}
		w.section(&w.ds.sections[i], w.raw)
	}
	for i, r := range w.regions {
		w.ds.regions[i] = span{uint64(len(w.buf)), uint64(len(r))}
		w.buf = append(w.buf, r...)
	}
	raw := w.index.bytes()
	if len(raw) > maxPart {
		return fmt.Errorf("write dataset of %s: the series index takes %d bytes, more than %d", w.ds.Service, len(raw), maxPart)
	}
	w.section(&w.ds.sections[sectionIndex], raw)
	series, err := decodeIndex(raw, w.ds)
	if err != nil {
		return fmt.Errorf("write dataset of %s: read the series index back: %w", w.ds.Service, err)
	}
	w.opened.datasets[w.ds.Service] = &dataset{info: *w.ds, series: series, symbols: sym, origin: from}
	w.opened.bytes += indexBytes(series) + symbolBytes(sym)
	if from != nil {
		w.opened.bytes += int64(4 * len(from.stacks))
	}
	return nil
}

func (w *fileWriter) section(l *located, raw []byte) {
	l.at = uint64(len(w.buf))
	w.buf, l.part = w.comp.append(w.buf, raw)
}

// finish returns the file and its catalogue row.
func (w *fileWriter) finish(ancestors []blockID) ([]byte, catalog.Block) {
	w.section(&w.foot.ancestors, appendAncestors(w.raw[:0], ancestors))
	b := appendFooter(w.buf, &w.foot)
	w.buf = nil
	*w.opened.foot = w.foot
	return b, w.foot.block(int64(len(b)))
}

// compareSeries orders series as files hold them.
func compareSeries(a, b *series) int {
	if c := labels.Compare(a.labels, b.labels); c != 0 {
		return c
	}
	if c := strings.Compare(a.typ, b.typ); c != 0 {
		return c
	}
	return slices.CompareFunc(a.columns, b.columns, func(a, b column) int {
		if c := strings.Compare(a.Sample, b.Sample); c != 0 {
			return c
		}
		return strings.Compare(a.Unit, b.Unit)
	})
}
