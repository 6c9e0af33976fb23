package pprofmerge

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Field numbers of pprof's profile.proto.
const (
	fSampleType    = 1
	fSample        = 2
	fMapping       = 3
	fLocation      = 4
	fFunction      = 5
	fString        = 6
	fTime          = 9
	fDuration      = 10
	fPeriodType    = 11
	fPeriod        = 12
	fComment       = 13
	fDefaultSample = 14
)

// Limits says what labels a sample may have. The zero value takes every label.
type Limits struct {
	Labels int // of one sample
	Key    int // bytes
	Value  int // bytes
	// Filter, where set, says of each label whether it stays, and with which value; a label without text has the value "".
	Filter func(key, value string) (string, bool)
}

// Mark is the key of the label that a sample carries, with the value "true", once a label of it was stripped.
const Mark = "sonde_stripped"

// Merger joins profiles of one process: the same sample types, addresses that mean the same. The zero value is ready to use.
type Merger struct {
	Limits   Limits
	Stripped int // labels taken out so far

	strs    interner
	maps    interner
	funcs   interner
	locs    interner
	samples map[string]int // key → index in rows
	keys    []string
	rows    [][]int64
	types   []byte // sample type and period type fields, rewritten
	head    []byte // period, default sample type
	time    int64
	span    int64
	n       int
}

// interner numbers byte strings from 1 in the order of their coming.
type interner struct {
	ids  map[string]uint64
	list []string
}

func (t *interner) id(p []byte) uint64 {
	if id, ok := t.ids[string(p)]; ok {
		return id
	}
	if t.ids == nil {
		t.ids = map[string]uint64{}
	}
	s := string(p)
	t.list = append(t.list, s)
	t.ids[s] = uint64(len(t.list))
	return uint64(len(t.list))
}

// str returns the index of s in the output's string table, where 0 is the empty string.
func (m *Merger) str(s []byte) uint64 {
	if len(s) == 0 {
		return 0
	}
	return m.strs.id(s)
}

// input is one profile while it is added: its tables and where its ids went.
type input struct {
	strs            [][]byte
	maps, fns, locs map[uint64]uint64
	samples         [][]byte
	rawMaps, rawFns [][]byte
	rawLocs         [][]byte
	types           [][]byte
	periodType      []byte
	period          uint64
	def             uint64
	time, span      int64
}

// Add adds the uncompressed profile p. An error leaves the Merger unusable.
func (m *Merger) Add(p []byte) error {
	in := &input{maps: map[uint64]uint64{}, fns: map[uint64]uint64{}, locs: map[uint64]uint64{}}
	if err := in.split(p); err != nil {
		return err
	}
	if len(in.strs) == 0 || len(in.strs[0]) != 0 || len(in.types) == 0 {
		return fmt.Errorf("decode profile: no string table or no sample types")
	}
	if err := m.addHead(in); err != nil {
		return err
	}
	for _, step := range []struct {
		msgs  [][]byte
		into  *interner
		ids   map[uint64]uint64
		write func(in *input, b []byte, f field) ([]byte, error)
	}{
		{in.rawMaps, &m.maps, in.maps, m.mapping},
		{in.rawFns, &m.funcs, in.fns, m.function},
		{in.rawLocs, &m.locs, in.locs, m.location},
	} {
		if err := rewrite(in, step.msgs, step.into, step.ids, step.write); err != nil {
			return err
		}
	}
	for _, s := range in.samples {
		if err := m.addSample(in, s); err != nil {
			return err
		}
	}
	m.n++
	return nil
}

// split sorts the profile's fields, since ids may be used before they are defined.
func (in *input) split(p []byte) error {
	return each(p, func(f field) error {
		switch f.num {
		case fSampleType:
			in.types = append(in.types, f.p)
		case fSample:
			in.samples = append(in.samples, f.p)
		case fMapping:
			in.rawMaps = append(in.rawMaps, f.p)
		case fLocation:
			in.rawLocs = append(in.rawLocs, f.p)
		case fFunction:
			in.rawFns = append(in.rawFns, f.p)
		case fString:
			in.strs = append(in.strs, f.p)
		case fTime:
			in.time = int64(f.v)
		case fDuration:
			in.span = int64(f.v)
		case fPeriodType:
			in.periodType = f.p
		case fPeriod:
			in.period = f.v
		case fDefaultSample:
			in.def = f.v
		}
		return nil
	})
}

