package collector

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-io/sonde/profiles"
)

// Duration is a time.Duration that is written with days and weeks too: 7d, 1d12h, 2w.
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String writes whole days as days and leaves out units that are zero.
func (d Duration) String() string {
	t := time.Duration(d)
	const day = 24 * time.Hour
	if t == 0 {
		return "0"
	}
	var b strings.Builder
	if t < 0 {
		b.WriteByte('-')
		t = -t
	}
	if n := t / day; n > 0 {
		fmt.Fprintf(&b, "%dd", n)
		t -= n * day
	}
	if t == 0 {
		return b.String()
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return b.String() + s
}

// MarshalText writes d as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	*d = v
	return err
}

// UnmarshalYAML reads what ParseDuration reads.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error { return scalar(n, (*durationValue)(d)) }

// ParseDuration reads a duration with its unit: "90s", "7d", "1w2d12h". A bare 0 is zero; any other bare number is an error,
// because a retention of 7 would be seven seconds.
func ParseDuration(s string) (Duration, error) {
	d, err := profiles.ParseDuration(s)
	if err != nil {
		return 0, err
	}
	if f, ferr := strconv.ParseFloat(strings.TrimSpace(s), 64); ferr == nil && f != 0 {
		return 0, fmt.Errorf("parse duration %q: it has no unit; want 15s, 10m, 36h, 7d or 2w", s)
	}
	return Duration(d), nil
}

// Size is a number of bytes, written 16MiB, 10GB or as bare bytes.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3},
}

// String writes s in the largest unit that divides it.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	for _, u := range sizeUnits {
		if n := int64(u.bytes); int64(s)%n == 0 {
			return strconv.FormatInt(int64(s)/n, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalYAML reads what ParseSize reads.
func (s *Size) UnmarshalYAML(n *yaml.Node) error { return scalar(n, (*sizeValue)(s)) }

// ParseSize reads a number of bytes with or without a unit: "10GB", "16MiB", "1.5 GiB", "4096". Letter case does not matter.
func ParseSize(s string) (Size, error) {
	num, mult := strings.TrimSpace(s), 1.0
	for _, u := range sizeUnits {
		if len(num) > len(u.name) && strings.EqualFold(num[len(num)-len(u.name):], u.name) {
			num, mult = strings.TrimSpace(num[:len(num)-len(u.name)]), u.bytes
			break
		}
	}
	if mult == 1 && len(num) > 1 && (num[len(num)-1] == 'B' || num[len(num)-1] == 'b') {
		num = strings.TrimSpace(num[:len(num)-1])
	}
	n, err := strconv.ParseFloat(num, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n*mult >= math.MaxInt64 {
		return 0, fmt.Errorf("parse size %q: want bytes or a number with a unit, such as 500MB or 16MiB", s)
	}
	return Size(n * mult), nil
}

// scalar sets v from a YAML scalar and puts the line into the error.
func scalar(n *yaml.Node, v pflag.Value) error {
	if n.Kind != yaml.ScalarNode {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: want a single value", n.Line)}}
	}
	if err := v.Set(n.Value); err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", n.Line, err)}}
	}
	return nil
}

// newValue returns f as a flag value, or nil where its type is for the file only. Setting the value sets f.
func newValue(f reflect.Value) pflag.Value {
	switch p := f.Addr().Interface().(type) {
	case *string:
		return (*stringValue)(p)
	case *bool:
		return (*boolValue)(p)
	case *int:
		return (*intValue)(p)
	case *Duration:
		return (*durationValue)(p)
	case *Size:
		return (*sizeValue)(p)
	case *[]int:
		return (*intsValue)(p)
	case *[]string:
		return (*stringsValue)(p)
	}
	return nil
}

// numeric returns the field's value where it is a number of anything.
func numeric(f reflect.Value) (int64, bool) {
	if f.CanInt() {
		return f.Int(), true
	}
	return 0, false
}

type (
	stringValue   string
	boolValue     bool
	intValue      int
	durationValue Duration
	sizeValue     Size
	intsValue     []int
	stringsValue  []string
)

func (v *stringValue) String() string     { return string(*v) }
func (v *stringValue) Type() string       { return "string" }
func (v *stringValue) Set(s string) error { *v = stringValue(s); return nil }

func (v *boolValue) String() string { return strconv.FormatBool(bool(*v)) }
func (v *boolValue) Type() string   { return "bool" }
func (v *boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("parse bool %q: want true or false", s)
	}
	*v = boolValue(b)
	return nil
}

func (v *intValue) String() string { return strconv.Itoa(int(*v)) }
func (v *intValue) Type() string   { return "int" }
func (v *intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("parse number %q: want a whole number", s)
	}
	*v = intValue(n)
	return nil
}

func (v *durationValue) String() string { return Duration(*v).String() }
func (v *durationValue) Type() string   { return "duration" }
func (v *durationValue) Set(s string) error {
	d, err := ParseDuration(s)
	if err == nil {
		*v = durationValue(d)
	}
	return err
}

func (v *sizeValue) String() string { return Size(*v).String() }
func (v *sizeValue) Type() string   { return "size" }
func (v *sizeValue) Set(s string) error {
	n, err := ParseSize(s)
	if err == nil {
		*v = sizeValue(n)
	}
	return err
}

func (v *intsValue) String() string {
	ss := make([]string, len(*v))
	for i, n := range *v {
		ss[i] = strconv.Itoa(n)
	}
	return strings.Join(ss, ",")
}
func (v *intsValue) Type() string { return "ints" }
func (v *intsValue) Set(s string) error {
	*v = nil
	for part := range splitList(s) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return fmt.Errorf("parse number %q: want whole numbers separated by commas", part)
		}
		*v = append(*v, n)
	}
	return nil
}

func (v *stringsValue) String() string { return strings.Join(*v, ",") }
func (v *stringsValue) Type() string   { return "strings" }
func (v *stringsValue) Set(s string) error {
	*v = nil
	for part := range splitList(s) {
		*v = append(*v, part)
	}
	return nil
}

// splitList yields the parts of a comma-separated list without blanks; the empty string has none.
func splitList(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}
