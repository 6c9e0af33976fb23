package profiles

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// The shortcuts for the four kinds of messages that nearly all bytes of a profile are: samples, locations, functions, strings, as the Go runtime
// and google/pprof write them. A shortcut reads a message in one pass without a look at what is rare, and gives up, with nothing changed, at
// anything unusual: an unknown field, a tag or an id of many bytes, a limit, an error. The general reader then reads the message from its start and has the last word.

// Tags of one byte: field number and wire type.
const (
	tagSample   = 2<<3 | wireBytes
	tagLocation = 4<<3 | wireBytes
	tagFunction = 5<<3 | wireBytes
	tagString   = 6<<3 | wireBytes
)

// messages reads all fields of the profile.
func (d *decodeState) messages() error {
	raw := d.raw
	for i := 0; i < len(raw); {
		tag := raw[i]
		if tag != tagSample && tag != tagLocation && tag != tagFunction && tag != tagString {
			var err error
			if i, err = d.field(i); err != nil {
				return err
			}
			continue
		}
		n, lo := varint(raw, i+1)
		if lo < 0 || n > uint64(len(raw)-lo) {
			return broken("the profile", i)
		}
		hi := lo + int(n)
		var err error
		switch tag {
		case tagSample:
			if !d.quickSample(lo, hi) {
				err = d.sample(lo, hi)
			}
		case tagLocation:
			if !d.quickLocation(lo, hi) {
				err = d.location(lo, hi)
			}
		case tagFunction:
			if !d.quickFunction(lo, hi) {
				err = d.function(lo, hi)
			}
		case tagString:
			err = d.addString(raw[lo:hi])
		}
		if err != nil {
			return err
		}
		i = hi
	}
	return nil
}

const (
	smallID = 1 << 28 // above the ids that the shortcuts read
	// quickBytes bounds the messages that they read: far above what an ordinary stack takes, and low enough that limits may be checked at the end.
	quickBytes = 16 << 10
	// wordSize is how many bytes must be there at any place of a message, so that word may read as many: the last messages of a profile are not read quickly.
	wordSize = 8
)

// quick reports whether the message raw[lo:hi] may be read by a shortcut.
func (d *decodeState) quick(lo, hi int) bool { return hi-lo <= quickBytes && hi <= len(d.raw)-wordSize }

// word reads a varint of b at i without a branch per byte. Its next is 0 where it is longer than eight bytes. Most varints are one byte, which callers
// look for themselves: what does both is too large to be inlined, and a call costs as much as the reading.
func word(b []byte, i int) (v uint64, next int) {
	v = binary.LittleEndian.Uint64(b[i:])
	stop := ^v & 0x8080808080808080
	if stop == 0 {
		return 0, 0
	}
	v &= (stop ^ (stop - 1)) & 0x7f7f7f7f7f7f7f7f // the bytes up to the first that does not go on
	v = v&0x007f007f007f007f | v&0x7f007f007f007f00>>1
	v = v&0x00003fff00003fff | v&0x3fff00003fff0000>>2
	v = v&0x000000000fffffff | v&0x0fffffff00000000>>4
	return v, i + bits.TrailingZeros64(stop)>>3 + 1
}

