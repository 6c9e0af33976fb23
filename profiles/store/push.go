package store

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/sonde-io/sonde/profiles"
)

// ErrInvalid says that a push cannot be stored whatever the state of the store: a retry of it is in vain.
var ErrInvalid = errors.New("invalid push")

// maxTime bounds times, in Unix ms: the year 4199. What is beyond it is nanoseconds, or nonsense.
const maxTime = 1 << 46

// validate is the store's gate; behind it everything trusts what it checks.
func (p *Push) validate() error {
	for i := range p.Profiles {
		if err := p.Profiles[i].validate(); err != nil {
			return fmt.Errorf("append push: profile %d (%s): %w: %w", i, p.Profiles[i].Type, ErrInvalid, err)
		}
	}
	return nil
}

func (p *Profile) validate() error {
	if p.Data == nil {
		return errors.New("it has no data")
	}
	if p.Labels.Get(serviceLabel) == "" {
		return errors.New("label service_name is missing")
	}
	if name, dup := p.Labels.HasDuplicateLabelNames(); dup {
		return fmt.Errorf("label %s is there twice", name)
	}
	if p.Start < 0 || p.Start > maxTime || p.End > maxTime {
		return fmt.Errorf("its interval [%d, %d) is not in Unix milliseconds", p.Start, p.End)
	}
	if p.End <= p.Start {
		return fmt.Errorf("its interval [%d, %d) is empty", p.Start, p.End)
	}
	if !profiles.ValidName(p.Type) {
		return fmt.Errorf("type %q is not 1 to 64 of [A-Za-z0-9_.-]", p.Type)
	}
	types := p.Data.SampleTypes
	if len(types) == 0 || len(types) > maxColumns {
		return fmt.Errorf("it has %d sample types, want 1 to %d", len(types), maxColumns)
	}
	for i, t := range types {
		if !profiles.ValidName(t.Type) || len(t.Unit) > 64 {
			return fmt.Errorf("sample type %q in %q is not a name", t.Type, t.Unit)
		}
		if slices.ContainsFunc(types[:i], func(o profiles.ValueType) bool { return o.Type == t.Type }) {
			return fmt.Errorf("sample type %s is there twice", t.Type)
		}
	}
	if len(p.Data.Values) != len(p.Data.Samples)*len(types) {
		return fmt.Errorf("it has %d values for %d samples of %d types", len(p.Data.Values), len(p.Data.Samples), len(types))
	}
	return nil
}

// columnsOf returns the columns of a profile of type typ.
func columnsOf(typ string, types []profiles.ValueType) []column {
	out := make([]column, len(types))
	for i, t := range types {
		out[i] = column{t.Type, t.Unit, profiles.KindOf(typ, t.Type)}
	}
	return out
}

// maxNames bounds the names of columns that are remembered; real ones are a few dozen.
const maxNames = 1024

// recorder turns decoded profiles into records. Not safe for concurrent use.
type recorder struct {
	names map[string]string // of columns, copied: those of a decoded profile are gone when it is used again
	spans spanSplitter
	ids   []uint32
	order []uint64 // stack id and sample, ascending
	sum   []int64
}

// keep replaces the names of columns, which are the profile's, by copies.
func (r *recorder) keep(columns []column) []column {
	for i := range columns {
		columns[i].Sample, columns[i].Unit = r.name(columns[i].Sample), r.name(columns[i].Unit)
	}
	return columns
}

func (r *recorder) name(s string) string {
	if known, ok := r.names[s]; ok {
		return known
	}
	if r.names == nil || len(r.names) >= maxNames {
		r.names = map[string]string{}
	}
	s = strings.Clone(s)
	r.names[s] = s
	return s
}

// record interns p's stacks into syms and returns its rows: sorted by stack, those of one stack added up, without rows that are zero
// in all columns of their kind. What it has of spans comes apart.
func (r *recorder) record(syms *profiles.Symbols, p *profiles.Profile, groups *[kinds][]int) (rec [kinds]rows[int64], spans []spanRow) {
	p, some := r.spans.split(p)
	r.ids = syms.AddProfile(p, r.ids)
	if some {
		spans = r.spans.rows(p, r.ids)
	}
	r.order = slices.Grow(r.order[:0], len(r.ids))[:len(r.ids)]
	sorted := true
	for i, id := range r.ids {
		r.order[i] = uint64(id)<<32 | uint64(i)
		sorted = sorted && (i == 0 || r.order[i] > r.order[i-1])
	}
	if !sorted {
		slices.Sort(r.order)
	}
	for k, cols := range groups {
		if len(cols) > 0 {
			rec[k] = r.rows(p, cols)
		}
	}
	return rec, spans
}

func (r *recorder) rows(p *profiles.Profile, cols []int) rows[int64] {
	stacks, values := make([]uint32, 0, len(r.order)), make([]int64, 0, len(r.order)*len(cols)) // values sample-major
	r.sum = slices.Grow(r.sum[:0], len(cols))[:len(cols)]
	for i := 0; i < len(r.order); {
		id := uint32(r.order[i] >> 32)
		clear(r.sum)
		for ; i < len(r.order) && uint32(r.order[i]>>32) == id; i++ {
			row := p.Row(int(uint32(r.order[i])))
			for k, c := range cols {
				r.sum[k] = addSaturated(r.sum[k], row[c])
			}
		}
		for _, v := range r.sum {
			if v != 0 {
				stacks, values = append(stacks, id), append(values, r.sum...)
				break
			}
		}
	}
	if len(cols) > 1 {
		major := make([]int64, len(values))
		for i := range stacks {
			for c := range cols {
				major[c*len(stacks)+i] = values[i*len(cols)+c]
			}
		}
		values = major
	}
	return rows[int64]{stacks, values}
}

// addSaturated adds two samples of one stack of one profile. Their sum passing 63 bits is no profile that was measured: it is cut.
func addSaturated(a, b int64) int64 {
	s, _ := bits.Add64(uint64(a), uint64(b), 0)
	if (a < 0) == (b < 0) && (int64(s) < 0) != (a < 0) {
		if a < 0 {
			return math.MinInt64
		}
		return math.MaxInt64
	}
	return int64(s)
}
