package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// formatValue prints v of a pprof unit with three significant digits, as people read it: 1.25s, 12.3MiB, 1,234.
func formatValue(v int64, unit string) string {
	switch unit {
	case "nanoseconds":
		return scale(v, []step{{1, "ns"}, {1e3, "µs"}, {1e6, "ms"}, {1e9, "s"}, {60e9, "min"}, {3600e9, "h"}})
	case "bytes":
		return scale(v, []step{{1, "B"}, {1 << 10, "KiB"}, {1 << 20, "MiB"}, {1 << 30, "GiB"}, {1 << 40, "TiB"}})
	default:
		return group(v)
	}
}

type step struct {
	size float64
	name string
}

func scale(v int64, steps []step) string {
	f := float64(v)
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
