package profiles

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"
)

// Decoder decodes one profile after the other into the same memory. The zero value is ready. Not safe for concurrent use.
type Decoder struct {
	buf     []byte
	profile Profile
}

// Decode decodes data, gzipped or not. The result is valid until the next call, and while data is not changed.
// Errors are *FormatError and *LimitError.
func (d *Decoder) Decode(data []byte, lim Limits) (*Profile, error) {
	if IsGzip(data) {
		var err error
		d.buf, err = Gunzip(d.buf[:0], data, lim.withDefaults().MaxBytes)
		if err != nil {
			return nil, err
		}
		data = d.buf
	}
	if err := d.profile.Decode(data, lim); err != nil {
		return nil, err
	}
	return &d.profile, nil
}

// Parse decodes data, gzipped or not, into a new profile that owns its memory. Errors are *FormatError and *LimitError.
func Parse(data []byte, lim Limits) (*Profile, error) {
	var raw []byte
	if IsGzip(data) {
		var err error
		if raw, err = Gunzip(nil, data, lim.withDefaults().MaxBytes); err != nil {
			return nil, err
		}
	} else {
		if limit := lim.withDefaults().MaxBytes; len(data) > limit {
			return nil, tooMany(LimitBytes, "decompressed bytes", limit, len(data))
		}
		raw = slices.Clone(data)
	}
	p := new(Profile)
	if err := p.Decode(raw, lim); err != nil {
		return nil, err
	}
	return p, nil
}

// Reset empties p and keeps its memory for the next Decode.
func (p *Profile) Reset() {
	*p = Profile{
		SampleTypes: p.SampleTypes[:0], Samples: p.Samples[:0], LocationIDs: p.LocationIDs[:0], Values: p.Values[:0], Labels: p.Labels[:0],
		Locations: p.Locations[:0], Lines: p.Lines[:0], Functions: p.Functions[:0], Mappings: p.Mappings[:0], Comments: p.Comments[:0],
	}
}

// Decode decodes an uncompressed pprof profile into p, whose memory it reuses. p borrows its strings from raw: it is valid while
// raw is not changed. What google/pprof's CheckValid refuses is refused; invalid UTF-8 in a string becomes U+FFFD. Errors are
// *FormatError and *LimitError, and leave p empty.
func (p *Profile) Decode(raw []byte, lim Limits) error {
	p.Reset()
	lim = lim.withDefaults()
	if len(raw) > lim.MaxBytes {
		return tooMany(LimitBytes, "decompressed bytes", lim.MaxBytes, len(raw))
	}
	if len(raw) == 0 {
		return malformed("no data")
	}
	d := decodePool.Get().(*decodeState)
	d.start(p, raw, &lim)
	err := d.messages()
	if err == nil {
		err = d.resolve()
	}
	if d.finish() {
		decodePool.Put(d)
	}
	if err != nil {
		p.Reset()
	}
	return err
}

var decodePool = sync.Pool{New: func() any { return new(decodeState) }}

// decodeState is the scratch of one Decode: what the wire holds before strings and ids are resolved. References precede what they refer
// to on the wire, so all of them are resolved at the end.
type decodeState struct {
	p   *Profile
	raw []byte
	lim *Limits

	table     []string
	types     []rawValueType
	functions []rawFunction
	mappings  []rawMapping
	labels    []rawLabel
	comments  []int64

	functionIDs, locationIDs, mappingIDs []uint32 // of d.functions, p.Locations, d.mappings

	functionIndex, locationIndex, mappingIndex idIndex

	highest uint32 // of p.LocationIDs, which hold ids less one until they are resolved

	wide map[uint64]uint32 // ids from 2^31: numbered from 2^31 in order of appearance

	period                         rawValueType
	drop, keep, defaultSample, doc int64
	columns, badSample, badColumns int // values of sample 0; the first sample that disagrees (or -1) and its number of values
}

type (
	rawValueType struct{ typ, unit int64 }
	rawFunction  struct{ name, system, file int64 }
	rawMapping   struct{ file, build int64 }
	rawLabel     struct{ key, str, num, unit int64 }
)

func (d *decodeState) start(p *Profile, raw []byte, lim *Limits) {
	d.p, d.raw, d.lim = p, raw, lim
	d.table, d.types, d.functions, d.mappings = d.table[:0], d.types[:0], d.functions[:0], d.mappings[:0]
	d.labels, d.comments = d.labels[:0], d.comments[:0]
	d.functionIDs, d.locationIDs, d.mappingIDs = d.functionIDs[:0], d.locationIDs[:0], d.mappingIDs[:0]
	d.highest = 0
	clear(d.wide)
	d.period = rawValueType{}
	d.drop, d.keep, d.defaultSample, d.doc = 0, 0, 0, 0
	d.columns, d.badSample, d.badColumns = 0, -1, 0
}

