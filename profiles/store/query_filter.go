package store

import (
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// samplePrefix marks a label of samples among those of series.
const samplePrefix = "sample."

// stackFilter decides which stacks of one lexicon count, and to which group of sample labels each belongs. Not safe for concurrent use.
type stackFilter struct {
	q       *Query
	samples []*labels.Matcher // but those on span labels
	by      []string          // labels of samples
	groups  []labels.Labels
	index   map[string]int32 // of groups, by their values
	sets    []int32          // by label set: its group, -1: it does not count
	keep    []int32          // by stack: its group, -1: it does not count
}

func newStackFilter(q *Query, by []string) stackFilter {
	samples, _ := splitSamples(q.Samples)
	return stackFilter{q: q, samples: samples, by: by, index: map[string]int32{}}
}

// active reports whether there is anything to decide.
func (s *stackFilter) active() bool {
	return len(s.samples) > 0 || s.q.Focus != nil || s.q.Ignore != nil || len(s.by) > 0
}

// update decides about the stacks of view, a snapshot of lex, that are new since the last call.
func (s *stackFilter) update(b *budget, lex *lexicon, view *profiles.Symbols) error {
	from, n := len(s.keep), len(view.Stacks)
	if from >= n {
		return nil
	}
	var err error
	if s.keep, err = grow(b, s.keep, n, 4); err != nil {
		return err
	}
	for i := len(s.sets); i < len(view.LabelSets); i++ {
		s.sets = append(s.sets, s.group(view, view.LabelSets[i]))
	}
	var focus, ignore []bool
	if s.q.Focus != nil {
		focus = lex.matching(view, s.q.Focus)
	}
	if s.q.Ignore != nil {
		ignore = lex.matching(view, s.q.Ignore)
	}
	for i := from; i < n; i++ {
		s.keep[i] = s.sets[view.Stacks[i].LabelSet]
		if focus != nil && !focus[i] || ignore != nil && ignore[i] {
			s.keep[i] = -1
		}
	}
	return nil
}

// group returns the group of a label set, or -1 where the set does not match.
func (s *stackFilter) group(view *profiles.Symbols, set profiles.Span) int32 {
	for _, m := range s.samples {
		if !m.Matches(sampleLabel(view, set, m.Name)) {
			return -1
		}
	}
	var key strings.Builder
	for _, name := range s.by {
		key.WriteString(sampleLabel(view, set, name))
		key.WriteByte(0xff)
	}
	id, ok := s.index[key.String()]
	if !ok {
		id = int32(len(s.groups))
		s.index[key.String()] = id
		b := labels.NewBuilder(labels.EmptyLabels())
		for _, name := range s.by {
			b.Set(samplePrefix+name, sampleLabel(view, set, name))
		}
		s.groups = append(s.groups, b.Labels())
	}
	return id
}

// sampleLabel returns the value of a label of samples, a number in decimal; "" where the set has none of that name.
func sampleLabel(view *profiles.Symbols, set profiles.Span, name string) string {
	for _, l := range view.Labels[set.Lo:set.Hi] {
		if view.Strings[l.Key] != name {
			continue
		}
		if l.Numeric {
			return strconv.FormatInt(l.Num, 10)
		}
		return view.Strings[l.Str]
	}
	return ""
}

// bases returns what kernels need of stacks, those of a dataset as lex numbers them: the number of each times width, noCell for those that do not count.
func (s *stackFilter) bases(b *budget, lex *lexicon, view *profiles.Symbols, stacks []uint32, width uint32) ([]uint32, error) {
	if s.active() {
		if err := s.update(b, lex, view); err != nil {
			return nil, err
		}
	} else if width == 1 {
		return stacks, nil
	}
	out := make([]uint32, len(stacks))
	for i, id := range stacks {
		if out[i] = id * width; s.active() && s.keep[id] < 0 {
			out[i] = noCell
		}
	}
	return out, nil
}
