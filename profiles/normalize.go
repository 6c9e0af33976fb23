package profiles

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Normalization says what the values of one side of a comparison are divided by, so that a side that covers more time or more processes is not more for that.
type Normalization string

// The normalizations. Where "value" is said, an interval's is what was counted and a gauge's is its mean times the range: what was held, times how long.
const (
	NormalizeNone     Normalization = "none"     // values as they are
	NormalizeShare    Normalization = "share"    // part of the side's total
	NormalizeCPU      Normalization = "cpu"      // value per second of CPU that the processes used while they were profiled: what a unit of work costs
	NormalizeInstance Normalization = "instance" // an interval's value per process that was seen; a gauge's mean of one process
	NormalizeInterval Normalization = "interval" // value per second in which a process was profiled
)

// Normalizations are all there are.
var Normalizations = []Normalization{NormalizeNone, NormalizeShare, NormalizeCPU, NormalizeInstance, NormalizeInterval}

// ParseNormalization reads one as the API and the command line write it.
func ParseNormalization(s string) (Normalization, error) {
	if n := Normalization(s); slices.Contains(Normalizations, n) {
		return n, nil
	}
	return "", fmt.Errorf("parse normalization %q: want one of none, share, cpu, instance, interval", s)
}

// Per says what a normalized value of type t is a part of, for people: "per second of process time"; "" for values as they are.
func (n Normalization) Per(t Type) string {
	gauge := t.Kind() == Gauge
	switch {
	case n == NormalizeShare:
		return "of the side's total"
	case n == NormalizeCPU && gauge:
		return "per core in use"
	case n == NormalizeCPU:
		return "per second of CPU"
	case gauge && (n == NormalizeInstance || n == NormalizeInterval):
		return "per process"
	case n == NormalizeInstance:
		return "per process that was seen"
	case n == NormalizeInterval:
		return "per second of process time"
	}
	return ""
}

// Side is what of one side of a comparison a normalization goes by. CPU is the merge of cpu:cpu over the same processes and the same range, without filters on stacks;
// it is asked for by NormalizeCPU only.
type Side struct {
	Stacks *Stacks
	CPU    *Stacks
}

// Factor returns what the values of the side are to be multiplied with. Where a statistic that it goes by is not there, the error says which.
func (n Normalization) Factor(s Side) (float64, error) {
	st := s.Stacks.Stats
	held := 1.0 // seconds that a gauge's mean was held
	if s.Stacks.Type.Kind() == Gauge {
		held = float64(s.Stacks.End-s.Stacks.Start) / 1000
		if n == NormalizeInstance {
			n = NormalizeInterval // pods that replaced each other are one heap: processes are counted by the time that they were there
		}
	}
	switch n {
	case NormalizeNone:
		return 1, nil
	case NormalizeShare:
		return inverse(float64(s.Stacks.Total()), 1, "a total other than 0")
	case NormalizeInterval:
		return inverse(float64(st.CoveredMs)/1000, held, "the time that profiles cover")
	case NormalizeInstance:
		return inverse(float64(st.Series), 1, "the number of processes")
	}
	if s.CPU == nil || s.CPU.Stats.CoveredMs <= 0 || s.CPU.Total() <= 0 {
		return 0, fmt.Errorf("normalize per CPU second: there is no CPU profile of these processes in the range")
	}
	// A scraped process has CPU profiles of some seconds of each minute: what it used then stands for all the time that the values were counted in.
	cores := float64(s.CPU.Total()) / 1e6 / float64(s.CPU.Stats.CoveredMs)
	return inverse(cores*float64(st.CoveredMs)/1000, held, "the time that profiles cover")
}

func inverse(by, held float64, what string) (float64, error) {
	if by == 0 {
		return 0, fmt.Errorf("normalize: %s is not known", what)
	}
	return held / by, nil
}

// Scale says how the two sides of a comparison are made comparable: the values of each are to be multiplied with its factor.
type Scale struct {
	Normalize Normalization `json:"normalize"`
	Per       string        `json:"per,omitempty"`
	Now       float64       `json:"now"`
	Base      float64       `json:"base"`
	Missing   string        `json:"missing,omitempty"` // what would have been needed to normalize as asked; the factors are then 1
}

// NewScale returns the factors by which n makes now and base comparable. A side without profiles is 0 on every scale and takes the other's factor.
func NewScale(n Normalization, now, base Side) Scale {
	out := Scale{Normalize: n, Per: n.Per(now.Stacks.Type), Now: 1, Base: 1}
	var missing []string
	factor := func(s Side, name string) float64 {
		if s.Stacks.Stats.Profiles == 0 || len(s.Stacks.IDs) == 0 {
			return 0
		}
		f, err := n.Factor(s)
		if err != nil {
			missing = append(missing, name+": "+err.Error())
			return 0
		}
		return f
	}
	a, b := factor(now, "range"), factor(base, "base")
	switch {
	case len(missing) > 0:
		out.Normalize, out.Per, out.Missing = NormalizeNone, "", strings.Join(missing, "; ")
	case a != 0 && b != 0:
		out.Now, out.Base = a, b
	case a != 0:
		out.Now, out.Base = a, a
	case b != 0:
		out.Now, out.Base = b, b
	}
	return out
}

// baseRatio is what a value of the base is multiplied with to be compared with one of the range; 0 is 1.
type baseRatio float64

// ratio returns the base's factor in terms of the range's.
func (s *Scale) ratio() baseRatio {
	if s == nil || s.Now == 0 {
		return 0
	}
	return baseRatio(s.Base / s.Now)
}

// of scales a size (≥ 0), cut to what an int64 holds.
func (r baseRatio) of(size int64) int64 {
	if r == 0 || r == 1 {
		return size
	}
	f := float64(size) * float64(r)
	if f >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(math.Round(f))
}
