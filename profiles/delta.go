package profiles

import (
	"errors"
	"fmt"
)

// ErrReset is wrapped by the error of Delta.Next where a capture does not continue the one before: the process was replaced, its build or
// its sampling rate changed. The interval is a gap; the capture is the next one's baseline.
var ErrReset = errors.New("cumulative values do not continue")

// Delta turns the cumulative columns of one process's captures of one type of profile (alloc_space, contentions, delay: everything whose kind is Interval) into what was
// added since the capture before; gauge columns stay as they are. It is for
// what the runtime counts from the process's start; a CPU profile is an interval already. Stacks are recognised by mapping, build id and addresses (where there are none by functions and
// lines) and by their labels, such as the object size of heap profiles. Not safe for concurrent use.
//
// A Delta keeps 16 bytes and the values per stack, no symbols. It recognises stacks by hashes of 128 bits, whose seeds are random and never leave the
// process, so even a program that wishes to cannot make two of its stacks collide, and it would only spoil its own numbers.
type Delta struct {
	profileType string
	types       []ValueType
	interval    []bool
	period      int64
	time        int64
	prev, cur   deltaState
	locations   []content
	first       []uint32 // of each slot of cur: the sample that stands for it
	before      []uint32 // of each slot of cur: the slot in prev plus one, 0: new
	out         Profile
}

type deltaState struct {
	slots  map[content]uint32
	values []int64 // slot-major
}

// NewDelta returns a Delta for profiles of type profileType (heap, mutex, …) of one process. A process that was replaced needs a new one.
func NewDelta(profileType string) *Delta { return &Delta{profileType: profileType} }

// Next takes the next capture and returns the interval since the one before, with the samples left out that are 0 in every column. The
// first capture is the baseline and gives nil and no error. A capture that does not continue the one before gives an error that wraps ErrReset. A profile without
// cumulative columns (goroutine) needs no baseline and is returned as it is.
//
// The result shares the tables of p and is valid while p is, and until the next call.
func (d *Delta) Next(p *Profile) (*Profile, error) {
	if p.Columns() == 0 {
		return nil, fmt.Errorf("subtract profile of type %s: it has no columns", d.profileType)
	}
	interval := make([]bool, p.Columns())
	cumulative := false
	for i, t := range p.SampleTypes {
		interval[i] = KindOf(d.profileType, t.Type) == Interval
		cumulative = cumulative || interval[i]
	}
	if !cumulative {
		return p, nil
	}
	d.prev, d.cur = d.cur, d.prev
	had, sameTypes := d.types != nil, equalSlices(d.types, p.SampleTypes)
	oldPeriod, oldTime := d.period, d.time
	d.types, d.interval, d.period, d.time = cloneTypes(p.SampleTypes), interval, p.Period, p.TimeNanos
	d.read(p)
	switch {
	case !had:
		return nil, nil
	case !sameTypes:
		return nil, d.reset("the sample types changed")
	case oldPeriod != p.Period:
		return nil, d.reset(fmt.Sprintf("the sampling period changed from %d to %d", oldPeriod, p.Period))
	}
	if err := d.subtract(p); err != nil {
		return nil, err
	}
	if oldTime != 0 && p.TimeNanos > oldTime {
		d.out.DurationNanos = p.TimeNanos - oldTime
	}
	return &d.out, nil
}

func (d *Delta) reset(why string) error {
	return fmt.Errorf("subtract profile of type %s: %s: %w", d.profileType, why, ErrReset)
}

// cloneTypes copies the types with strings of their own: p's may lie in a buffer that is used again.
func cloneTypes(types []ValueType) []ValueType {
	out := make([]ValueType, len(types))
	for i, t := range types {
		out[i] = ValueType{string([]byte(t.Type)), string([]byte(t.Unit))}
	}
	return out
}

// read fills cur with the values of p's stacks. Samples of one stack (addresses that the runtime folded together) are added up.
func (d *Delta) read(p *Profile) {
	if d.cur.slots == nil {
		d.cur.slots = make(map[content]uint32, len(p.Samples))
	}
	clear(d.cur.slots)
	d.cur.values, d.first = d.cur.values[:0], d.first[:0]
	texts := textPool.Get().(*textCache)
	defer texts.release()
	d.fingerprintLocations(p, texts)
	n := p.Columns()
	for i := range p.Samples {
		key := stackContent(p, &p.Samples[i], d.locations, texts)
		slot, ok := d.cur.slots[key]
		if !ok {
			slot = uint32(len(d.first))
			d.cur.slots[key] = slot
			d.first = append(d.first, uint32(i))
			d.cur.values = append(d.cur.values, p.Row(i)...)
			continue
		}
		for c, v := range p.Row(i) {
			d.cur.values[int(slot)*n+c] += v
		}
	}
}

// fingerprintLocations hashes what locations are recognised by.
func (d *Delta) fingerprintLocations(p *Profile, texts *textCache) {
	d.locations = d.locations[:0]
	for i := range p.Locations {
		l := &p.Locations[i]
		h := content{seedB, seedA}.mix(l.Address, uint64(min(l.Mapping, 1)))
		if l.Mapping != 0 {
			m := &p.Mappings[l.Mapping-1]
			h = h.with(texts.content(m.File)).with(texts.content(m.BuildID)).mix(m.Start, m.Offset)
		}
		if l.Address == 0 {
			for _, ln := range p.Lines[l.Lines.Lo:l.Lines.Hi] {
				f := &p.Functions[ln.Function]
				h = h.with(textContent(f.Name)).with(texts.content(f.File)).mix(uint64(ln.Line), 0)
			}
		}
		d.locations = append(d.locations, h)
	}
}

// subtract fills out with cur minus prev. A value that went down, or a stack that is gone, shows that these are not the same counters.
func (d *Delta) subtract(p *Profile) error {
	n := p.Columns()
	samples, values := d.out.Samples[:0], d.out.Values[:0]
	d.out = *p
	known := 0
	d.before = zeroed(d.before, len(d.first))
	for key, slot := range d.cur.slots {
		if old, ok := d.prev.slots[key]; ok {
			d.before[slot] = old + 1
			known++
		}
	}
	if gone := d.lost(n, known); gone > 0 {
		return d.reset(fmt.Sprintf("%d of %d stacks are gone", gone, len(d.prev.slots)))
	}
	for slot, sample := range d.first {
		values = append(values, d.cur.values[slot*n:][:n]...)
		row := values[len(values)-n:]
		changed := false
		for c, cumulative := range d.interval {
			if old := d.before[slot]; cumulative && old != 0 {
				prev := d.prev.values[int(old-1)*n+c]
				if row[c] < prev || prev < 0 {
					return d.reset(fmt.Sprintf("%s of a stack went from %d to %d", p.SampleTypes[c].Type, prev, row[c]))
				}
				row[c] -= prev
			}
			changed = changed || row[c] != 0
		}
		if changed {
			samples = append(samples, p.Samples[sample])
		} else {
			values = values[:len(values)-n]
		}
	}
	d.out.Samples, d.out.Values = samples, values
	return nil
}

// lost returns how many stacks of prev with anything counted are not in cur, of which known are.
func (d *Delta) lost(n, known int) (gone int) {
	if known == len(d.prev.slots) {
		return 0
	}
	for key, slot := range d.prev.slots {
		if _, ok := d.cur.slots[key]; ok {
			continue
		}
		for c, cumulative := range d.interval {
			if cumulative && d.prev.values[int(slot)*n+c] != 0 {
				gone++
				break
			}
		}
	}
	return gone
}
