package profiles

import (
	"cmp"
	"slices"
	"strings"
)

// resolve turns string references into strings and ids into indices, and checks what google/pprof's CheckValid checks.
func (d *decodeState) resolve() error {
	if len(d.table) == 0 {
		return malformed("no string table")
	}
	for _, step := range []func() error{d.resolveHead, d.resolveFunctions, d.resolveMappings, d.resolveLocations, d.resolveSamples, d.resolveLabels} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (d *decodeState) resolveHead() error {
	p := d.p
	for _, t := range d.types {
		var vt ValueType
		if err := d.strs("a sample type", stringRef{&vt.Type, t.typ}, stringRef{&vt.Unit, t.unit}); err != nil {
			return err
		}
		p.SampleTypes = append(p.SampleTypes, vt)
	}
	for _, c := range d.comments {
		s, err := d.str(c, "a comment")
		if err != nil {
			return err
		}
		p.Comments = append(p.Comments, s)
	}
	var doc string
	return d.strs("the profile's head", stringRef{&p.PeriodType.Type, d.period.typ}, stringRef{&p.PeriodType.Unit, d.period.unit},
		stringRef{&p.DefaultSample, d.defaultSample}, stringRef{&p.DropFrames, d.drop}, stringRef{&p.KeepFrames, d.keep}, stringRef{&doc, d.doc})
}

func (d *decodeState) resolveFunctions() error {
	table := d.table
	n := uint64(len(table))
	for i := range d.functions {
		r := &d.functions[i]
		if uint64(r.name) >= n || uint64(r.system) >= n || uint64(r.file) >= n {
			return malformed("function %d is of the strings %d, %d and %d, the string table has %d", i, r.name, r.system, r.file, n)
		}
		f := &d.p.Functions[i]
		f.Name, f.SystemName, f.File = table[r.name], table[r.system], table[r.file]
	}
	return d.functionIndex.build(d.functionIDs, "function")
}

func (d *decodeState) resolveMappings() error {
	for i, r := range d.mappings {
		m := &d.p.Mappings[i]
		if err := d.strs("a mapping", stringRef{&m.File, r.file}, stringRef{&m.BuildID, r.build}); err != nil {
			return err
		}
	}
	return d.mappingIndex.build(d.mappingIDs, "mapping")
}

func (d *decodeState) resolveLocations() error {
	p := d.p
	for i := range p.Locations {
		l := &p.Locations[i]
		if l.Mapping != 0 {
			m, ok := d.mappingIndex.lookup(l.Mapping)
			if l.Mapping = m + 1; !ok {
				l.Mapping = 0 // as google/pprof: an unknown mapping is none
			}
		}
		for j := l.Lines.Lo; j < l.Lines.Hi; j++ {
			f, ok := d.functionIndex.lookup(p.Lines[j].Function)
			if !ok {
				return malformed("location %d has a line of an unknown function", i)
			}
			p.Lines[j].Function = f
		}
	}
	return d.locationIndex.build(d.locationIDs, "location")
}

func (d *decodeState) resolveSamples() error {
	p := d.p
	if want := len(p.SampleTypes); len(p.Samples) > 0 {
		switch {
		case want == 0:
			return malformed("%d samples but no sample types", len(p.Samples))
		case d.columns != want:
			return malformed("sample 0 has %d values, want %d", d.columns, want)
		case d.badSample >= 0:
			return malformed("sample %d has %d values, want %d", d.badSample, d.badColumns, want)
		}
	}
	x := &d.locationIndex
	if x.dense && d.highest < x.n {
		return nil // the ids less one are the indices
	}
	for k, id := range p.LocationIDs {
		i, ok := x.lookup(id + 1)
		if !ok {
			s, _ := slices.BinarySearchFunc(p.Samples, uint32(k), func(s Sample, k uint32) int {
				if s.Locations.Hi <= k {
					return -1
				}
				return 1
			})
			return malformed("sample %d refers to an unknown location", s)
		}
		p.LocationIDs[k] = i
	}
	return nil
}

// resolveLabels keeps what google/pprof keeps: a label with a string, else one with a number or a unit; an entirely empty one is dropped.
func (d *decodeState) resolveLabels() error {
	if len(d.labels) == 0 {
		return nil
	}
	p := d.p
	for i := range p.Samples {
		s := &p.Samples[i]
		lo := uint32(len(p.Labels))
		for _, r := range d.labels[s.Labels.Lo:s.Labels.Hi] {
			key, err := d.str(r.key, "a label's key")
			if err != nil {
				return err
			}
			l := SampleLabel{Key: key}
			switch {
			case r.str != 0:
				l.Str, err = d.str(r.str, "a label's value")
			case r.num != 0 || r.unit != 0:
				l.Num, l.Numeric = r.num, true
				l.Unit, err = d.str(r.unit, "a label's unit")
			default:
				continue
			}
			if err != nil {
				return err
			}
			if n := max(len(l.Key), len(l.Str), len(l.Unit)); n > d.lim.MaxLabelLen {
				return tooMany(LimitLabelLen, "bytes of a label", d.lim.MaxLabelLen, n)
			}
			p.Labels = append(p.Labels, l)
		}
		s.Labels = Span{lo, uint32(len(p.Labels))}
		if set := p.Labels[lo:]; len(set) > 1 {
			slices.SortStableFunc(set, compareSampleLabels)
		}
	}
	return nil
}

func compareSampleLabels(a, b SampleLabel) int {
	return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Str, b.Str), cmp.Compare(a.Num, b.Num))
}
