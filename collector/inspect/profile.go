package inspect

import (
	"math"
	"slices"
	"time"

	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// Limits of one profile, whatever the memory says. Real ones have a hundredth.
const (
	maxLocations = 200_000
	maxIDs       = 4 << 20 // locations of all stacks together
	beyondLimit  = "[beyond the limits of a profile]"
)

// builder makes a profile of stacks.
type builder struct {
	v         *view
	p         *profiles.Profile
	functions map[functionKey]uint32
	locations map[locationKey]uint32
	samples   map[string]uint32 // by locations and labels
	ids       []uint32
	key       []byte
}

type functionKey struct {
	name, file string
	start      int
}

// locationKey is a site, or a name that stands for frames that cannot be had.
type locationKey struct {
	site siteKey
	name string
}

func newBuilder(v *view, types ...profiles.ValueType) *builder {
	b := &builder{
		v: v, p: &profiles.Profile{SampleTypes: types, TimeNanos: time.Now().UnixNano()},
		functions: map[functionKey]uint32{}, locations: map[locationKey]uint32{}, samples: map[string]uint32{},
	}
	for _, s := range v.im.table.Segments() {
		if s.Exec {
			b.p.Mappings = append(b.p.Mappings, profiles.Mapping{
				Start: s.Addr, Limit: s.Addr + s.MemSize, Offset: s.Offset, File: v.im.path, BuildID: v.im.buildID, HasFunctions: true,
			})
			break
		}
	}
	return b
}

// frame appends the location of one physical frame to the stack that is being built; nothing where it has no frames to show.
func (b *builder) frame(f frame) {
	at := siteKey{f.pc - b.v.bias, f.ret}
	key := locationKey{site: at}
	id, ok := b.locations[key]
	if !ok && len(b.p.Locations) >= maxLocations {
		b.named(beyondLimit)
		return
	}
	if !ok {
		s := b.v.im.siteAt(at.pc, at.ret)
		if s != nil && (len(s.frames) == 0 || s.name == "runtime.goexit") {
			return
		}
		address := at.pc
		if at.ret {
			address--
		}
		l := profiles.Location{Address: address}
		if s != nil {
			l.Mapping = uint32(len(b.p.Mappings))
			l.Lines = b.lines(s.frames)
		}
		id = b.add(key, l)
	}
	b.ids = append(b.ids, id)
}

// named appends a frame that is only a name.
func (b *builder) named(name string) {
	key := locationKey{name: name}
	id, ok := b.locations[key]
	if !ok {
		id = b.add(key, profiles.Location{Lines: b.lines([]pclntab.Frame{{Func: name}})})
	}
	b.ids = append(b.ids, id)
}

func (b *builder) add(key locationKey, l profiles.Location) uint32 {
	id := uint32(len(b.p.Locations))
	b.p.Locations = append(b.p.Locations, l)
	b.locations[key] = id
	return id
}

func (b *builder) lines(frames []pclntab.Frame) profiles.Span {
	lo := uint32(len(b.p.Lines))
	for _, f := range frames {
		key := functionKey{f.Func, f.File, f.StartLine}
		id, ok := b.functions[key]
		if !ok {
			id = uint32(len(b.p.Functions))
			file := f.File
			if file == "?" {
				file = ""
			}
			b.p.Functions = append(b.p.Functions, profiles.Function{Name: f.Func, SystemName: f.Func, File: file, StartLine: int64(f.StartLine)})
			b.functions[key] = id
		}
		b.p.Lines = append(b.p.Lines, profiles.Line{Function: id, Line: int64(f.Line)})
	}
	return profiles.Span{Lo: lo, Hi: uint32(len(b.p.Lines))}
}

// sample adds values to the sample of the stack that was built and of these labels, and begins a new stack.
func (b *builder) sample(labels []profiles.SampleLabel, values ...int64) {
	if len(b.p.LocationIDs)+len(b.ids) > maxIDs {
		b.ids = b.ids[:0]
		b.named(beyondLimit)
	}
	b.key = b.key[:0]
	b.key = le.AppendUint32(b.key, uint32(len(b.ids)))
	for _, id := range b.ids {
		b.key = le.AppendUint32(b.key, id)
	}
	for _, l := range labels {
		b.key = le.AppendUint32(b.key, uint32(len(l.Key)))
		b.key = append(b.key, l.Key...)
		b.key = le.AppendUint32(b.key, uint32(len(l.Str)))
		b.key = append(b.key, l.Str...)
		b.key = le.AppendUint64(b.key, uint64(l.Num))
	}
	i, ok := b.samples[string(b.key)]
	if !ok {
		i = uint32(len(b.p.Samples))
		s := profiles.Sample{Locations: profiles.Span{Lo: uint32(len(b.p.LocationIDs))}, Labels: profiles.Span{Lo: uint32(len(b.p.Labels))}}
		b.p.LocationIDs = append(b.p.LocationIDs, b.ids...)
		b.p.Labels = append(b.p.Labels, labels...)
		s.Locations.Hi, s.Labels.Hi = uint32(len(b.p.LocationIDs)), uint32(len(b.p.Labels))
		b.p.Samples = append(b.p.Samples, s)
		b.p.Values = append(b.p.Values, make([]int64, len(values))...)
		b.samples[string(b.key)] = i
	}
	row := b.p.Row(int(i))
	for c, v := range values {
		row[c] += v
	}
	b.ids = b.ids[:0]
}

// stack appends the locations of the stack of a bucket. The runtime writes a return address for each frame there, also for those that were inlined; since Go 1.23
// blocks and mutexes have but one for each physical frame. Either way a location has all frames that were inlined at its address, and an address that
// only repeats one of these is passed over.
func (b *builder) stack(pcs []uint64) {
	for i := 0; i < len(pcs); {
		s := b.v.im.siteAt(pcs[i]-b.v.bias, true)
		b.frame(frame{pcs[i], true})
		i++
		if s == nil {
			continue
		}
		for depth := 1; depth < len(s.frames) && i < len(pcs); depth++ {
			outer := b.v.im.siteAt(pcs[i]-b.v.bias, true)
			if outer == nil || outer.entry != s.entry || !slices.Equal(outer.frames, s.frames[depth:]) {
				break
			}
			i++
		}
	}
}

// heapStack is stack without the runtime's functions at the leaf, as runtime/pprof has it; where nothing else is there, with them.
func (b *builder) heapStack(pcs []uint64) {
	for i, pc := range pcs {
		s := b.v.im.siteAt(pc-b.v.bias, false)
		if s != nil && len(s.frames) > 0 && isRuntime(s.frames[0].Func) {
			continue
		}
		b.stack(pcs[i:])
		break
	}
	if len(b.ids) == 0 {
		b.stack(pcs)
	}
}

// scaleHeap corrects for the sampling of allocations: of n objects of size bytes one per rate bytes on average was counted.
func scaleHeap(n, size uint64, rate int64) (objects, bytes int64) {
	if n == 0 || size == 0 {
		return 0, 0
	}
	if rate <= 1 {
		return int64(n), int64(n * size)
	}
	scale := 1 / (1 - math.Exp(-float64(size)/float64(rate)))
	return int64(float64(n) * scale), int64(float64(n*size) * scale)
}
