package store

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// rollupInfo is the sums, by window, of all series of a dataset that share type, columns and kept labels. It answers for its members as long as
// nobody asks for what tells them apart: for one of the labels in Dropped.
type rollupInfo struct {
	Labels   labels.Labels // kept: the same for all members
	Dropped  []string      // names of the other labels that any member has, sorted
	Type     string
	Period   int64 // of the profile that starts last
	Columns  []column
	members  []uint32 // series of the dataset, ascending
	profiles int
	minStart int64
	maxStart int64
	maxEnd   int64
	levels   []sumInfo // the finest first; each size is a multiple of the one before
}

// rollupSizes are the windows that rollups may have, in ms.
var rollupSizes = [...]int64{60_000, 600_000, 3_600_000, 86_400_000}

// rollupPay is how many rows of the next finer thing that is stored one row of a rollup must stand for to be worth its bytes.
const rollupPay = 4

// instanceLabels name one process or where it runs: rollups never keep them. Nor do they keep a label with more than maxKept values in the dataset.
var instanceLabels = map[string]bool{
	"service_instance_id": true, "host_name": true, "process_pid": true, "container_id": true, "k8s_pod_name": true, "k8s_node_name": true,
}

const maxKept = 16

// keptLabels decides which labels the rollups of a dataset with these series drop.
func keptLabels(all []labels.Labels) (dropped map[string]bool) {
	dropped = maps.Clone(instanceLabels)
	values := map[string]map[string]struct{}{}
	for _, ls := range all {
		ls.Range(func(l labels.Label) {
			if dropped[l.Name] {
				return
			}
			set := values[l.Name]
			if set == nil {
				set = map[string]struct{}{}
				values[l.Name] = set
			}
			if set[l.Value] = struct{}{}; len(set) > maxKept {
				dropped[l.Name] = true
			}
		})
	}
	return dropped
}

// rollup is a rollupInfo in the making.
type rollup struct {
	info    rollupInfo
	dropped map[string]struct{}
	lastly  int64 // start of the profile that info.Period is from
	rawRows int
	windows map[int64]int // start of a window of the finest size: index into head, which is in order of coming
	head    windowHead
	rows    [kinds]sumTable
}

func newRollup(info rollupInfo) *rollup {
	u := &rollup{info: info, dropped: map[string]struct{}{}, windows: map[int64]int{}, lastly: -1 << 63}
	u.head.totals = make([][]int128, len(info.Columns))
	for k, cols := range groupsOf(info.Columns) {
		u.rows[k].columns = len(cols)
	}
	return u
}

// rollups gathers the rollups of one type's series. Not safe for concurrent use.
type rollups struct {
	size    int64 // the finest
	dropped map[string]bool
	byKey   map[string]*rollup
	builder *labels.Builder
	spare   []sumTable // empty ones to use again
}

// reset starts a dataset, whose finest sums are those of size ms.
func (r *rollups) reset(size int64, all []labels.Labels) {
	r.size, r.dropped = size, keptLabels(all)
	r.byKey, r.builder = map[string]*rollup{}, labels.NewBuilder(labels.EmptyLabels())
}

// of returns the rollup of a series, the next one of the dataset.
func (r *rollups) of(s *seriesInfo, index int) *rollup {
	r.builder.Reset(s.Labels)
	s.Labels.Range(func(l labels.Label) {
		if r.dropped[l.Name] {
			r.builder.Del(l.Name)
		}
	})
	kept := r.builder.Labels()
	key := seriesKey(kept, s.Type, s.Columns)
	u := r.byKey[key]
	if u == nil {
		u = newRollup(rollupInfo{Labels: kept, Type: s.Type, Columns: s.Columns, minStart: s.minStart, maxStart: s.maxStart, maxEnd: s.maxEnd})
		for k := range u.rows {
			if n := len(r.spare); n > 0 && u.rows[k].columns > 0 {
				columns := u.rows[k].columns
				u.rows[k], r.spare = r.spare[n-1], r.spare[:n-1]
				u.rows[k].columns = columns
			}
		}
		r.byKey[key] = u
	}
	s.Labels.Range(func(l labels.Label) {
		if r.dropped[l.Name] {
			u.dropped[l.Name] = struct{}{}
		}
	})
	i := &u.info
	i.members = append(i.members, uint32(index))
	i.profiles += s.profiles
	i.minStart, i.maxStart, i.maxEnd = min(i.minStart, s.minStart), max(i.maxStart, s.maxStart), max(i.maxEnd, s.maxEnd)
	if s.Period != 0 && s.maxStart >= u.lastly {
		u.lastly, i.Period = s.maxStart, s.Period
	}
	return u
}

