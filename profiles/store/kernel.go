package store

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// noCell is what a stack that does not count has for a base.
const noCell = ^uint32(0)

// adder adds slices of chunks to cells, straight from their bytes. Not safe for concurrent use.
type adder struct {
	chunkReader
	cells   []int128
	samples int // values added up
}

// selection says what of a group counts, and where to.
type selection struct {
	place   int      // of the column among those of its kind
	sums    bool     // the group's profiles are windows, its values sums
	covered []int64  // for sums: of each window of the chunk, ms
	weights []int64  // of each profile of the chunk what its values are multiplied with, 0 leaves it out; of windows 1 or 0
	slots   []uint32 // of each profile what is added to its stack's base; nil: 0
	base    []uint32 // by stack: its cell; noCell leaves the stack out
	at      uint32   // what is added to every base
}

// addGroup adds what sel selects of a group of chunk, whose bytes b start at its stacks. Cells must be there for all bases.
func (a *adder) addGroup(chunk *chunkInfo, g *groupInfo, b []byte, sel *selection) error {
	if err := a.open(chunk, g, b, len(sel.base)); err != nil {
		return err
	}
	for i := range chunk.slices() {
		lo, hi := chunk.slice(i)
		weights, at, uniform := sel.weights[lo:hi], sel.at, false
		var slots []uint32
		if sel.slots != nil {
			slots = sel.slots[lo:hi]
		}
		switch used := countUsed(weights); {
		case used == 0:
			continue
		case used == len(weights):
			uniform = allEqual(weights) && allEqual(slots)
		}
		if uniform && slots != nil {
			at += slots[0]
		}
		if err := a.addSlice(i, lo, hi, sel, weights, slots, at, uniform); err != nil {
			return fmt.Errorf("column %d of chunk at %d: %w", sel.place, g.stacks.at, err)
		}
	}
	return nil
}

func countUsed(weights []int64) (n int) {
	for _, w := range weights {
		if w != 0 {
			n++
		}
	}
	return n
}

func allEqual[T comparable](s []T) bool {
	for _, v := range s {
		if v != s[0] {
			return false
		}
	}
	return true
}

func (a *adder) addSlice(i, lo, hi int, sel *selection, weights []int64, slots []uint32, at uint32, uniform bool) error {
	total, err := a.openStacks(i)
	if err != nil {
		return err
	}
	h, err := a.columnHead(sel.place)
	if err != nil {
		return err
	}
	if h.mode == modeMean && !sel.sums {
		return fmt.Errorf("mode %d", h.mode)
	}
	if h.sampled() {
		return a.addSampled(&h, total, sel, weights, slots, at, uniform)
	}
	if len(h.b) < total {
		return fmt.Errorf("%d bytes for %d values", len(h.b), total)
	}
	narrow := !sel.sums || h.small && h.mode != modeMean // the values are int64s, as in a column of profiles
	if uniform && narrow {
		return a.addWhole(&h, sel.base, at, weights[0])
	}
	if narrow && h.small && slots == nil && len(weights) <= shortSlice && (sel.sums || allFlags(weights)) {
		return a.addMarked(&h, sel.base, at, weights)
	}
	if err := a.openMembers(total); err != nil {
		return err
	}
	if !narrow && !h.small {
		return a.addWide(sel, weights, slots, lo, hi)
	}
	if narrow {
		a.values, err = decodeInt64s(&h, total, a.stacks.counts, a.values)
	} else {
		a.values, err = a.stacks.decodeMeans(&h, sel.covered[lo:hi], a.values)
	}
	if err != nil {
		return err
	}
	if slots == nil {
		a.scatter(sel.base, sel.at, weights)
	} else {
		a.scatterSlots(sel.base, sel.at, weights, slots)
	}
	return nil
}

// columnHead opens the open slice's share of a column, following it to the one that it equals.
func (a *adder) columnHead(place int) (columnHead, error) {
	b, err := a.share(2+place, a.slice)
	if err != nil {
		return columnHead{}, err
	}
	h, err := columnHeader(b, func(c int) ([]byte, error) {
		if c >= place {
			return nil, fmt.Errorf("it refers to column %d", c)
		}
		return a.share(2+c, a.slice)
	})
	if err == nil && h.mode == modeSame {
		err = fmt.Errorf("it refers to a column that refers to another")
	}
	return h, err
}

