package profiles

import "fmt"

// Limits bound what one profile may hold, and with it the memory that decoding one costs. The zero value of a field means its
// default, which goroutine profiles of 100,000 goroutines and heap profiles of large programs stay far below.
type Limits struct {
	MaxBytes     int // decompressed bytes; 0: 64 MiB
	MaxSamples   int // 0: 500,000
	MaxColumns   int // sample types; 0: 16
	MaxFrames    int // locations of all stacks together; 0: 16,000,000
	MaxStack     int // locations of one stack; 0: 1,024
	MaxLocations int // 0: 500,000
	MaxLines     int // of all locations together, inlined frames included; 0: 2,000,000
	MaxFunctions int // 0: 500,000
	MaxMappings  int // 0: 10,000
	MaxLabels    int // of one sample; 0: 64
	MaxAllLabels int // of all samples together; 0: 2,000,000
	MaxLabelLen  int // bytes of a label's key, value or unit; 0: 1,024
	MaxStrings   int // 0: 1,000,000
	MaxStringLen int // bytes of any string; 0: 64 KiB
}

// Names of limits in LimitError.Limit.
const (
	LimitBytes     = "max_decompressed_bytes"
	LimitSamples   = "max_samples"
	LimitColumns   = "max_sample_types"
	LimitFrames    = "max_frames"
	LimitStack     = "max_stack_depth"
	LimitLocations = "max_locations"
	LimitLines     = "max_lines"
	LimitFunctions = "max_functions"
	LimitMappings  = "max_mappings"
	LimitLabels    = "max_sample_labels"
	LimitAllLabels = "max_profile_labels"
	LimitLabelLen  = "max_sample_label_length"
	LimitStrings   = "max_strings"
	LimitStringLen = "max_string_length"
)

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		def   int
	}{
		{&l.MaxBytes, 64 << 20}, {&l.MaxSamples, 500_000}, {&l.MaxColumns, 16}, {&l.MaxFrames, 16_000_000}, {&l.MaxStack, 1024},
		{&l.MaxLocations, 500_000}, {&l.MaxLines, 2_000_000}, {&l.MaxFunctions, 500_000}, {&l.MaxMappings, 10_000}, {&l.MaxLabels, 64},
		{&l.MaxAllLabels, 2_000_000}, {&l.MaxLabelLen, 1024}, {&l.MaxStrings, 1_000_000}, {&l.MaxStringLen, 64 << 10},
	} {
		if *f.field <= 0 {
			*f.field = f.def
		}
	}
	return l
}

// FormatError says why bytes are not a profile.
type FormatError struct {
	What string
	// Unreadable is true where the bytes could not even be read (truncated or broken gzip: 400), false where they could and are
	// wrong (not a pprof profile, values that disagree with the types: 422).
	Unreadable bool
	Err        error // the cause, or nil
}

func (e *FormatError) Error() string {
	if e.Err != nil {
		return "decode profile: " + e.What + ": " + e.Err.Error()
	}
	return "decode profile: " + e.What
}

func (e *FormatError) Unwrap() error { return e.Err }

// LimitError says which limit a profile broke.
type LimitError struct {
	Limit string // LimitBytes, LimitSamples, …
	Max   int64
	Got   int64 // what was there when reading stopped: at least this much
	What  string
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("decode profile: %s: %d or more, at most %d are accepted (limit %s)", e.What, e.Got, e.Max, e.Limit)
}

// TooLarge reports whether the limit is one of size (413) rather than of contents (422).
func (e *LimitError) TooLarge() bool { return e.Limit == LimitBytes }

func tooMany(limit, what string, maximum, got int) error {
	return &LimitError{Limit: limit, Max: int64(maximum), Got: int64(got), What: what}
}

func malformed(format string, args ...any) error {
	return &FormatError{What: fmt.Sprintf(format, args...)}
}
