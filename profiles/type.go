package profiles

import (
	"fmt"
	"strings"
)

// Kind says how values of one sample type combine over time.
type Kind uint8

const (
	// Interval values were accumulated during [start, end): they add up over time and over processes.
	Interval Kind = iota
	// Gauge values held at a moment: over a range they are integrated over time and divided by the range.
	Gauge
)

func (k Kind) String() string {
	if k == Gauge {
		return "gauge"
	}
	return "interval"
}

// ValueType is one sample type of a pprof profile, such as inuse_space in bytes.
type ValueType struct {
	Type string `json:"type"`
	Unit string `json:"unit"`
}

// Type names one column of one type of profile: heap:inuse_space in bytes.
type Type struct {
	Profile string // cpu, heap, goroutine, mutex, block, wall, …
	Sample  string // the pprof sample type: cpu, inuse_space, delay, …
	Unit    string // the pprof unit: nanoseconds, bytes, count; empty where unknown
}

// String is the type's id in the API, the CLI and the UI: "heap:inuse_space".
func (t Type) String() string { return t.Profile + ":" + t.Sample }

// Kind returns how the column's values combine. Everything that the runtime counts up is an interval once its delta is
// taken; what is alive at the moment of the capture is a gauge.
func (t Type) Kind() Kind { return KindOf(t.Profile, t.Sample) }

// KindOf returns the kind of sample type sample in profiles of type profile.
func KindOf(profile, sample string) Kind {
	switch profile {
	case "goroutine", "goroutineleak", "threadcreate":
		return Gauge
	}
	if strings.HasPrefix(sample, "inuse_") {
		return Gauge
	}
	return Interval
}

// defaultSamples is the column that stands for a type of profile when none is named, and aliases are names for one column.
var (
	defaultSamples = map[string]string{
		"cpu": "cpu", "heap": "inuse_space", "goroutine": "goroutine", "goroutineleak": "goroutineleak",
		"mutex": "delay", "block": "delay", "threadcreate": "threadcreate", "wall": "wall",
	}
	aliases = map[string]string{"allocs": "heap:alloc_space", "inuse": "heap:inuse_space"}
)

// ParseType reads a type id as a user writes it: "heap:inuse_space", or "heap" for that type's main column, or the alias
// "allocs". The unit is not part of an id and stays empty.
func ParseType(s string) (Type, error) {
	id := s
	if a, ok := aliases[s]; ok {
		id = a
	}
	profile, sample, ok := strings.Cut(id, ":")
	if !ok {
		sample = defaultSamples[profile]
		if sample == "" {
			sample = profile
		}
	}
	if !validTypeName(profile) || !validTypeName(sample) {
		return Type{}, fmt.Errorf("parse profile type %q: want PROFILE or PROFILE:SAMPLE, such as cpu or heap:alloc_space", s)
	}
	return Type{Profile: profile, Sample: sample}, nil
}

// IsDefault reports whether t is the column that stands for its type of profile.
func (t Type) IsDefault() bool { return defaultSamples[t.Profile] == t.Sample }

func validTypeName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// ValidName reports whether s can name a type of profile: 1 to 64 of [A-Za-z0-9_.-].
func ValidName(s string) bool { return validTypeName(s) }
