package profiles

// The wire format: protobuf, read by hand. Field numbers are those of pprof's profile.proto. As in google/pprof, unknown fields are
// skipped, a known field of another wire type is an error, and bits of a varint beyond the 64th are dropped.

const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// wireField is one field of a message: its value where it is a varint, the bounds of its bytes else.
type wireField struct {
	num, typ int
	v        uint64
	lo, hi   int
}

// varint reads a varint of b at i and returns the index after it, -1 where there is none.
func varint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	var x uint64
	for s := uint(0); s < 70 && i < len(b); s += 7 {
		c := b[i]
		i++
		x |= uint64(c&0x7f) << s
		if c < 0x80 {
			return x, i
		}
	}
	return 0, -1
}

// read reads the field of b at i into f and returns the index after it, -1 where it is broken.
func (f *wireField) read(b []byte, i int) int {
	k, i := varint(b, i)
	if i < 0 {
		return -1
	}
	f.num, f.typ = int(k>>3), int(k&7)
	switch f.typ {
	case wireVarint:
		f.v, i = varint(b, i)
		return i
	case wireBytes:
		n, i := varint(b, i)
		if i < 0 || n > uint64(len(b)-i) {
			return -1
		}
		f.lo, f.hi = i, i+int(n)
		return f.hi
	case wire64:
		if len(b)-i < 8 {
			return -1
		}
		return i + 8
	case wire32:
		if len(b)-i < 4 {
			return -1
		}
		return i + 4
	}
	return -1
}

// broken is the error of a message whose bytes are no protobuf.
func broken(message string, at int) error {
	return malformed("not a pprof profile: %s is malformed at byte %d", message, at)
}

// wrongType is the error of a known field of an unexpected wire type.
func wrongType(message string, f *wireField) error {
	return malformed("not a pprof profile: field %d of %s has the wire type %d", f.num, message, f.typ)
}

// fieldIter walks over the fields of one message: for it.next() { switch it.num … }, and then it.err.
type fieldIter struct {
	wireField
	b     []byte
	i, at int
}

func (d *decodeState) iter(lo, hi int) fieldIter { return fieldIter{b: d.raw[:hi], i: lo} }

func (it *fieldIter) next() bool {
	if it.i >= len(it.b) || it.i < 0 {
		return false
	}
	it.at = it.i
	it.i = it.read(it.b, it.i)
	return it.i >= 0
}

// err says whether the walk ended because the message is broken.
func (it *fieldIter) err(message string) error {
	if it.i < 0 {
		return broken(message, it.at)
	}
	return nil
}

// field reads the field of the profile at i and returns the index after it.
func (d *decodeState) field(i int) (next int, err error) {
	const isBytes = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<11
	var f wireField
	next = f.read(d.raw, i)
	if next < 0 {
		return next, broken("the profile", i)
	}
	if f.num < 1 || f.num > 15 {
		return next, nil
	}
	want := wireVarint
	if isBytes>>f.num&1 != 0 {
		want = wireBytes
	}
	if f.typ != want && f.num != 13 {
		return next, wrongType("the profile", &f)
	}
	return next, d.message(&f)
}

func (d *decodeState) message(f *wireField) error {
	p := d.p
	switch f.num {
	case 1:
		if len(d.types) >= d.lim.MaxColumns {
			return tooMany(LimitColumns, "sample types", d.lim.MaxColumns, len(d.types)+1)
		}
		t, err := d.valueType(f)
		d.types = append(d.types, t)
		return err
	case 2:
		return d.sample(f.lo, f.hi)
	case 3:
		return d.mapping(f)
	case 4:
		return d.location(f.lo, f.hi)
	case 5:
		return d.function(f.lo, f.hi)
	case 6:
		return d.addString(d.raw[f.lo:f.hi])
	case 7:
		d.drop = int64(f.v)
	case 8:
		d.keep = int64(f.v)
	case 9:
		if p.TimeNanos != 0 {
			return malformed("several profiles in a row")
		}
		p.TimeNanos = int64(f.v)
	case 10:
		p.DurationNanos = int64(f.v)
	case 11:
		t, err := d.valueType(f)
		d.period = t
		return err
	case 12:
		p.Period = int64(f.v)
	case 13:
		return d.packed("comments", f, func(v uint64) error {
			if len(d.comments) >= d.lim.MaxStrings {
				return tooMany(LimitStrings, "comments", d.lim.MaxStrings, len(d.comments)+1)
			}
			d.comments = append(d.comments, int64(v))
			return nil
		})
	case 14:
		d.defaultSample = int64(f.v)
	case 15:
		d.doc = int64(f.v)
	}
	return nil
}

// packed calls each for the varints of a repeated field, packed or not.
func (d *decodeState) packed(message string, f *wireField, each func(v uint64) error) error {
	if f.typ == wireVarint {
		return each(f.v)
	}
	if f.typ != wireBytes {
		return wrongType(message, f)
	}
	b := d.raw[:f.hi]
	for i := f.lo; i < f.hi; {
		v, next := varint(b, i)
		if next < 0 {
			return broken(message, i)
		}
		i = next
		if err := each(v); err != nil {
			return err
		}
	}
	return nil
}