func (in *input) str(i uint64) ([]byte, error) {
	if i >= uint64(len(in.strs)) {
		return nil, fmt.Errorf("decode profile: string %d of %d", i, len(in.strs))
	}
	return in.strs[i], nil
}

// addHead takes the types of the first profile and checks those of the others against them.
func (m *Merger) addHead(in *input) error {
	var types, head []byte
	for _, t := range in.types {
		v, err := m.valueType(in, t)
		if err != nil {
			return err
		}
		types = appendBytes(types, fSampleType, v)
	}
	if in.periodType != nil {
		v, err := m.valueType(in, in.periodType)
		if err != nil {
			return err
		}
		types = appendBytes(types, fPeriodType, v)
	}
	def, err := in.str(in.def)
	if err != nil {
		return err
	}
	head = appendVarint(head, fPeriod, in.period)
	head = appendVarint(head, fDefaultSample, m.str(def))
	if m.n == 0 {
		m.types, m.head, m.time = types, head, in.time
	} else if string(types) != string(m.types) {
		return fmt.Errorf("merge profiles: sample types differ")
	}
	m.span += in.span
	return nil
}

// strField appends a field that indexes the string table.
func (m *Merger) strField(in *input, b []byte, f field) ([]byte, error) {
	s, err := in.str(f.v)
	if err != nil {
		return nil, err
	}
	return appendVarint(b, f.num, m.str(s)), nil
}

func (m *Merger) valueType(in *input, p []byte) (b []byte, err error) {
	err = each(p, func(f field) (err error) {
		b, err = m.strField(in, b, f)
		return err
	})
	return b, err
}

// rewrite interns msgs without their own ids, and notes in ids which id each became.
func rewrite(in *input, msgs [][]byte, into *interner, ids map[uint64]uint64, write func(*input, []byte, field) ([]byte, error)) error {
	var b []byte
	for _, p := range msgs {
		var old uint64
		b = b[:0]
		err := each(p, func(f field) (err error) {
			if f.num == 1 {
				old = f.v
				return nil
			}
			b, err = write(in, b, f)
			return err
		})
		if err != nil {
			return err
		}
		if _, twice := ids[old]; twice || old == 0 {
			return fmt.Errorf("decode profile: id %d is zero or comes twice", old)
		}
		ids[old] = into.id(b)
	}
	return nil
}

func (m *Merger) mapping(in *input, b []byte, f field) ([]byte, error) {
	if f.num == 5 || f.num == 6 { // file, build id
		return m.strField(in, b, f)
	}
	return appendVarint(b, f.num, f.v), nil
}

func (m *Merger) function(in *input, b []byte, f field) ([]byte, error) {
	if f.num >= 2 && f.num <= 4 { // name, system name, file
		return m.strField(in, b, f)
	}
	return appendVarint(b, f.num, f.v), nil
}

func (m *Merger) location(in *input, b []byte, f field) ([]byte, error) {
	switch f.num {
	case 2:
		if f.v == 0 {
			return b, nil
		}
		id, ok := in.maps[f.v]
		if !ok {
			return nil, fmt.Errorf("decode profile: no mapping %d", f.v)
		}
		return appendVarint(b, 2, id), nil
	case 4:
		var line []byte
		err := each(f.p, func(l field) error {
			if l.num != 1 {
				line = appendVarint(line, l.num, l.v)
				return nil
			}
			id, ok := in.fns[l.v]
			if !ok {
				return fmt.Errorf("decode profile: no function %d", l.v)
			}
			line = appendVarint(line, 1, id)
			return nil
		})
		if err != nil {
			return nil, err
		}
		return appendBytes(b, 4, line), nil
	default:
		return appendVarint(b, f.num, f.v), nil
	}
}