// window returns the index of the window at start.
func (u *rollup) window(start int64) int {
	i, ok := u.windows[start]
	if !ok {
		i = len(u.head.start)
		u.windows[start] = i
		h := &u.head
		h.start, h.profiles, h.covered, h.length = append(h.start, start), append(h.profiles, 0), append(h.covered, 0), append(h.length, 0)
		h.first, h.last = append(h.first, 1<<63-1), append(h.last, -1<<63)
		for c := range h.totals {
			h.totals[c] = append(h.totals[c], int128{})
		}
	}
	return i
}

// addRecords adds a series' profiles.
func (u *rollup) addRecords(size int64, rs []record, h *head, groups *[kinds][]int) {
	windows := u.addHeads(size, rs, h, groups)
	for i := range rs {
		for k := range groups {
			u.rows[k].addRow(windows[i], &rs[i].groups[k], weightOf(&rs[i], k))
		}
	}
}

// addHeads adds what is known of a series' profiles without their rows, and returns the window of each.
func (u *rollup) addHeads(size int64, rs []record, h *head, groups *[kinds][]int) (windows []uint32) {
	at, end := 0, int64(-1<<63)
	w := &u.head
	windows = make([]uint32, len(rs))
	for i := range rs {
		rec := &rs[i]
		if rec.start >= end || i == 0 {
			start := windowStart(rec.start, size)
			at, end = u.window(start), start+size
		}
		windows[i] = uint32(at)
		w.profiles[at]++
		w.covered[at] += rec.covered
		w.length[at] += rec.end - rec.start
		w.first[at], w.last[at] = min(w.first[at], rec.start), max(w.last[at], rec.end)
		for k, cols := range groups {
			weight := weightOf(rec, k)
			for _, col := range cols {
				w.totals[col][at] = w.totals[col][at].Add(h.totals[col][i].Mul(weight))
			}
			u.rawRows += len(rec.groups[k].stacks)
		}
	}
	return windows
}

// weightOf returns what a profile's values of a kind are multiplied with in sums.
func weightOf(r *record, kind int) int64 {
	if kind == gaugeKind {
		return r.covered
	}
	return 1
}

// sumTable adds up rows by window and stack. Not safe for concurrent use.
type sumTable struct {
	columns int
	slots   []uint32 // open addressing: 1 + index into keys, 0: free; a power of two of them
	keys    []uint64 // stack << 32 | window
	values  []int128 // columns for each key
}

// addRow adds a profile's rows, times weight, to window.
func (t *sumTable) addRow(window uint32, r *rows[int64], weight int64) {
	n := len(r.stacks)
	for i, s := range r.stacks {
		at := t.at(uint64(s)<<32 | uint64(window))
		for c := range t.columns {
			addScaled(&t.values[at+c], r.values[c*n+i], weight)
		}
	}
}

// addSlice adds the rows of a slice, of records that are in windows, in stack-major order: what addRow does for each of them, looking each stack up once for each window.
func (t *sumTable) addSlice(of *transposer, rs []record, windows []uint32, kind int) {
	row := 0
	for i, stack := range of.stacks {
		base, last := -1, uint32(0)
		for end := row + int(of.counts[i]); row < end; row++ {
			j := of.profile[row]
			if w := windows[j]; base < 0 || w != last {
				base, last = t.at(uint64(stack)<<32|uint64(w)), w
			}
			g, weight := &rs[j].groups[kind], weightOf(&rs[j], kind)
			for c := range t.columns {
				addScaled(&t.values[base+c], g.values[c*len(g.stacks)+int(of.position[row])], weight)
			}
		}
	}
}

// at returns where the values of key are.
func (t *sumTable) at(key uint64) int {
	if 2*len(t.keys) >= len(t.slots) {
		t.grow()
	}
	mask := uint64(len(t.slots) - 1)
	for i := tableHash(key) & mask; ; i = (i + 1) & mask {
		k := t.slots[i]
		if k == 0 {
			t.keys = append(t.keys, key)
			for range t.columns {
				t.values = append(t.values, int128{})
			}
			t.slots[i] = uint32(len(t.keys))
			return len(t.values) - t.columns
		}
		if t.keys[k-1] == key {
			return int(k-1) * t.columns
		}
	}
}

func tableHash(key uint64) uint64 {
	key *= 0x9e3779b97f4a7c15
	return key ^ key>>32
}

func (t *sumTable) grow() {
	t.slots = make([]uint32, max(1024, 2*len(t.slots)))
	mask := uint64(len(t.slots) - 1)
	for k, key := range t.keys {
		i := tableHash(key) & mask
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = uint32(k + 1)
	}
}

