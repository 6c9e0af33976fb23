package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// FunctionsQuery asks which of some functions have samples, and when. All stacks count: Samples, Focus and Ignore are not looked at.
type FunctionsQuery struct {
	Query
	// Match returns the numbers of what a function with that name is, none for one that is not asked for. It is called once for each name of a service.
	Match func(name string) []int
	By    string // a label that tells profiles apart, such as service_instance_id; "": none does
}

// SeenFunction is a function that has samples in profiles with one value of the label.
type SeenFunction struct {
	Function    int // one of Match's numbers
	By          string
	First, Last int64 // Unix ms: the samples lie in [First, Last), to a minute where the range and the processes allow
}

// Limits of one query: cells of 16 bytes, distinct sets of functions on a stack, and the steps that its range is cut into at first.
const (
	maxSeenCells = 2 << 20
	maxSeenSets  = 1 << 16
	maxSeenSteps = 10_080 // a week in minutes
)

// errTooFine says that the cells did not suffice for the step. It is a limit, so that no block is taken for unreadable.
var errTooFine = &LimitError{Limit: "max_seen_cells", Max: maxSeenCells, Got: maxSeenCells + 1, What: "too many processes that run too many of the functions"}

// SeenFunctions returns which functions of q have samples. Datasets without any of them are passed over by their tables of functions, so that a query for what hardly runs costs little. What is
// over the limits of a query is a *LimitError.
func (s *Store) SeenFunctions(ctx context.Context, q FunctionsQuery) ([]SeenFunction, error) {
	if q.To <= q.From {
		return nil, fmt.Errorf("look for functions: range [%d, %d) is empty", q.From, q.To)
	}
	q.Samples, q.Focus, q.Ignore = nil, nil, nil
	b := s.newBudget()
	defer b.done()
	span := q.To - q.From
	for steps := min(maxSeenSteps, 1+span/time.Minute.Milliseconds()); ; steps = max(1, steps/8) {
		var a *seenAdder
		held := b.memory
		_, err := s.visit(ctx, q.Query, func() { a = newSeenAdder(s, &q, int(steps), b) }, func(f *file, ds *dataset) error { return a.scan.dataset(ctx, f, ds) })
		if errors.Is(err, errTooFine) && steps > 1 {
			b.memory = held // what it held is garbage
			continue
		}
		s.trimLexicons()
		if err != nil {
			return nil, fmt.Errorf("look for functions: %w", err)
		}
		return a.finish(), nil
	}
}

// seenAdder adds up one query's samples by the set of functions on their stack, the value of the label and the time step: what is not zero was seen. Not safe for concurrent use.
type seenAdder struct {
	scan  *scan
	store *Store
	q     *FunctionsQuery
	steps int
	sets  map[uint64]*seenSets // by lexicon
	cells map[seenKey]uint32   // where the steps of a group start, plus one
	adder adder
}

// seenSets is what is known of one lexicon's stacks.
type seenSets struct {
	*profiles.FunctionSets
	stacks []uint32 // by stack: its set
}

type seenKey struct {
	lexicon uint64
	set     uint32
	by      string
}

func newSeenAdder(s *Store, q *FunctionsQuery, steps int, b *budget) *seenAdder {
	a := &seenAdder{store: s, q: q, steps: steps, sets: map[uint64]*seenSets{}, cells: map[seenKey]uint32{}}
	a.scan = newScan(s, &q.Query, b)
	a.scan.sink = a
	if q.By != "" {
		a.scan.by = []string{q.By}
	}
	a.scan.slots = steps
	if steps > 1 {
		// Whole minutes, aligned: windows of sums fit in.
		step := max(time.Minute.Milliseconds(), (q.To-q.From+int64(steps)-1)/int64(steps))
		step = ceilTo(step, time.Minute.Milliseconds())
		a.scan.origin, a.scan.step = windowStart(q.From, step), step
		a.scan.slots = int((q.To-a.scan.origin-1)/step) + 1
		a.steps = a.scan.slots
	}
	return a
}

func (a *seenAdder) wantsHeads() bool { return false }

func (a *seenAdder) head(labels.Labels, uint32, tally) error { return nil }

func (a *seenAdder) rows(ctx context.Context, f *file, ds *dataset, tasks []task) error {
	lex, b := a.store.lexicons.get(ds.info.Service), a.scan.budget
	stacks, err := f.lexiconStacks(ctx, b, ds, lex)
	if err != nil {
		return err
	}
	sets := a.sets[lex.id]
	if sets == nil {
		sets = &seenSets{FunctionSets: profiles.NewFunctionSets(a.q.Match)}
		a.sets[lex.id] = sets
	}
	if view := lex.snapshot(); len(sets.stacks) < len(view.Stacks) {
		sets.stacks = sets.Stacks(view)
		if n := sets.Len(); n > maxSeenSets {
			return &LimitError{Limit: "max_function_sets", Max: maxSeenSets, Got: int64(n), What: "the functions are on too many different stacks"}
		}
	}
	wanted := false
	for _, id := range stacks {
		wanted = wanted || sets.stacks[id] != 0
	}
	if !wanted {
		return nil
	}
	bases := map[string][]uint32{}
	return a.adder.run(ctx, b, f, tasks, func(ls labels.Labels) ([]uint32, error) {
		by := ""
		if a.q.By != "" {
			by = ls.Get(a.q.By)
		}
		if base := bases[by]; base != nil {
			return base, nil
		}
		base, err := a.base(lex.id, sets.stacks, stacks, by)
		bases[by] = base
		return base, err
	})
}

// base returns of each of a dataset's stacks the cells of its set.
func (a *seenAdder) base(lexicon uint64, sets, stacks []uint32, by string) ([]uint32, error) {
	base := make([]uint32, len(stacks))
	for i, id := range stacks {
		set := sets[id]
		if set == 0 {
			base[i] = noCell
			continue
		}
		key := seenKey{lexicon, set, by}
		at := a.cells[key]
		if at == 0 {
			n := len(a.adder.cells)
			if n+a.steps > maxSeenCells {
				return nil, errTooFine
			}
			var err error
			if a.adder.cells, err = grow(a.scan.budget, a.adder.cells, n+a.steps, 16); err != nil {
				return nil, err
			}
			at = uint32(n) + 1
			a.cells[key] = at
		}
		base[i] = at - 1
	}
	return base, nil
}

// finish says of each function and value when there were samples.
func (a *seenAdder) finish() []SeenFunction {
	type key struct {
		function int
		by       string
	}
	found := map[key]int{}
	var out []SeenFunction
	for k, at := range a.cells {
		first, last := a.spell(a.adder.cells[at-1 : int(at)-1+a.steps])
		if last == 0 {
			continue
		}
		for _, function := range a.sets[k.lexicon].Set(k.set) {
			i, ok := found[key{function, k.by}]
			if !ok {
				found[key{function, k.by}] = len(out)
				out = append(out, SeenFunction{Function: function, By: k.by, First: first, Last: last})
				continue
			}
			out[i].First, out[i].Last = min(out[i].First, first), max(out[i].Last, last)
		}
	}
	return out
}

// spell returns from when to when the cells are not zero, in Unix ms; last is 0 where they all are.
func (a *seenAdder) spell(cells []int128) (first, last int64) {
	step := a.scan.step
	if step == 0 {
		step = a.q.To - a.scan.origin
	}
	for i, v := range cells {
		if v.IsZero() {
			continue
		}
		if last == 0 {
			first = max(a.q.From, a.scan.origin+int64(i)*step)
		}
		last = min(a.q.To, a.scan.origin+int64(i+1)*step)
	}
	return first, last
}
