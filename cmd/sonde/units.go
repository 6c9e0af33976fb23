package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// formatValue prints v of a pprof unit with three significant digits, as people read it: 1.25s, 12.3MiB, 1,234.
func formatValue(v int64, unit string) string {
	if steps, ok := unitSteps[unit]; ok {
		return scale(float64(v), steps)
	}
	return group(v)
}

// formatNumber prints v, which need not be whole, as formatValue does.
func formatNumber(v float64, unit string) string {
	steps, ok := unitSteps[unit]
	switch {
	case ok && math.Abs(v) >= 9.995:
		return scale(v, steps)
	case ok:
		return strconv.FormatFloat(v, 'g', 3, 64) + steps[0].name
	case math.Abs(v) >= 999.5 && math.Abs(v) < 1e15: // from there on not each integer is a float64
		return group(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// unitSteps are the names of the sizes of pprof's units.
var unitSteps = map[string][]step{
	"nanoseconds": {{1, "ns"}, {1e3, "µs"}, {1e6, "ms"}, {1e9, "s"}, {60e9, "min"}, {3600e9, "h"}},
	"bytes":       {{1, "B"}, {1 << 10, "KiB"}, {1 << 20, "MiB"}, {1 << 30, "GiB"}, {1 << 40, "TiB"}},
}

type step struct {
	size float64
	name string
}

func scale(f float64, steps []step) string {
	s := steps[0]
	for _, c := range steps[1:] {
		if math.Abs(f) >= c.size {
			s = c
		}
	}
	f /= s.size
	digits := 2
	switch {
	case s.size == 1:
		digits = 0
	case math.Abs(f) >= 99.95:
		digits = 0
	case math.Abs(f) >= 9.995:
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + s.name
}

// group prints v with commas between thousands.
func group(v int64) string {
	s := strconv.FormatInt(v, 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	var parts []string
	for len(s) > 3 {
		parts = append([]string{s[len(s)-3:]}, parts...)
		s = s[:len(s)-3]
	}
	return sign + strings.Join(append([]string{s}, parts...), ",")
}

// signed is formatValue with a plus sign where there is none.
func signed(v int64, unit string) string {
	if v > 0 {
		return "+" + formatValue(v, unit)
	}
	return formatValue(v, unit)
}

// percent prints part of whole.
func percent(part, whole int64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(part)/float64(whole))
}
