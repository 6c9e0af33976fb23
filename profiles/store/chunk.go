package store

import (
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// kinds is the number of groups of columns: a series' interval columns share one list of stacks, its gauge columns the other,
// because what was allocated in a window and what is alive hardly meet.
const (
	kinds     = 2
	gaugeKind = int(profiles.Gauge)
)

// rows is what one profile (or one window of sums) holds in one group: ascending stack ids, each with a value in at least one
// of the group's columns. values is column-major: len(stacks) values of the first column, then of the second.
type rows[V any] struct {
	stacks []uint32
	values []V
}

// maxChunkProfiles and maxChunkRows say where a chunk is cut, sliceProfiles into how large slices. Larger ones compress better, smaller ones waste less at a
// range's ragged edge.
const (
	maxChunkProfiles = 128
	maxChunkRows     = 32 << 10
	sliceProfiles    = 32
)

// transposer turns profile-major rows into stack-major order, in time linear in the rows. Its slices are valid until the next call.
type transposer struct {
	chunkStacks
	count    []uint32 // by stack id; all zero between calls
	position []uint32 // of each row in its profile
}

func transpose[V any](t *transposer, ps []rows[V]) {
	t.stacks, t.counts = t.stacks[:0], t.counts[:0]
	n := 0
	for _, p := range ps {
		n += len(p.stacks)
		for _, s := range p.stacks {
			if int(s) >= len(t.count) {
				t.count = append(t.count, make([]uint32, int(s)+1-len(t.count))...)
			}
			if t.count[s] == 0 {
				t.stacks = append(t.stacks, s)
			}
			t.count[s]++
		}
	}
	slices.Sort(t.stacks)
	next := uint32(0)
	for _, s := range t.stacks {
		c := t.count[s]
		t.counts = append(t.counts, c)
		t.count[s] = next
		next += c
	}
	t.profile, t.position = slices.Grow(t.profile[:0], n)[:n], slices.Grow(t.position[:0], n)[:n]
	for j, p := range ps {
		for i, s := range p.stacks {
			at := t.count[s]
			t.count[s]++
			t.profile[at], t.position[at] = uint32(j), uint32(i)
		}
	}
	for _, s := range t.stacks {
		t.count[s] = 0
	}
}

// gather returns column c of ps in stack-major order.
func gather[V any](t *transposer, ps []rows[V], c int, out []V) []V {
	out = slices.Grow(out[:0], len(t.profile))[:len(t.profile)]
	for k, j := range t.profile {
		p := &ps[j]
		out[k] = p.values[c*len(p.stacks)+int(t.position[k])]
	}
	return out
}

// profileMajor turns one decoded group of a chunk of n profiles back into rows, appended to out. Columns are in stack-major order.
func (c *chunkStacks) profileMajor(columns [][]int64, n int, remap []uint32, out []rows[int64]) []rows[int64] {
	sizes := make([]uint32, n)
	for _, j := range c.profile {
		sizes[j]++
	}
	stacks, values := make([]uint32, len(c.profile)), make([]int64, len(c.profile)*len(columns))
	first, at := len(out), 0
	for _, k := range sizes {
		e := at + int(k)
		out = append(out, rows[int64]{stacks[at:at:e], values[at*len(columns) : e*len(columns) : e*len(columns)]})
		at = e
	}
	row := 0
	for i, s := range c.stacks {
		if remap != nil {
			s = remap[s]
		}
		for range c.counts[i] {
			j := c.profile[row]
			r := &out[first+int(j)]
			for k, col := range columns {
				r.values[k*int(sizes[j])+len(r.stacks)] = col[row]
			}
			r.stacks = append(r.stacks, s)
			row++
		}
	}
	return out
}

// groupsOf returns, for each kind, the indices of the columns of that kind.
func groupsOf(cols []column) [kinds][]int {
	var g [kinds][]int
	for i, c := range cols {
		g[c.Kind] = append(g[c.Kind], i)
	}
	return g
}

// column is one column of values of a series.
type column struct {
	Sample, Unit string
	Kind         profiles.Kind
}

// maxColumns bounds the sample types of one profile; the runtime's have at most 4.
const maxColumns = 64
