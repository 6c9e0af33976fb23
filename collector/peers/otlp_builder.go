package peers

import (
	"iter"
	"path"
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// builder builds one profile of parts of a request's dictionary.
type builder struct {
	c         *converter
	dict      *dictionary
	key       builderKey
	what      string
	p         *profiles.Profile
	columns   []uint8 // of each sample
	values    []int64 // of each sample
	locations map[int32]uint32
	functions map[int32]uint32
	mappings  map[int32]uint32 // plus one
}

func newBuilder(c *converter, key builderKey, what string, head *profiles.Profile) *builder {
	return &builder{c: c, dict: c.dict, key: key, what: what, p: &profiles.Profile{PeriodType: head.PeriodType, Period: head.Period},
		locations: map[int32]uint32{}, functions: map[int32]uint32{}, mappings: map[int32]uint32{}}
}

// maxOTLPColumns bounds the columns of one type and time, each of which is a Profile of its own.
const maxOTLPColumns = 16

// add adds a sample of head's column. Those of a seventeenth column are left out.
func (b *builder) add(head *profiles.Profile, stack iter.Seq2[int, int32], labels []profiles.SampleLabel, v int64) {
	t := head.SampleTypes[0]
	column := slices.Index(b.p.SampleTypes, t)
	if column < 0 {
		if len(b.p.SampleTypes) == maxOTLPColumns {
			return
		}
		column = len(b.p.SampleTypes)
		b.p.SampleTypes = append(b.p.SampleTypes, t)
	}
	p := b.p
	s := profiles.Sample{Locations: profiles.Span{Lo: uint32(len(p.LocationIDs))}, Labels: profiles.Span{Lo: uint32(len(p.Labels))}}
	for _, id := range stack {
		if i, ok := b.location(id); ok {
			p.LocationIDs = append(p.LocationIDs, i)
		}
	}
	p.Labels = append(p.Labels, labels...)
	s.Locations.Hi, s.Labels.Hi = uint32(len(p.LocationIDs)), uint32(len(p.Labels))
	p.Samples = append(p.Samples, s)
	b.columns, b.values = append(b.columns, uint8(column)), append(b.values, v)
}

// location copies a location. The first entry of each table stands for none, unless a sender puts something there.
func (b *builder) location(id int32) (uint32, bool) {
	if i, ok := b.locations[id]; ok {
		return i, true
	}
	if int(id) >= b.dict.d.LocationTable().Len() {
		return 0, false
	}
	in := b.dict.d.LocationTable().At(int(id))
	l := profiles.Location{Address: in.Address(), Mapping: b.mapping(in.MappingIndex()), Lines: profiles.Span{Lo: uint32(len(b.p.Lines))}}
	if b.c.lines += in.Lines().Len(); b.c.lines > maxLines {
		return 0, false // sample refuses the request
	}
	for k := range in.Lines().Len() {
		if f, ok := b.function(in.Lines().At(k).FunctionIndex()); ok {
			b.p.Lines = append(b.p.Lines, profiles.Line{Function: f, Line: in.Lines().At(k).Line()})
		}
	}
	l.Lines.Hi = uint32(len(b.p.Lines))
	if id == 0 && l.Address == 0 && l.Lines.Len() == 0 {
		return 0, false
	}
	i := uint32(len(b.p.Locations))
	b.p.Locations = append(b.p.Locations, l)
	b.locations[id] = i
	return i, true
}

// function copies a function; one without any name is none.
func (b *builder) function(id int32) (uint32, bool) {
	if i, ok := b.functions[id]; ok {
		return i, true
	}
	if int(id) >= b.dict.d.FunctionTable().Len() {
		return 0, false
	}
	in := b.dict.d.FunctionTable().At(int(id))
	f := profiles.Function{Name: b.text(in.NameStrindex()), SystemName: b.text(in.SystemNameStrindex()), File: b.text(in.FilenameStrindex()), StartLine: in.StartLine()}
	if f.Name == "" && f.SystemName == "" {
		return 0, false
	}
	i := uint32(len(b.p.Functions))
	b.p.Functions = append(b.p.Functions, f)
	b.functions[id] = i
	return i, true
}

// mapping copies a mapping and returns its index plus one, 0 for none.
func (b *builder) mapping(id int32) uint32 {
	if i := b.mappings[id]; i != 0 {
		return i
	}
	if int(id) >= len(b.dict.builds) {
		return 0
	}
	in := b.dict.d.MappingTable().At(int(id))
	m := profiles.Mapping{Start: in.MemoryStart(), Limit: in.MemoryLimit(), Offset: in.FileOffset(), File: b.text(in.FilenameStrindex()), BuildID: b.dict.builds[id]}
	if m == (profiles.Mapping{}) {
		return 0
	}
	b.p.Mappings = append(b.p.Mappings, m)
	b.mappings[id] = uint32(len(b.p.Mappings))
	return uint32(len(b.p.Mappings))
}

// text returns a string of the dictionary, whose indices have been checked.
func (b *builder) text(i int32) string {
	if int(i) >= len(b.dict.texts) {
		return ""
	}
	return b.dict.texts[i]
}

// item finishes the profile.
func (b *builder) item() item {
	n := len(b.p.SampleTypes)
	b.p.Values = make([]int64, n*len(b.p.Samples))
	for i, v := range b.values {
		b.p.Values[i*n+int(b.columns[i])] = v
	}
	o := b.key.origin
	it := item{origin: o, what: b.what, typ: b.key.typ, start: b.key.start, end: b.key.end, data: b.p}
	if it.typ == "block" && (b.p.Column("contentions") >= 0 || b.p.Column("delay") >= 0) { // which of both the columns do not say
		it.typ = contention(b.p)
	}
	exe := o.labels["process_executable_path"]
	if exe == "" {
		exe = o.row.Exe
	}
	if name := o.labels["process_executable_name"]; name != "" || exe != "" {
		it.build = ownBuild(b.p, exe, name, path.Base(exe))
	}
	return it
}
