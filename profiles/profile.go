package profiles

// Profile is one pprof profile decoded into flat arrays. References between its parts are indices into its own slices, not
// pprof ids: Decode has resolved and checked them, so code that holds a *Profile trusts them.
//
// A Profile that Decode filled borrows its strings from the bytes it decoded and is valid until the next Decode or Reset of the same Profile.
type Profile struct {
	SampleTypes []ValueType // one per column of Values
	Samples     []Sample
	LocationIDs []uint32 // indices into Locations, leaf first; Sample.Locations cuts it
	Values      []int64  // len(Samples) × len(SampleTypes), sample-major
	Labels      []SampleLabel
	Locations   []Location
	Lines       []Line
	Functions   []Function
	Mappings    []Mapping

	TimeNanos     int64 // Unix time of the capture's start, 0 if unknown
	DurationNanos int64
	PeriodType    ValueType
	Period        int64
	DefaultSample string
	Comments      []string
	DropFrames    string
	KeepFrames    string
}

// Span is a half-open range of indices.
type Span struct{ Lo, Hi uint32 }

// Len returns the number of indices in the span.
func (s Span) Len() int { return int(s.Hi - s.Lo) }

// Sample is one stack with one value per sample type: Values[i*len(SampleTypes):][:len(SampleTypes)] for sample i.
type Sample struct {
	Locations Span // of LocationIDs, leaf first
	Labels    Span // of Labels, sorted by (Key, Str, Num)
}

// SampleLabel is one pprof label of a sample: a string (Str) or a number with a unit (Num, Unit; Numeric is true).
type SampleLabel struct {
	Key, Str, Unit string
	Num            int64
	Numeric        bool
}

// Location is one address and the frames inlined at it, innermost first. A location without symbols has no lines.
type Location struct {
	Mapping uint32 // index into Mappings plus one; 0: none
	Address uint64
	Lines   Span // of Lines, innermost (inlined callee) first
}

// Line is one frame: a function at a source line.
type Line struct {
	Function uint32 // index into Functions
	Line     int64
}

// Function is a function as pprof describes it.
type Function struct {
	Name, SystemName, File string
	StartLine              int64
}

// Mapping is a mapped binary.
type Mapping struct {
	Start, Limit, Offset uint64
	File, BuildID        string
	HasFunctions         bool
}

// Columns returns the number of values of each sample.
func (p *Profile) Columns() int { return len(p.SampleTypes) }

// Row returns the values of sample i, one per sample type.
func (p *Profile) Row(i int) []int64 {
	n := len(p.SampleTypes)
	return p.Values[i*n : i*n+n : i*n+n]
}