// addSample adds one sample's values to those with the same stack and labels.
func (m *Merger) addSample(in *input, p []byte) error {
	var stack, labels []byte
	var values []int64
	var labelMsgs [][]byte
	err := each(p, func(f field) error {
		switch f.num {
		case 1:
			return f.numbers(func(id uint64) error {
				to, ok := in.locs[id]
				if !ok {
					return fmt.Errorf("decode profile: no location %d", id)
				}
				stack = binary.AppendUvarint(stack, to)
				return nil
			})
		case 2:
			return f.numbers(func(v uint64) error { values = append(values, int64(v)); return nil })
		case 3:
			labelMsgs = append(labelMsgs, f.p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(values) != len(in.types) {
		return fmt.Errorf("decode profile: sample has %d values vs. %d types", len(values), len(in.types))
	}
	if labels, err = m.labels(in, labelMsgs); err != nil {
		return err
	}
	key := string(appendBytes(labels, 1, stack))
	i, ok := m.samples[key]
	if !ok {
		if m.samples == nil {
			m.samples = map[string]int{}
		}
		m.samples[key] = len(m.rows)
		m.keys = append(m.keys, key)
		m.rows = append(m.rows, values)
		return nil
	}
	for j, v := range values {
		m.rows[i][j] += v
	}
	return nil
}

// label is one label of a sample, as far as it is read.
type label struct {
	key, value, unit []byte
	num              uint64
}

func (in *input) label(p []byte) (l label, err error) {
	err = each(p, func(f field) (err error) {
		switch f.num {
		case 1:
			l.key, err = in.str(f.v)
		case 2:
			l.value, err = in.str(f.v)
		case 3:
			l.num = f.v
		case 4:
			l.unit, err = in.str(f.v)
		}
		return err
	})
	return l, err
}

// labels rewrites a sample's labels in a fixed order, filters them and strips what is over the limits. No string of a label that goes, or of a value
// that is replaced, gets into the string table.
func (m *Merger) labels(in *input, msgs [][]byte) ([]byte, error) {
	var out []string
	stripped := 0
	for _, p := range msgs {
		l, err := in.label(p)
		if err != nil {
			return nil, err
		}
		if f := m.Limits.Filter; f != nil && string(l.key) != Mark {
			value, stays := f(string(l.key), string(l.value))
			if !stays {
				continue
			}
			l.value = []byte(value)
		}
		if m.tooMuch(l.key, l.value, len(out)) {
			stripped++
			continue
		}
		b := appendVarint(nil, 1, m.str(l.key))
		b = appendVarint(b, 2, m.str(l.value))
		b = appendVarint(b, 3, l.num)
		b = appendVarint(b, 4, m.str(l.unit))
		out = append(out, string(appendBytes(nil, 3, b)))
	}
	if stripped > 0 {
		m.Stripped += stripped
		var b []byte
		b = appendVarint(b, 1, m.str([]byte(Mark)))
		b = appendVarint(b, 2, m.str([]byte("true")))
		out = append(out, string(appendBytes(nil, 3, b)))
	}
	slices.Sort(out)
	var all []byte
	for _, l := range out {
		all = append(all, l...)
	}
	return all, nil
}

func (m *Merger) tooMuch(key, value []byte, before int) bool {
	l := m.Limits
	return l.Labels > 0 && before >= l.Labels || l.Key > 0 && len(key) > l.Key || l.Value > 0 && len(value) > l.Value
}

// WriteTo writes the merged profile, uncompressed.
func (m *Merger) WriteTo(w io.Writer) (int64, error) {
	b := slices.Concat(m.types, m.head)
	b = appendVarint(b, fTime, uint64(m.time))
	b = appendVarint(b, fDuration, uint64(m.span))
	for i, key := range m.keys {
		b = appendBytes(b, fSample, appendBytes([]byte(key), 2, packed(m.rows[i])))
	}
	for _, t := range []struct {
		num  int
		list []string
	}{{fMapping, m.maps.list}, {fLocation, m.locs.list}, {fFunction, m.funcs.list}} {
		for i, s := range t.list {
			b = appendBytes(b, t.num, append(appendVarint(nil, 1, uint64(i+1)), s...))
		}
	}
	b = appendBytes(b, fString, nil)
	for _, s := range m.strs.list {
		b = appendBytes(b, fString, []byte(s))
	}
	n, err := w.Write(b)
	return int64(n), err
}

func packed(values []int64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.AppendUvarint(b, uint64(v))
	}
	return b
}