// addWhole adds all rows of the open slice with one weight: counts and values are read, and which profiles they are of is not. One addition of 128 bits for each stack.
func (a *adder) addWhole(h *columnHead, base []uint32, at uint32, weight int64) error {
	st := &a.stacks
	b, pos := h.b, 0
	delta := h.mode == modeDelta
	for i, id := range st.stacks {
		n := int(st.counts[i])
		var sum int128
		var ok bool
		switch {
		case base[id] == noCell:
			pos, ok = skipVarints(b, pos, n)
			if !ok {
				return errVarint
			}
			continue
		case !h.small:
			sum, pos, ok = sumWide(b, pos, n, delta, h.scale)
		default:
			var s int64
			if delta {
				s, pos, ok = sumDeltas(b, pos, n)
			} else {
				s, pos, ok = sumVarints(b, pos, n)
			}
			sum = profiles.Int128From(s * h.scale)
		}
		if !ok {
			return errVarint
		}
		a.samples += n
		if weight != 1 {
			sum = sum.Mul(weight)
		}
		cell := &a.cells[base[id]+at]
		var carry uint64
		cell.Lo, carry = bits.Add64(cell.Lo, sum.Lo, 0)
		cell.Hi += sum.Hi + int64(carry)
	}
	h.b = b[pos:]
	return h.done()
}

// decodeMeans reads a column of sums of mode mean whose values fit int64s.
func (c *chunkStacks) decodeMeans(h *columnHead, covered []int64, out []int64) ([]int64, error) {
	out = slices.Grow(out[:0], len(c.profile))[:len(c.profile)]
	h.varints(out)
	at := 0
	for _, n := range c.counts {
		prev := int64(0)
		for i := at; i < at+int(n); i++ {
			prev += out[i]
			out[i] = prev * covered[c.profile[i]]
		}
		at += int(n)
	}
	for i := range out {
		if r := h.varint(); r != 0 {
			out[i] += r * h.scale
		}
	}
	return out, h.done()
}

// allFlags reports whether all weights are 0 or 1.
func allFlags(weights []int64) bool {
	for _, w := range weights {
		if w>>1 != 0 {
			return false
		}
	}
	return true
}

// addMarked adds the rows whose profiles have weight 1, all others having weight 0, of a short slice and a column whose values add up in 64 bits. It reads members and values in one go.
func (a *adder) addMarked(h *columnHead, base []uint32, at uint32, weights []int64) error {
	members, err := a.memberBytes()
	if err != nil {
		return err
	}
	var marks [shortSlice]int64
	n := copy(marks[:], weights)
	keep := ^int64(0) // of the value before: in a column of differences all of it
	if h.mode != modeDelta {
		keep = 0
	}
	st, b, pos := &a.stacks, h.b, 0
	for i, id := range st.stacks {
		count := int(st.counts[i])
		of := allMembers[:count]
		if count != n {
			if count > len(members) {
				return errShort
			}
			of, members = members[:count], members[count:]
		}
		var sum, used, v int64
		next := uint32(0)
		for _, m := range of {
			if pos >= len(b) {
				return errVarint
			}
			u := uint64(b[pos])
			if pos++; u >= 0x80 {
				if u, pos = longVarint(b, pos, u); pos < 0 {
					return errVarint
				}
			}
			v = v&keep + (int64(u>>1) ^ -int64(u&1))
			next += uint32(m)
			w := marks[next%shortSlice]
			next++
			sum += v & -w
			used += w
		}
		if next > uint32(n) {
			return fmt.Errorf("profile indices are not below %d", n)
		}
		if used == 0 || base[id] == noCell {
			continue
		}
		a.samples += int(used)
		cell := &a.cells[base[id]+at]
		*cell = cell.Add(profiles.Int128From(sum * h.scale))
	}
	if len(members) > 0 {
		return fmt.Errorf("%d bytes too many", len(members))
	}
	h.b = b[pos:]
	return h.done()
}

