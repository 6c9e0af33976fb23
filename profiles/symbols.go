package profiles

// Symbols interns the parts of stacks: strings, functions, mappings, locations, label sets, and the stacks themselves as nodes
// of a tree. It is the symbol table of one dataset in a segment or block and of every query result. Index 0 of each table is
// its empty entry: "", no function, no mapping, the root node, the empty label set, the empty stack.
//
// The exported slices are the table and may be read; only the methods add to it, or a reader that fills all of them and calls
// Validate. Not safe for concurrent use; a table that nobody adds to may be read by many.
type Symbols struct {
	Strings   []string
	Functions []SymFunction
	Mappings  []SymMapping
	Locations []SymLocation
	Lines     []SymLine
	Nodes     []SymNode // Nodes[0] is the root; the parent of every other node has a smaller index
	LabelSets []Span    // of Labels
	Labels    []SymLabel
	Stacks    []SymStack // a stack is a path from the root with a label set; its index is the stack id that chunks store

	index symbolIndex
	calls *callTree // the tree of functions, where TrackCalls asked for it

	symbolizer Symbolizer // names what AddStacks adds without names; nil: nobody does
	unnamed    bool       // it could not name all
}

// SymFunction is a Function whose strings are indices into Symbols.Strings.
type SymFunction struct {
	Name, SystemName, File uint32
	StartLine              int64
}

// SymMapping is a Mapping whose strings are indices into Symbols.Strings.
type SymMapping struct {
	Start, Limit, Offset uint64
	File, BuildID        uint32
	HasFunctions         bool
}

// SymLocation is a location; Mapping indexes Symbols.Mappings (0: none).
type SymLocation struct {
	Mapping uint32
	Address uint64
	Lines   Span // of Symbols.Lines, innermost first
}

// SymLine is one frame of a location; Function indexes Symbols.Functions.
type SymLine struct {
	Function uint32
	Line     int64
}

// SymNode is a node of the stack tree: Location called from Parent.
type SymNode struct{ Parent, Location uint32 }

// SymLabel is a SampleLabel whose strings are indices into Symbols.Strings.
type SymLabel struct {
	Key, Str, Unit uint32
	Num            int64
	Numeric        bool
}

// SymStack is a stack: the node of its leaf and its label set.
type SymStack struct{ Node, LabelSet uint32 }

// Stacks is what a merge yields: distinct stacks of one Symbols with one value each, of one type. All views (flame graph, top, diff, folded, pprof, PGO) are made from it.
type Stacks struct {
	Type    Type
	Symbols *Symbols
	IDs     []uint32 // stack ids, ascending, no duplicates
	Values  []int64  // parallel to IDs, none 0. Interval: the sum. Gauge: the time-weighted mean over [Start, End), rounded half away from zero
	Start   int64    // Unix ms of the range asked for
	End     int64
	Stats   MergeStats
}

// MergeStats says what a merge read.
type MergeStats struct {
	Profiles  int   `json:"profiles"` // profiles that fell into the range, sums counted by the profiles they hold
	Series    int   `json:"series"`   // distinct series
	Samples   int   `json:"samples"`  // values added up
	Blocks    int   `json:"blocks"`   // segments and blocks read
	BytesRead int64 `json:"bytes_read"`
	CoveredMs int64 `json:"covered_ms"`          // process-time covered: Σ (end - start) of those profiles
	First     int64 `json:"first"`               // Unix ms: the earliest start of those profiles, exact with sums too; 0 if there are none, or their times are not known
	Last      int64 `json:"last"`                // Unix ms: the latest end of those profiles, which may lie after the range; 0 as First
	Period    int64 `json:"period"`              // the sampling period of the last profile read (cpu: ns between samples), 0 if unknown
	Saturated bool  `json:"saturated,omitempty"` // a value passed 2^63-1 and was cut there
	// Unreadable is the number of segments and blocks that could not be read and are left out: the answer is short of what they hold.
	Unreadable int `json:"unreadable,omitempty"`
}
