package profiles

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/gzip"
)

// WritePprof writes s as a gzipped pprof profile, which go tool pprof reads: with mappings and build ids, inlined frames, labels, the time and
// length of the range, the sampling period, and a comment that says what was merged.
func WritePprof(w io.Writer, s *Stacks) error {
	return writeGzip(w, AppendPprof(nil, s))
}

// WriteProfile writes p as a gzipped pprof profile.
func WriteProfile(w io.Writer, p *Profile) error {
	return writeGzip(w, AppendProfile(nil, p))
}

func writeGzip(w io.Writer, raw []byte) error {
	zw := gzip.NewWriter(w)
	if _, err := zw.Write(raw); err != nil {
		return err
	}
	return zw.Close()
}

// AppendPprof appends s as an uncompressed pprof profile to dst.
func AppendPprof(dst []byte, s *Stacks) []byte {
	e := newEncoder(dst)
	sym := s.Symbols
	if sym == nil {
		sym = NewSymbols()
	}
	e.valueType(1, ValueType{s.Type.Sample, s.Type.Unit})
	ids := newIDTables(sym)
	var stack []uint64
	for i, id := range s.IDs {
		st := sym.Stacks[id]
		stack = stack[:0]
		for n := st.Node; n != 0; n = sym.Nodes[n].Parent {
			stack = append(stack, ids.location(sym.Nodes[n].Location))
		}
		set := sym.LabelSets[st.LabelSet]
		at := e.open(2)
		e.packed(1, stack)
		e.packed(2, []uint64{uint64(s.Values[i])}) // also where it is 0: a sample has as many values as there are types
		for _, l := range sym.Labels[set.Lo:set.Hi] {
			e.label(SampleLabel{Key: sym.Strings[l.Key], Str: sym.Strings[l.Str], Unit: sym.Strings[l.Unit], Num: l.Num, Numeric: l.Numeric})
		}
		e.close(at)
	}
	for i, n := range ids.usedLocations {
		l := &sym.Locations[n]
		at := e.open(4)
		e.num(1, uint64(i)+1)
		e.num(2, ids.mapping(l.Mapping))
		e.num(3, l.Address)
		for _, ln := range sym.Lines[l.Lines.Lo:l.Lines.Hi] {
			e.line(ids.function(ln.Function), ln.Line)
		}
		e.close(at)
	}
	for i, n := range ids.usedFunctions {
		f := &sym.Functions[n]
		e.function(uint64(i)+1, &Function{Name: sym.Strings[f.Name], SystemName: sym.Strings[f.SystemName], File: sym.Strings[f.File], StartLine: f.StartLine})
	}
	for i, n := range ids.usedMappings {
		m := &sym.Mappings[n]
		e.mapping(uint64(i)+1, &Mapping{Start: m.Start, Limit: m.Limit, Offset: m.Offset, File: sym.Strings[m.File], BuildID: sym.Strings[m.BuildID], HasFunctions: m.HasFunctions})
	}
	e.num(9, uint64(s.Start)*1e6)
	if s.Type.Kind() == Interval {
		e.num(10, uint64(max(s.End-s.Start, 0))*1e6)
	}
	if s.Stats.Period > 0 {
		if t := periodType(s.Type); t != (ValueType{}) {
			e.valueType(11, t)
			e.num(12, uint64(s.Stats.Period))
		}
	}
	if c := mergeComment(s); c != "" {
		e.out = appendUvarint(appendUvarint(e.out, 13<<3), e.str(c))
	}
	e.numString(14, s.Type.Sample)
	return e.finish()
}

// mergeComment says what a merge is of; go tool pprof -comments prints it. A profile that was not stored says nothing.
func mergeComment(s *Stacks) string {
	st := s.Stats
	if st.Profiles == 0 || s.Start == 0 {
		return ""
	}
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	return fmt.Sprintf("sonde: %s of %d profiles, %s of process time, from %s to %s", s.Type, st.Profiles, time.Duration(st.CoveredMs)*time.Millisecond, at(s.Start), at(s.End))
}

// periodType is what the period of a type of profile counts, as the runtime writes it.
func periodType(t Type) ValueType {
	switch t.Profile {
	case "cpu":
		return ValueType{"cpu", "nanoseconds"}
	case "wall":
		return ValueType{"wall", "nanoseconds"}
	case "heap":
		return ValueType{"space", "bytes"}
	case "mutex", "block":
		return ValueType{"contentions", "count"}
	case "goroutine", "threadcreate":
		return ValueType{t.Profile, "count"}
	}
	return ValueType{}
}

// idTables gives pprof ids, from 1 in order of first use, to entries of a Symbols. Only what is used is looked at: the table may be that of a whole service.
type idTables struct {
	locations, functions, mappings             []uint32
	usedLocations, usedFunctions, usedMappings []uint32
}

func newIDTables(s *Symbols) idTables {
	return idTables{locations: make([]uint32, len(s.Locations)), functions: make([]uint32, len(s.Functions)), mappings: make([]uint32, len(s.Mappings))}
}

func (t *idTables) location(i uint32) uint64 { return number(t.locations, &t.usedLocations, i) }

func (t *idTables) function(i uint32) uint64 { return number(t.functions, &t.usedFunctions, i) }

func (t *idTables) mapping(i uint32) uint64 {
	if i == 0 {
		return 0
	}
	return number(t.mappings, &t.usedMappings, i)
}