func (d *decodeState) valueType(f *wireField) (t rawValueType, err error) {
	it := d.iter(f.lo, f.hi)
	for it.next() {
		if it.num < 1 || it.num > 2 {
			continue
		}
		if it.typ != wireVarint {
			return t, wrongType("a sample type", &it.wireField)
		}
		if it.num == 1 {
			t.typ = int64(it.v)
		} else {
			t.unit = int64(it.v)
		}
	}
	return t, it.err("a sample type")
}

// sample reads one sample.
func (d *decodeState) sample(lo, hi int) error {
	p := d.p
	if len(p.Samples) >= d.lim.MaxSamples {
		return tooMany(LimitSamples, "samples", d.lim.MaxSamples, len(p.Samples)+1)
	}
	s := Sample{Locations: Span{Lo: uint32(len(p.LocationIDs))}, Labels: Span{Lo: uint32(len(d.labels))}}
	firstValue := len(p.Values)
	it := d.iter(lo, hi)
	for it.next() {
		var err error
		switch it.num {
		case 1:
			err = d.sampleLocations(&it.wireField, int(s.Locations.Lo))
		case 2:
			err = d.sampleValues(&it.wireField, firstValue)
		case 3:
			err = d.sampleLabel(&it.wireField, int(s.Labels.Lo))
		}
		if err != nil {
			return err
		}
	}
	if err := it.err("a sample"); err != nil {
		return err
	}
	s.Locations.Hi, s.Labels.Hi = uint32(len(p.LocationIDs)), uint32(len(d.labels))
	d.addSample(s, len(p.Values)-firstValue)
	return nil
}

// addSample adds a sample that has as many values as columns says.
func (d *decodeState) addSample(s Sample, columns int) {
	p := d.p
	if len(p.Samples) == 0 {
		d.columns = columns
	} else if columns != d.columns && d.badSample < 0 {
		d.badSample, d.badColumns = len(p.Samples), columns
	}
	p.Samples = append(p.Samples, s)
}

func (d *decodeState) sampleLocations(f *wireField, first int) error {
	ids := d.p.LocationIDs
	if f.typ == wireVarint {
		id, err := d.narrow(f.v)
		if err != nil {
			return err
		}
		ids = append(ids, id-1)
		d.highest = max(d.highest, id-1)
	} else if f.typ == wireBytes {
		b := d.raw[:f.hi]
		for i := f.lo; i < f.hi; {
			if len(ids)-first > d.lim.MaxStack {
				break
			}
			v, next := varint(b, i)
			if next < 0 {
				return broken("a sample's locations", i)
			}
			i = next
			id := uint32(v)
			if v >= 1<<31 {
				var err error
				if id, err = d.narrow(v); err != nil {
					return err
				}
			}
			ids = append(ids, id-1)
			d.highest = max(d.highest, id-1)
		}
	} else {
		return wrongType("a sample", f)
	}
	d.p.LocationIDs = ids
	if n := len(ids) - first; n > d.lim.MaxStack {
		return tooMany(LimitStack, "locations of a stack", d.lim.MaxStack, n)
	}
	if len(ids) > d.lim.MaxFrames {
		return tooMany(LimitFrames, "locations of all stacks", d.lim.MaxFrames, len(ids))
	}
	return nil
}

func (d *decodeState) sampleValues(f *wireField, first int) error {
	values := d.p.Values
	if f.typ == wireVarint {
		values = append(values, int64(f.v))
	} else if f.typ == wireBytes {
		b := d.raw[:f.hi]
		for i := f.lo; i < f.hi; {
			if len(values)-first > d.lim.MaxColumns {
				break
			}
			v, next := varint(b, i)
			if next < 0 {
				return broken("a sample's values", i)
			}
			i = next
			values = append(values, int64(v))
		}
	} else {
		return wrongType("a sample", f)
	}
	d.p.Values = values
	if n := len(values) - first; n > d.lim.MaxColumns {
		return tooMany(LimitColumns, "values of a sample", d.lim.MaxColumns, n)
	}
	return nil
}

func (d *decodeState) sampleLabel(f *wireField, first int) error {
	if f.typ != wireBytes {
		return wrongType("a sample", f)
	}
	if n := len(d.labels) - first; n >= d.lim.MaxLabels {
		return tooMany(LimitLabels, "labels of a sample", d.lim.MaxLabels, n+1)
	}
	if len(d.labels) >= d.lim.MaxAllLabels {
		return tooMany(LimitAllLabels, "labels of all samples", d.lim.MaxAllLabels, len(d.labels)+1)
	}
	var l rawLabel
	it := d.iter(f.lo, f.hi)
	for it.next() {
		if it.num < 1 || it.num > 4 {
			continue
		}
		if it.typ != wireVarint {
			return wrongType("a label", &it.wireField)
		}
		switch it.num {
		case 1:
			l.key = int64(it.v)
		case 2:
			l.str = int64(it.v)
		case 3:
			l.num = int64(it.v)
		case 4:
			l.unit = int64(it.v)
		}
	}
	d.labels = append(d.labels, l)
	return it.err("a label")
}
