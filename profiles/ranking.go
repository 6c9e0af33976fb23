package profiles

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Ranking is a comparison of two ranges by function, ordered by how sure it is that the function changed at all.
type Ranking struct {
	Type        TypeDesc      `json:"type"`
	From        int64         `json:"from"` // Unix ms
	To          int64         `json:"to"`
	BaseFrom    int64         `json:"base_from"`
	BaseTo      int64         `json:"base_to"`
	Normalize   Normalization `json:"normalize"`
	Per         string        `json:"per,omitempty"`
	Value       string        `json:"value"`        // total or self
	Window      int64         `json:"window"`       // ms
	Windows     int           `json:"windows"`      // of the range, with data
	BaseWindows int           `json:"base_windows"` // of the base, with data
	Note        string        `json:"note,omitempty"`
	Functions   int           `json:"functions"` // rows there would be without a limit
	Rows        []RankRow     `json:"rows"`
}

// RankRow is one function. Base and Now are the means of its normalized values over the windows.
type RankRow struct {
	Function string  `json:"function"`
	File     string  `json:"file"`
	Kind     string  `json:"kind"`
	Base     float64 `json:"base"`
	Now      float64 `json:"now"`
	T        float64 `json:"t"`       // Welch's t, positive where it grew
	P        float64 `json:"p"`       // probability of a difference like this where nothing changed
	Q        float64 `json:"q"`       // the same with all functions tested at once taken into account
	Log10P   float64 `json:"log10_p"` // P where it is too small for a number
	self     float64 // change of what it costs itself
}

// The values that functions are ranked by.
const (
	RankTotal = "total" // what the function costs with what it calls
	RankSelf  = "self"
)

// RankOptions are the options of NewRanker.
type RankOptions struct {
	Value     string // RankTotal ("" too) or RankSelf
	Limit     int    // rows; 0: 100, negative: all
	OwnModule string // as in FlameOptions
}

// Fewer windows than these on a side say nothing, or little.
const (
	leastRankWindows = 2
	fewRankWindows   = 6
)

// Ranker takes the windows of both sides one after another and ranks the functions by a two-sample test of their values.
//
// The test is Welch's (see welch): it asks for means and not for ranks. Mann and Whitney's test needs no shape of the values either, but its smallest p-value is
// set by the number of windows (2/252 for five a side), so that every function that is clearly apart would share the first place; and where the variances differ, as they do
// between a busy and an idle hour, it tests something else than the mean. Values of a window are sums of many samples, near enough to normal for Welch's.
// Sampled counts scatter as counts do, so no variance is taken to be smaller than that of a count with the same mean (mean × the smallest value seen):
// two windows that happen to be equal prove nothing. Neighbouring windows resemble each other, which makes p-values too small by about the same for all
// functions: the order is to be trusted more than the number.
//
// Not safe for concurrent use.
type Ranker struct {
	opt       RankOptions
	index     map[string]uint32
	names     []string
	files     []string
	sides     [2]rankSide
	symbols   *Symbols
	functions []uint32          // of symbols: id plus one
	unknown   map[uint32]uint32 // of symbols: location without symbols to id
	values    []float64         // of the window, by id
	selfs     []float64
	seen      []int // by id: the stack that was last counted, plus one
	stacks    int
	touched   []uint32
	typ       Type
}

type rankSide struct {
	functions []moments // by id, windows without the function left out
	self      []float64 // by id: sum
	windows   int
	factors   float64 // sum
	unit      float64 // the smallest value other than 0
}

// NewRanker returns a Ranker without windows.
func NewRanker(opt RankOptions) *Ranker {
	return &Ranker{opt: opt, index: map[string]uint32{}}
}

// AddBase adds one window of the base. Its values are multiplied with factor, which makes windows comparable (see Normalization). s is not used after the return.
func (r *Ranker) AddBase(s *Stacks, factor float64) { r.add(s, factor, 1) }

// Add adds one window of the range that is compared with the base, as AddBase.
func (r *Ranker) Add(s *Stacks, factor float64) { r.add(s, factor, 0) }

func (r *Ranker) add(s *Stacks, factor float64, side int) {
	d := &r.sides[side]
	d.windows++
	d.factors += factor
	if r.typ.Unit == "" {
		r.typ = s.Type
	}
	sym := s.Symbols
	if sym == nil {
		return
	}
	if sym != r.symbols {
		r.symbols, r.functions, r.unknown = sym, nil, map[uint32]uint32{}
	}
	if more := len(sym.Functions) - len(r.functions); more > 0 {
		r.functions = append(r.functions, make([]uint32, more)...)
	}
	for i, id := range s.IDs {
		v := float64(s.Values[i])
		if a := math.Abs(v); a > 0 && (d.unit == 0 || a < d.unit) {
			d.unit = a
		}
		r.stack(sym, sym.Stacks[id].Node, v)
	}
	for len(d.functions) < len(r.names) {
		d.functions, d.self = append(d.functions, moments{}), append(d.self, 0)
	}
	for _, f := range r.touched {
		v := r.values[f]
		if r.opt.Value == RankSelf {
			v = r.selfs[f]
		}
		if v != 0 {
			d.functions[f].add(v * factor)
		}
		d.self[f] += r.selfs[f] * factor
		r.values[f], r.selfs[f] = 0, 0
	}
	r.touched = r.touched[:0]
}