func number(ids []uint32, used *[]uint32, i uint32) uint64 {
	if ids[i] == 0 {
		*used = append(*used, i)
		ids[i] = uint32(len(*used))
	}
	return uint64(ids[i])
}

// AppendProfile appends p as an uncompressed pprof profile to dst.
func AppendProfile(dst []byte, p *Profile) []byte {
	e := newEncoder(dst)
	for _, t := range p.SampleTypes {
		e.valueType(1, t)
	}
	var stack, values []uint64
	for i, s := range p.Samples {
		stack, values = stack[:0], values[:0]
		for _, l := range p.LocationIDs[s.Locations.Lo:s.Locations.Hi] {
			stack = append(stack, uint64(l)+1)
		}
		for _, v := range p.Row(i) {
			values = append(values, uint64(v))
		}
		at := e.open(2)
		e.packed(1, stack)
		e.packed(2, values)
		for _, l := range p.Labels[s.Labels.Lo:s.Labels.Hi] {
			e.label(l)
		}
		e.close(at)
	}
	for i := range p.Mappings {
		e.mapping(uint64(i)+1, &p.Mappings[i])
	}
	for i, l := range p.Locations {
		at := e.open(4)
		e.num(1, uint64(i)+1)
		e.num(2, uint64(l.Mapping))
		e.num(3, l.Address)
		for _, ln := range p.Lines[l.Lines.Lo:l.Lines.Hi] {
			e.line(uint64(ln.Function)+1, ln.Line)
		}
		e.close(at)
	}
	for i := range p.Functions {
		e.function(uint64(i)+1, &p.Functions[i])
	}
	e.numString(7, p.DropFrames)
	e.numString(8, p.KeepFrames)
	e.num(9, uint64(p.TimeNanos))
	e.num(10, uint64(p.DurationNanos))
	if p.PeriodType != (ValueType{}) {
		e.valueType(11, p.PeriodType)
	}
	e.num(12, uint64(p.Period))
	for _, c := range p.Comments {
		e.out = appendUvarint(appendUvarint(e.out, 13<<3), e.str(c))
	}
	e.numString(14, p.DefaultSample)
	return e.finish()
}

// encoder writes protobuf. Zero numbers are left out, as the format wants it.
type encoder struct {
	out     []byte
	strings map[string]uint64
	table   []string
}

func newEncoder(dst []byte) *encoder {
	return &encoder{out: dst, strings: map[string]uint64{"": 0}, table: []string{""}}
}

func (e *encoder) str(s string) uint64 {
	id, ok := e.strings[s]
	if !ok {
		id = uint64(len(e.table))
		e.strings[s] = id
		e.table = append(e.table, s)
	}
	return id
}

func (e *encoder) num(field int, v uint64) {
	if v != 0 {
		e.out = appendUvarint(appendUvarint(e.out, uint64(field)<<3), v)
	}
}

func (e *encoder) numString(field int, s string) { e.num(field, e.str(s)) }

// open starts a message and returns where it starts; close writes its length before it.
func (e *encoder) open(field int) int {
	e.out = appendUvarint(e.out, uint64(field)<<3|wireBytes)
	return len(e.out)
}

func (e *encoder) close(at int) {
	var length [10]byte
	e.out = slices.Insert(e.out, at, appendUvarint(length[:0], uint64(len(e.out)-at))...)
}

func (e *encoder) packed(field int, values []uint64) {
	if len(values) == 0 {
		return
	}
	at := e.open(field)
	for _, v := range values {
		e.out = appendUvarint(e.out, v)
	}
	e.close(at)
}

func (e *encoder) valueType(field int, t ValueType) {
	at := e.open(field)
	e.numString(1, t.Type)
	e.numString(2, t.Unit)
	e.close(at)
}

// label writes a label; one whose value is empty has no form in pprof that readers would keep.
func (e *encoder) label(l SampleLabel) {
	at := e.open(3)
	e.numString(1, l.Key)
	if l.Numeric {
		e.num(3, uint64(l.Num))
		e.numString(4, l.Unit)
	} else {
		e.numString(2, l.Str)
	}
	e.close(at)
}

func (e *encoder) line(function uint64, line int64) {
	at := e.open(4)
	e.num(1, function)
	e.num(2, uint64(line))
	e.close(at)
}

func (e *encoder) function(id uint64, f *Function) {
	at := e.open(5)
	e.num(1, id)
	e.numString(2, f.Name)
	e.numString(3, f.SystemName)
	e.numString(4, f.File)
	e.num(5, uint64(f.StartLine))
	e.close(at)
}

func (e *encoder) mapping(id uint64, m *Mapping) {
	at := e.open(3)
	e.num(1, id)
	e.num(2, m.Start)
	e.num(3, m.Limit)
	e.num(4, m.Offset)
	e.numString(5, m.File)
	e.numString(6, m.BuildID)
	if m.HasFunctions {
		// Whoever resolved names resolved files and lines too; go tool pprof would look for the binary otherwise.
		for field := 7; field <= 9; field++ {
			e.num(field, 1)
		}
	}
	e.close(at)
}

func (e *encoder) finish() []byte {
	for _, s := range e.table {
		e.out = appendUvarint(appendUvarint(e.out, 6<<3|wireBytes), uint64(len(s)))
		e.out = append(e.out, s...)
	}
	return e.out
}

func appendUvarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}
