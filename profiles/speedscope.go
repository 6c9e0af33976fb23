package profiles

import (
	"encoding/binary"
	"encoding/json"
	"io"
)

// speedscopeFile is the file format of https://www.speedscope.app/file-format-schema.json with one profile of type "sampled".
type speedscopeFile struct {
	Schema   string              `json:"$schema"`
	Shared   speedscopeShared    `json:"shared"`
	Profiles []speedscopeProfile `json:"profiles"`
	Name     string              `json:"name"`
	Exporter string              `json:"exporter"`
}

type speedscopeShared struct {
	Frames []speedscopeFrame `json:"frames"`
}

type speedscopeFrame struct {
	Name string `json:"name"`
	File string `json:"file,omitempty"`
}

type speedscopeProfile struct {
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Unit       string     `json:"unit"`
	StartValue int64      `json:"startValue"`
	EndValue   int64      `json:"endValue"` // the sum of the weights
	Samples    [][]uint32 `json:"samples"`  // indices of frames, root first
	Weights    []int64    `json:"weights"`  // parallel to samples
}

// WriteSpeedscope writes s as JSON for speedscope: one sample per stack of functions, in the order in which the stacks were first seen. Stacks that differ in lines, addresses or labels
// only are one. Its time axis cannot show values below 0, so those are left out.
func WriteSpeedscope(w io.Writer, s *Stacks) error {
	b := speedscopeBuilder{frames: map[speedscopeFrame]uint32{}, stacks: map[string]int{}, sym: s.Symbols}
	p := &b.profile
	p.Type, p.Name, p.Unit = "sampled", s.Type.String(), speedscopeUnit(s.Type.Unit)
	p.Samples, p.Weights = [][]uint32{}, []int64{}
	b.all = []speedscopeFrame{}
	if s.Symbols != nil {
		b.functions = make([]uint32, len(s.Symbols.Functions))
		for i, id := range s.IDs {
			if v := s.Values[i]; v > 0 {
				b.add(s.Symbols.Stacks[id].Node, v)
			}
		}
	}
	return json.NewEncoder(w).Encode(speedscopeFile{
		Schema: "https://www.speedscope.app/file-format-schema.json", Shared: speedscopeShared{Frames: b.all},
		Profiles: []speedscopeProfile{*p}, Name: s.Type.String(), Exporter: "sonde",
	})
}

// speedscopeUnit is the format's name of a pprof unit; it knows times and bytes only.
func speedscopeUnit(unit string) string {
	switch unit {
	case "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes":
		return unit
	}
	return "none"
}

type speedscopeBuilder struct {
	sym       *Symbols
	frames    map[speedscopeFrame]uint32
	all       []speedscopeFrame
	functions []uint32 // of sym: index into all plus one
	stacks    map[string]int
	profile   speedscopeProfile
	path      []uint32 // leaf first
	key       []byte
}

func (b *speedscopeBuilder) add(node uint32, v int64) {
	b.path = b.path[:0]
	sym := b.sym
	for n := node; n != 0; n = sym.Nodes[n].Parent {
		l := &sym.Locations[sym.Nodes[n].Location]
		if l.Lines.Len() == 0 {
			name, file := sym.unknownFrame(l)
			b.path = append(b.path, b.frame(speedscopeFrame{name, file}))
			continue
		}
		for _, ln := range sym.Lines[l.Lines.Lo:l.Lines.Hi] {
			f := b.functions[ln.Function]
			if f == 0 {
				f = b.frame(speedscopeFrame{sym.functionName(ln.Function), sym.Strings[sym.Functions[ln.Function].File]}) + 1
				b.functions[ln.Function] = f
			}
			b.path = append(b.path, f-1)
		}
	}
	if len(b.path) == 0 {
		b.path = append(b.path, b.frame(speedscopeFrame{Name: "(none)"})) // as in folded text: speedscope shows a sample without frames as idle time
	}
	b.key = b.key[:0]
	for _, f := range b.path {
		b.key = binary.LittleEndian.AppendUint32(b.key, f)
	}
	p := &b.profile
	p.EndValue = addSaturated(p.EndValue, v)
	if at, ok := b.stacks[string(b.key)]; ok {
		p.Weights[at] = addSaturated(p.Weights[at], v)
		return
	}
	b.stacks[string(b.key)] = len(p.Samples)
	sample := make([]uint32, len(b.path))
	for i, f := range b.path {
		sample[len(sample)-1-i] = f
	}
	p.Samples, p.Weights = append(p.Samples, sample), append(p.Weights, v)
}

func (b *speedscopeBuilder) frame(f speedscopeFrame) uint32 {
	id, ok := b.frames[f]
	if !ok {
		id = uint32(len(b.all))
		b.frames[f] = id
		b.all = append(b.all, f)
	}
	return id
}