// quickSample reads a sample: locations and values, each packed or not, and labels.
func (d *decodeState) quickSample(lo, hi int) bool {
	p, raw := d.p, d.raw
	if len(p.Samples) >= d.lim.MaxSamples || !d.quick(lo, hi) {
		return false
	}
	ids, values, labels, highest := p.LocationIDs, p.Values, d.labels, d.highest
	for i := lo; i < hi; {
		tag := raw[i]
		v, next := uint64(raw[i+1]), i+2
		if v >= 0x80 {
			v, next = word(raw, i+1)
		}
		if next == 0 || next > hi {
			return false
		}
		i = next
		if tag&7 == wireBytes {
			if v > uint64(hi-i) {
				return false
			}
			i += int(v)
		}
		ok := true
		switch tag {
		case 1<<3 | wireVarint:
			ok = v < smallID
			ids, highest = append(ids, uint32(v)-1), max(highest, uint32(v)-1)
		case 2<<3 | wireVarint:
			values = append(values, int64(v))
		case 1<<3 | wireBytes:
			ids, highest, ok = quickIDs(ids, highest, raw, next, i)
		case 2<<3 | wireBytes:
			values, ok = quickValues(values, raw, next, i)
		case 3<<3 | wireBytes:
			labels, ok = quickLabel(labels, raw, next, i)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	s := Sample{Locations: Span{uint32(len(p.LocationIDs)), uint32(len(ids))}, Labels: Span{uint32(len(d.labels)), uint32(len(labels))}}
	columns := len(values) - len(p.Values)
	if s.Locations.Len() > d.lim.MaxStack || len(ids) > d.lim.MaxFrames || columns > d.lim.MaxColumns || s.Labels.Len() > d.lim.MaxLabels || len(labels) > d.lim.MaxAllLabels {
		return false
	}
	p.LocationIDs, p.Values, d.labels, d.highest = ids, values, labels, highest
	d.addSample(s, columns)
	return true
}

// quickIDs appends the packed ids of raw[i:end], less one, and keeps the highest.
func quickIDs(ids []uint32, highest uint32, raw []byte, i, end int) ([]uint32, uint32, bool) {
	ids = slices.Grow(ids, end-i)
	to := ids[len(ids) : len(ids)+end-i] // an id is a byte at least
	k := 0
	for i < end && k < len(to) {
		v := uint32(raw[i])
		if v < 0x80 {
			i++
		} else if b := uint32(raw[i+1]); b < 0x80 {
			v = v&0x7f | b<<7
			i += 2
		} else if c := uint32(raw[i+2]); c < 0x80 {
			v = v&0x7f | b&0x7f<<7 | c<<14
			i += 3
		} else {
			return nil, 0, false
		}
		to[k] = v - 1
		k++
		highest = max(highest, v-1)
	}
	return ids[:len(ids)+k], highest, i == end
}

func quickValues(values []int64, raw []byte, i, end int) ([]int64, bool) {
	for i < end {
		v, next := uint64(raw[i]), i+1
		if v >= 0x80 {
			v, next = word(raw, i)
		}
		if next == 0 || next > end {
			return nil, false
		}
		i = next
		values = append(values, int64(v))
	}
	return values, true
}

func quickLabel(labels []rawLabel, raw []byte, i, end int) ([]rawLabel, bool) {
	var l rawLabel
	for i < end {
		tag := raw[i]
		v, next := uint64(raw[i+1]), i+2
		if v >= 0x80 {
			v, next = word(raw, i+1)
		}
		if next == 0 || next > end {
			return nil, false
		}
		i = next
		switch tag {
		case 1<<3 | wireVarint:
			l.key = int64(v)
		case 2<<3 | wireVarint:
			l.str = int64(v)
		case 3<<3 | wireVarint:
			l.num = int64(v)
		case 4<<3 | wireVarint:
			l.unit = int64(v)
		default:
			return nil, false
		}
	}
	return append(labels, l), true
}

// quickLocation reads a location and its lines.
func (d *decodeState) quickLocation(lo, hi int) bool {
	p, raw := d.p, d.raw
	if !d.quick(lo, hi) {
		return false
	}
	lines := p.Lines
	var id, mapping, address uint64
	for i := lo; i < hi; {
		tag := raw[i]
		v, next := uint64(raw[i+1]), i+2
		if v >= 0x80 {
			v, next = word(raw, i+1)
		}
		if next == 0 || next > hi {
			return false
		}
		i = next
		switch tag {
		case 1<<3 | wireVarint:
			id = v
		case 2<<3 | wireVarint:
			mapping = v
		case 3<<3 | wireVarint:
			address = v
		case 4<<3 | wireBytes:
			if v > uint64(hi-i) {
				return false
			}
			i += int(v)
			ok := false
			if lines, ok = quickLine(lines, raw, next, i); !ok {
				return false
			}
		default:
			return false
		}
	}
	if id >= smallID || mapping >= smallID || len(p.Locations) >= d.lim.MaxLocations || len(lines) > d.lim.MaxLines {
		return false
	}
	p.Locations = append(p.Locations, Location{Mapping: uint32(mapping), Address: address, Lines: Span{uint32(len(p.Lines)), uint32(len(lines))}})
	p.Lines = lines
	d.locationIDs = append(d.locationIDs, uint32(id))
	return true
}

func quickLine(lines []Line, raw []byte, i, end int) ([]Line, bool) {
	var l Line
	for i < end {
		tag := raw[i]
		v, next := uint64(raw[i+1]), i+2
		if v >= 0x80 {
			v, next = word(raw, i+1)
		}
		if next == 0 || next > end {
			return nil, false
		}
		i = next
		switch tag {
		case 1<<3 | wireVarint:
			if v >= smallID {
				return nil, false
			}
			l.Function = uint32(v)
		case 2<<3 | wireVarint:
			l.Line = int64(v)
		case 3<<3 | wireVarint: // the column
		default:
			return nil, false
		}
	}
	return append(lines, l), true
}

// quickFunction reads a function.
func (d *decodeState) quickFunction(lo, hi int) bool {
	raw := d.raw
	if !d.quick(lo, hi) {
		return false
	}
	var id uint64
	var r rawFunction
	var start int64
	for i := lo; i < hi; {
		tag := raw[i]
		v, next := uint64(raw[i+1]), i+2
		if v >= 0x80 {
			v, next = word(raw, i+1)
		}
		if next == 0 || next > hi {
			return false
		}
		i = next
		switch tag {
		case 1<<3 | wireVarint:
			id = v
		case 2<<3 | wireVarint:
			r.name = int64(v)
		case 3<<3 | wireVarint:
			r.system = int64(v)
		case 4<<3 | wireVarint:
			r.file = int64(v)
		case 5<<3 | wireVarint:
			start = int64(v)
		default:
			return false
		}
	}
	if id >= smallID || len(d.functions) >= d.lim.MaxFunctions {
		return false
	}
	d.functions, d.functionIDs = append(d.functions, r), append(d.functionIDs, uint32(id))
	d.p.Functions = append(d.p.Functions, Function{StartLine: start})
	return true
}
