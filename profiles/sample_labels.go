package profiles

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// SampleLabels lists the labels that samples carry, with what their values stand for.
type SampleLabels struct {
	Type   TypeDesc           `json:"type"`
	From   int64              `json:"from"` // Unix ms
	To     int64              `json:"to"`
	Total  int64              `json:"total"`
	Labels []SampleLabelTotal `json:"labels"` // by name
	Stats  MergeStats         `json:"stats"`
}

// SampleLabelTotal is one label: how much all samples that have it stand for, and each of its values.
type SampleLabelTotal struct {
	Name     string             `json:"name"`
	Unit     string             `json:"unit,omitempty"` // of numbers
	Total    int64              `json:"total"`
	Distinct int                `json:"distinct"` // values there would be without a limit
	Values   []SampleValueTotal `json:"values"`   // the largest first
}

// SampleValueTotal is one value of a label; numbers are written in decimal, as selectors compare them.
type SampleValueTotal struct {
	Value string `json:"value"`
	Total int64  `json:"total"`
}

// NewSampleLabels adds up s by label and value; of each label the largest values are kept, limit of them (0: 100).
func NewSampleLabels(s *Stacks, limit int) *SampleLabels {
	out := &SampleLabels{Type: s.Type.Desc(), From: s.Start, To: s.End, Total: s.Total(), Stats: s.Stats, Labels: []SampleLabelTotal{}}
	if s.Symbols == nil {
		return out
	}
	sym := s.Symbols
	sets := map[uint32]int64{}
	for i, id := range s.IDs {
		if set := sym.Stacks[id].LabelSet; set != 0 {
			sets[set] = addSaturated(sets[set], s.Values[i])
		}
	}
	byName := map[string]map[string]int64{}
	totals, units := map[string]int64{}, map[string]string{}
	for set, v := range sets {
		span, last := sym.LabelSets[set], ""
		for _, l := range sym.Labels[span.Lo:span.Hi] {
			name, value := sym.Strings[l.Key], sym.Strings[l.Str]
			if l.Numeric {
				value, units[name] = strconv.FormatInt(l.Num, 10), sym.Strings[l.Unit]
			}
			if byName[name] == nil {
				byName[name] = map[string]int64{}
			}
			byName[name][value] = addSaturated(byName[name][value], v)
			if name != last { // a sample may have several values of one label
				totals[name] = addSaturated(totals[name], v)
			}
			last = name
		}
	}
	limit = cmp.Or(limit, 100)
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		l := SampleLabelTotal{Name: name, Unit: units[name], Total: totals[name], Distinct: len(byName[name])}
		for value, v := range byName[name] {
			l.Values = append(l.Values, SampleValueTotal{value, v})
		}
		slices.SortFunc(l.Values, func(a, b SampleValueTotal) int {
			return cmp.Or(cmp.Compare(magnitude(b.Total), magnitude(a.Total)), strings.Compare(a.Value, b.Value))
		})
		l.Values = l.Values[:min(limit, len(l.Values))]
		out.Labels = append(out.Labels, l)
	}
	return out
}