// stack adds v to every function of a stack, once.
func (r *Ranker) stack(sym *Symbols, node uint32, v float64) {
	r.stacks++
	leaf := true
	for n := node; n != 0; n = sym.Nodes[n].Parent {
		at := sym.Nodes[n].Location
		l := &sym.Locations[at]
		if l.Lines.Len() == 0 {
			f, ok := r.unknown[at]
			if !ok {
				f = r.function(sym.unknownFrame(l))
				r.unknown[at] = f
			}
			r.count(f, v, leaf)
			leaf = false
			continue
		}
		for _, ln := range sym.Lines[l.Lines.Lo:l.Lines.Hi] {
			f := r.functions[ln.Function]
			if f == 0 {
				f = r.function(sym.functionName(ln.Function), sym.Strings[sym.Functions[ln.Function].File]) + 1
				r.functions[ln.Function] = f
			}
			r.count(f-1, v, leaf)
			leaf = false
		}
	}
}

func (r *Ranker) count(f uint32, v float64, leaf bool) {
	if r.seen[f] == r.stacks {
		return // recursion
	}
	r.seen[f] = r.stacks
	if r.values[f] == 0 && r.selfs[f] == 0 {
		r.touched = append(r.touched, f)
	}
	r.values[f] += v
	if leaf {
		r.selfs[f] += v
	}
}

func (r *Ranker) function(name, file string) uint32 {
	id, ok := r.index[name]
	if !ok {
		id = uint32(len(r.names))
		r.index[name] = id
		r.names, r.files = append(r.names, name), append(r.files, file)
		r.values, r.selfs, r.seen = append(r.values, 0), append(r.selfs, 0), append(r.seen, 0)
	} else if r.files[id] == "" {
		r.files[id] = file
	}
	return id
}

// Ranking tests every function and returns them, the most certain change first; of equal certainty the larger change, then the one that is more the
// function's own. Type is that of the windows; the ranges, the window's length and the normalization are the caller's to fill in.
func (r *Ranker) Ranking() *Ranking {
	now, base := &r.sides[0], &r.sides[1]
	value := cmp.Or(r.opt.Value, RankTotal)
	out := &Ranking{Type: r.typ.Desc(), Value: value, Windows: now.windows, BaseWindows: base.windows, Note: rankNote(now.windows, base.windows), Functions: len(r.names)}
	own := splitModules(r.opt.OwnModule)
	rows := make([]RankRow, len(r.names))
	logP := make([]float64, len(r.names))
	for i, name := range r.names {
		a, b := base.at(i), now.at(i)
		row := RankRow{Function: name, File: r.files[i], Kind: FunctionKind(name, own), Base: a.mean, Now: b.mean, self: now.own(i) - base.own(i)}
		row.T, _, logP[i] = welch(a, b, base.variance(a), now.variance(b))
		rows[i] = row
	}
	q := falseDiscovery(logP)
	order := make([]int, len(rows))
	for i := range rows {
		order[i] = i
		rows[i].P, rows[i].Q, rows[i].Log10P = math.Exp(logP[i]), math.Exp(q[i]), logP[i]/math.Ln10
	}
	slices.SortFunc(order, func(i, j int) int {
		x, y := &rows[i], &rows[j]
		return cmp.Or(cmp.Compare(logP[i], logP[j]), cmp.Compare(math.Abs(y.Now-y.Base), math.Abs(x.Now-x.Base)),
			cmp.Compare(math.Abs(y.self), math.Abs(x.self)), strings.Compare(x.Function, y.Function))
	})
	limit := cmp.Or(r.opt.Limit, 100)
	if limit > 0 && len(order) > limit {
		order = order[:limit]
	}
	out.Rows = make([]RankRow, len(order))
	for i, k := range order {
		out.Rows[i] = rows[k]
	}
	return out
}

// at returns the moments of function i over all windows of the side.
func (d *rankSide) at(i int) moments {
	var m moments
	if i < len(d.functions) {
		m = d.functions[i]
	}
	return m.withZeros(float64(d.windows))
}

func (d *rankSide) own(i int) float64 {
	if i >= len(d.self) {
		return 0
	}
	return d.self[i] / float64(max(d.windows, 1))
}

// variance is that of m, at least what a count of the side's smallest value has.
func (d *rankSide) variance(m moments) float64 {
	unit := d.unit * d.factors / float64(max(d.windows, 1))
	return math.Max(m.variance(), math.Abs(m.mean)*unit)
}

func rankNote(now, base int) string {
	switch least := min(now, base); {
	case least < leastRankWindows:
		return fmt.Sprintf("%d windows with data in the range and %d in the base: a test needs %d on each side, so nothing is certain", now, base, leastRankWindows)
	case least < fewRankWindows:
		return fmt.Sprintf("only %d windows with data in the range and %d in the base: longer ranges or shorter windows make this surer", now, base)
	}
	return ""
}

// The lengths of windows that NewRanker's callers choose from: sums of a minute, ten minutes, an hour and a day make them cheap.
var rankWindows = []int64{86400_000, 43200_000, 21600_000, 10800_000, 3600_000, 1800_000, 1200_000, 600_000, 300_000, 120_000, 60_000}

// RankWindow returns the length of windows, in ms, for ranges of so many ms: the longest that cuts the shorter range into twenty at least, or a minute.
func RankWindow(length, baseLength int64) int64 {
	for _, w := range rankWindows {
		if min(length, baseLength) >= 20*w {
			return w
		}
	}
	return rankWindows[len(rankWindows)-1]
}
