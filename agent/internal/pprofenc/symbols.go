package pprofenc

import (
	"runtime"
	"strings"
)

// Frame is what a Symbolizer knows about one logical program counter.
type Frame struct {
	Function  string
	File      string
	Line      int
	StartLine int
	Entry     uintptr // of the physical function that holds the code, 0 where unknown
	Inlined   bool    // the frame is inlined into the one after it
}

// Symbolizer resolves a return address as runtime.Callers reports it: one frame, since the runtime lists an address for every inlined call.
type Symbolizer func(pc uintptr) Frame

// RuntimeSymbolizer resolves program counters of this very program.
func RuntimeSymbolizer(pc uintptr) Frame {
	frames := runtime.CallersFrames([]uintptr{pc})
	f, _ := frames.Next()
	out := Frame{Function: f.Function, File: f.File, Line: f.Line, Entry: f.Entry}
	// The public Frame has no start line of an inlined function; FuncForPC's line of the entry would be another function's.
	if f.Func != nil {
		if _, line := f.Func.FileLine(f.Entry); line > 0 {
			out.StartLine = line
		}
	}
	out.Inlined = f.Func == nil && f.Entry != 0
	return out
}

// symbols caches what a Symbolizer said. The map and the location slice hold no pointers, so the garbage collector does not scan them.
type symbols struct {
	resolve Symbolizer
	byPC    map[uintptr]uint32 // index into locs
	locs    []locInfo
	byFunc  map[funcKey]uint32 // index into funcs
	funcs   []funcInfo
	byFile  map[string]uint32 // index into files
	files   []fileInfo
	gen     uint32 // of the profile being written; ids with another gen are stale
}

type locInfo struct {
	pc      uintptr
	entry   uintptr
	fn      uint32
	line    int32
	id      uint32 // of the location in the profile gen
	gen     uint32
	n       uint8 // program counters that the location with that id covers
	inlined bool
	runtime bool // the function belongs to the runtime
	skip    bool // runtime.goexit, or an address nobody knows
}

type funcKey struct {
	name string
	file uint32
}

type funcInfo struct {
	name  string
	file  uint32
	start int32
	id    uint32
	gen   uint32
}

type fileInfo struct {
	name string
	str  int64 // index in the profile's string table
	gen  uint32
}

func newSymbols(resolve Symbolizer) *symbols {
	return &symbols{resolve: resolve, byPC: map[uintptr]uint32{}, byFunc: map[funcKey]uint32{}, byFile: map[string]uint32{}}
}

// loc returns the index in locs of pc.
func (s *symbols) loc(pc uintptr) uint32 {
	if i, ok := s.byPC[pc]; ok {
		return i
	}
	f := s.resolve(pc)
	li := locInfo{pc: pc, entry: f.Entry, line: int32(f.Line), inlined: f.Inlined}
	switch {
	case f.Function == "runtime.goexit", f.Function == "":
		li.skip = true
	case strings.HasPrefix(f.Function, "runtime."), strings.HasPrefix(f.Function, "internal/runtime/"):
		li.runtime = true
	}
	if !li.skip {
		li.fn = s.fn(f)
	}
	i := uint32(len(s.locs))
	s.locs = append(s.locs, li)
	s.byPC[pc] = i
	return i
}

func (s *symbols) fn(f Frame) uint32 {
	file, ok := s.byFile[f.File]
	if !ok {
		file = uint32(len(s.files))
		s.files = append(s.files, fileInfo{name: f.File})
		s.byFile[f.File] = file
	}
	key := funcKey{f.Function, file}
	i, ok := s.byFunc[key]
	if !ok {
		i = uint32(len(s.funcs))
		s.funcs = append(s.funcs, funcInfo{name: f.Function, file: file})
		s.byFunc[key] = i
	}
	if s.funcs[i].start == 0 {
		s.funcs[i].start = int32(f.StartLine)
	}
	return i
}