// shortSlice is the most profiles of a slice of whose members each takes a byte; allMembers are those of a stack that is in all of them.
const shortSlice = 128

var allMembers [shortSlice]byte

// scatter adds the values of the profiles that have a weight to their stacks' cells.
func (a *adder) scatter(base []uint32, at uint32, weights []int64) {
	st, row := &a.stacks, 0
	for i, id := range st.stacks {
		end := row + int(st.counts[i])
		if base[id] == noCell {
			row = end
			continue
		}
		cell := &a.cells[base[id]+at]
		for k := row; k < end; k++ {
			if w := weights[st.profile[k]]; w != 0 {
				addScaled(cell, a.values[k], w)
				a.samples++
			}
		}
		row = end
	}
}

// scatterSlots is scatter where each profile has a cell of its own beside its stack's.
func (a *adder) scatterSlots(base []uint32, at uint32, weights []int64, slots []uint32) {
	st, row := &a.stacks, 0
	for i, id := range st.stacks {
		end := row + int(st.counts[i])
		if base[id] == noCell {
			row = end
			continue
		}
		for k := row; k < end; k++ {
			if p := st.profile[k]; weights[p] != 0 {
				addScaled(&a.cells[base[id]+at+slots[p]], a.values[k], weights[p])
				a.samples++
			}
		}
		row = end
	}
}

// addWide adds sums that do not fit int64s.
func (a *adder) addWide(sel *selection, weights []int64, slots []uint32, lo, hi int) error {
	b, err := a.share(2+sel.place, a.slice)
	if err != nil {
		return err
	}
	if a.sums, err = a.stacks.decodeSumColumn(b, sel.covered[lo:hi], a.sums); err != nil {
		return err
	}
	st, row := &a.stacks, 0
	for i, id := range st.stacks {
		end := row + int(st.counts[i])
		for k := row; k < end && sel.base[id] != noCell; k++ {
			p := st.profile[k]
			if weights[p] == 0 {
				continue
			}
			to := sel.base[id] + sel.at
			if slots != nil {
				to += slots[p]
			}
			a.cells[to] = a.cells[to].Add(a.sums[k])
			a.samples++
		}
		row = end
	}
	return nil
}

// addSpans adds what sel and of select of the span rows of chunk, whose bytes are b.
func (a *adder) addSpans(chunk *chunkInfo, b []byte, sel *selection, of *spanTask) error {
	raw, err := chunk.spans.open(b, nil)
	var rows *spanRows
	if err == nil {
		rows, err = decodeSpans(raw, chunk.spanRows, chunk.profiles, of.columns, len(sel.base), len(of.sets))
	}
	if err != nil {
		return fmt.Errorf("spans at %d: %w", chunk.spans.at, err)
	}
	for i, p := range rows.profile {
		base := sel.base[rows.stack[i]]
		if sel.weights[p] == 0 || base == noCell || !of.sets[rows.set[i]] {
			continue
		}
		base += sel.at
		if sel.slots != nil {
			base += sel.slots[p]
		}
		addScaled(&a.cells[base], rows.values[of.column][i], sel.weights[p])
		a.samples++
	}
	return nil
}

// decodeShortMembers is decodeMembers for slices of at most shortSlice profiles.
func (c *chunkStacks) decodeShortMembers(b []byte, n, total int) error {
	c.profile = slices.Grow(c.profile[:0], total)[:total]
	at, pos := 0, 0
	for _, count := range c.counts {
		of := c.profile[at : at+int(count)]
		at += len(of)
		if len(of) == n {
			for j := range of {
				of[j] = uint32(j)
			}
			continue
		}
		if len(of) > len(b)-pos {
			return errShort
		}
		next := uint32(0)
		for j, v := range b[pos : pos+len(of)] {
			next += uint32(v)
			of[j] = next
			next++
		}
		if next > uint32(n) {
			return fmt.Errorf("profile indices are not below %d", n)
		}
		pos += len(of)
	}
	if pos < len(b) {
		return fmt.Errorf("%d bytes too many", len(b)-pos)
	}
	return nil
}