// sumRows are sums in order of stack, then of window. values is row-major: columns of them for each row.
type sumRows struct {
	columns       int
	stack, window []uint32
	values        []int128
}

// sorted returns the table's rows that are not zero in all columns, their windows mapped by rank.
func (t *sumTable) sorted(rank []uint32) sumRows {
	type entry struct {
		key uint64
		at  uint32
	}
	es := make([]entry, 0, len(t.keys))
	for i, key := range t.keys {
		zero := true
		for _, v := range t.values[i*t.columns : (i+1)*t.columns] {
			zero = zero && v.IsZero()
		}
		if !zero {
			es = append(es, entry{key&^0xffffffff | uint64(rank[uint32(key)]), uint32(i)})
		}
	}
	slices.SortFunc(es, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	out := sumRows{columns: t.columns, stack: make([]uint32, len(es)), window: make([]uint32, len(es)), values: make([]int128, 0, len(es)*t.columns)}
	for i, e := range es {
		out.stack[i], out.window[i] = uint32(e.key>>32), uint32(e.key)
		out.values = append(out.values, t.values[int(e.at)*t.columns:int(e.at+1)*t.columns]...)
	}
	return out
}

// coarser adds up windows: to maps each to the one it is in.
func (r *sumRows) coarser(to []uint32) (out sumRows) {
	out.columns = r.columns
	for i, s := range r.stack {
		w := to[r.window[i]]
		n := len(out.stack)
		if n == 0 || out.stack[n-1] != s || out.window[n-1] != w {
			out.stack, out.window = append(out.stack, s), append(out.window, w)
			out.values = append(out.values, r.values[i*r.columns:(i+1)*r.columns]...)
			continue
		}
		for c := range r.columns {
			cell := &out.values[(n-1)*r.columns+c]
			*cell = cell.Add(r.values[i*r.columns+c])
		}
	}
	return out
}

// level is the sums of one size in the making.
type level struct {
	size int64
	head windowHead
	rows [kinds]sumRows
}

func (l *level) len() (n int) {
	for k := range l.rows {
		n += len(l.rows[k].stack)
	}
	return n
}

// finest returns the sums of the finest size.
func (u *rollup) finest(size int64) *level {
	l := &level{size: size}
	order := make([]int, len(u.head.start))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(u.head.start[a], u.head.start[b]) })
	rank := make([]uint32, len(order))
	for to, from := range order {
		rank[from] = uint32(to)
		l.head.add(u.head.start[from], &u.head, from)
	}
	for k := range l.rows {
		l.rows[k] = u.rows[k].sorted(rank)
	}
	return l
}

// coarser returns the sums of size, a multiple of l's.
func (l *level) coarser(size int64) *level {
	out := &level{size: size}
	to := make([]uint32, l.head.len())
	for i, s := range l.head.start {
		out.head.add(windowStart(s, size), &l.head, i)
		to[i] = uint32(out.head.len() - 1)
	}
	for k := range l.rows {
		out.rows[k] = l.rows[k].coarser(to)
	}
	return out
}

// levels returns the sums of all sizes that pay.
func (u *rollup) levels(size int64) (out []*level) {
	next, rows := u.finest(size), u.rawRows
	for _, s := range rollupSizes {
		if s%next.size != 0 {
			continue
		}
		if s > size {
			next = next.coarser(s)
		}
		if n := next.len(); n*rollupPay <= rows && rows > 0 {
			out, rows = append(out, next), n
		}
	}
	return out
}

// release takes back the tables of a rollup that was written.
func (r *rollups) release(u *rollup) {
	for k := range u.rows {
		t := u.rows[k]
		if len(t.slots) > 0 && len(r.spare) < 16 {
			clear(t.slots)
			r.spare = append(r.spare, sumTable{slots: t.slots, keys: t.keys[:0], values: t.values[:0]})
		}
	}
}

// finish returns the rollups gathered so far, in the order of files, and starts anew.
func (r *rollups) finish() []*rollup {
	out := slices.Collect(maps.Values(r.byKey))
	for _, u := range out {
		u.info.Dropped = slices.Sorted(maps.Keys(u.dropped))
	}
	slices.SortFunc(out, func(a, b *rollup) int {
		return cmp.Or(strings.Compare(a.info.Type, b.info.Type), compareColumns(a.info.Columns, b.info.Columns), labels.Compare(a.info.Labels, b.info.Labels))
	})
	r.byKey = map[string]*rollup{}
	return out
}