// finish drops the references to the caller's memory and reports whether the scratch is of an ordinary size and worth keeping.
func (d *decodeState) finish() bool {
	clear(d.table)
	d.p, d.raw, d.lim = nil, nil, nil
	return cap(d.table) <= 1<<16 && cap(d.labels) <= 1<<16 && cap(d.locationIDs) <= 1<<16 && cap(d.functions) <= 1<<16 && len(d.wide) <= 1<<10
}

// str returns entry i of the string table.
func (d *decodeState) str(i int64, what string) (string, error) {
	if uint64(i) >= uint64(len(d.table)) {
		return "", malformed("%s is string %d, the string table has %d", what, i, len(d.table))
	}
	return d.table[i], nil
}

// strs resolves several references at once; the first bad one is reported.
func (d *decodeState) strs(what string, refs ...stringRef) error {
	for _, r := range refs {
		s, err := d.str(r.index, what)
		if err != nil {
			return err
		}
		*r.to = s
	}
	return nil
}

type stringRef struct {
	to    *string
	index int64
}

func (d *decodeState) addString(b []byte) error {
	if len(d.table) >= d.lim.MaxStrings {
		return tooMany(LimitStrings, "strings", d.lim.MaxStrings, len(d.table)+1)
	}
	if len(b) > d.lim.MaxStringLen {
		return tooMany(LimitStringLen, "bytes of a string", d.lim.MaxStringLen, len(b))
	}
	if len(d.table) == 0 && len(b) != 0 {
		return malformed("string 0 is not empty")
	}
	s := unsafe.String(unsafe.SliceData(b), len(b))
	if !isASCII(b) && !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	d.table = append(d.table, s)
	return nil
}

// isASCII reports whether all bytes of b are ASCII: eight at a time, the last eight once more with some of those before.
func isASCII(b []byte) bool {
	var all uint64
	if n := len(b); n >= 8 {
		for i := 0; i < n-8; i += 8 {
			all |= binary.LittleEndian.Uint64(b[i:])
		}
		all |= binary.LittleEndian.Uint64(b[n-8:])
	} else {
		for _, c := range b {
			all |= uint64(c)
		}
	}
	return all&0x8080808080808080 == 0
}

// narrow maps an id, which may be any 64 bits, to 32: small ids are themselves, the rest are numbered as they come.
func (d *decodeState) narrow(id uint64) (uint32, error) {
	const from = 1 << 31
	if id < from {
		return uint32(id), nil
	}
	if n, ok := d.wide[id]; ok {
		return n, nil
	}
	if d.wide == nil {
		d.wide = map[uint64]uint32{}
	}
	n := len(d.wide)
	if limit := d.lim.MaxLocations + d.lim.MaxFunctions + d.lim.MaxMappings; n >= limit {
		return 0, malformed("more than %d distinct ids", limit)
	}
	d.wide[id] = uint32(from + n)
	return uint32(from + n), nil
}

// idIndex maps ids to indices. The runtime numbers 1, 2, 3, … in order, so usually there is nothing to look up.
type idIndex struct {
	n      uint32
	dense  bool
	sparse map[uint32]uint32
}

// build indexes ids; what names them in errors.
func (x *idIndex) build(ids []uint32, what string) error {
	x.n, x.dense = uint32(len(ids)), true
	for i, id := range ids {
		if id != uint32(i)+1 {
			x.dense = false
			break
		}
	}
	if x.dense {
		return nil
	}
	if x.sparse == nil || len(x.sparse) > 1<<16 {
		x.sparse = make(map[uint32]uint32, len(ids))
	}
	clear(x.sparse)
	for i, id := range ids {
		if id == 0 {
			return malformed("%s %d has the reserved id 0", what, i)
		}
		if j, dup := x.sparse[id]; dup {
			return malformed("%ss %d and %d have the same id", what, j, i)
		}
		x.sparse[id] = uint32(i)
	}
	return nil
}

func (x *idIndex) lookup(id uint32) (uint32, bool) {
	if x.dense {
		return id - 1, id-1 < x.n
	}
	i, ok := x.sparse[id]
	return i, ok
}
