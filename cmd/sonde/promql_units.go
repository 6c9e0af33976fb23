package main

import (
	"math"
	"strconv"
	"strings"
)

// The unit of an answer's values is in the name of the series, as Prometheus' conventions have it: _seconds, _bytes. A name is in the answer only where the values are the series' own, with
// few exceptions: most functions and operators drop it, so that a rate is a bare number, the CPUs of process_cpu_seconds_total for one. The exceptions are aggregations by (__name__), the
// servers that keep names on wish, and label_replace, by which a name can be made up. Then the name says nothing of a count, a change of state or a product: the operations of the
// expression must all be of those that leave a unit alone.

// promKeeps are the functions and aggregations whose values have the unit of what they are made of.
var promKeeps = wordSet(`sum avg min max topk bottomk limitk limit_ratio quantile stddev
	avg_over_time min_over_time max_over_time sum_over_time quantile_over_time stddev_over_time mad_over_time first_over_time last_over_time
	abs ceil floor round clamp clamp_min clamp_max increase delta idelta scalar sort sort_desc sort_by_label sort_by_label_desc label_replace label_join info start end`)

// promWords may stand before a parenthesis and are no functions.
var promWords = wordSet("by without on ignoring group_left group_right and or unless offset")

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}

// promKeepsUnit reports whether the values of an expression, where they have a name, are of the unit that it tells. What it does not know it takes for an operation that changes the
// unit: a value without a unit is less good than one with it, one with a wrong unit is wrong.
func promKeepsUnit(expr string) bool {
	word := "" // the one before
	for {
		token, rest := promToken(expr)
		expr = rest
		switch {
		case token == "":
			return true
		case token == "*" || token == "/" || token == "%" || token == "^" || token == "atan2" || token == "bool":
			return false
		case token == "(" || token == "by" || token == "without":
			if word != "" && !promKeeps[word] && !promWords[word] {
				return false
			}
		case isQuoted(token) && strings.Trim(token, "\"'`") == "__name__":
			return false // label_replace and label_join give a name of their own
		}
		word = ""
		if isWord(token[0]) {
			word = token
		}
	}
}

// promToken returns the next token of an expression, words in lower case, and what follows; "" at the end. A selector in braces and a range in brackets are a token each.
func promToken(s string) (token, rest string) {
	s = strings.TrimLeft(s, " \t\r\n")
	for strings.HasPrefix(s, "#") {
		_, s, _ = strings.Cut(s, "\n")
		s = strings.TrimLeft(s, " \t\r\n")
	}
	if s == "" {
		return "", ""
	}
	n := 1
	switch c := s[0]; {
	case c == '{' || c == '[':
		n = bracketed(s, c+2) // in ASCII the closing one is two later
	case isQuoted(s):
		n = quoted(s)
	case isWord(c):
		for n < len(s) && isWord(s[n]) {
			n++
		}
		return strings.ToLower(s[:n]), s[n:]
	}
	return s[:n], s[n:]
}

func isWord(c byte) bool {
	return c == '_' || c == ':' || c == '.' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isQuoted(s string) bool { return s[0] == '"' || s[0] == '\'' || s[0] == '`' }

// quoted returns the length of the string that s starts with.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && s[0] != '`':
			i++
		case s[i] == s[0]:
			return i + 1
		}
	}
	return len(s)
}

// bracketed returns the length of s up to the byte that closes it, which in a string closes nothing.
func bracketed(s string, closes byte) int {
	for i := 1; i < len(s); i++ {
		switch {
		case isQuoted(s[i:]):
			i += quoted(s[i:]) - 1
		case s[i] == closes:
			return i + 1
		}
	}
	return len(s)
}

// promUnit is how values are printed.
type promUnit struct {
	unit   string // of formatNumber
	factor float64
}

var (
	promNumber  = promUnit{"", 1}
	promBytes   = promUnit{"bytes", 1}
	promSeconds = promUnit{"nanoseconds", 1e9}
	promPercent = promUnit{"%", 100}
)

// promUnitOf returns the unit that the name of a series tells.
func promUnitOf(name string) promUnit {
	name = strings.TrimSuffix(strings.TrimSuffix(name, "_total"), "_sum") // of a counter, of a histogram; its _count and _bucket are counts
	switch {
	case strings.HasSuffix(name, "_bytes"):
		return promBytes
	case strings.HasSuffix(name, "_time_seconds"), strings.HasSuffix(name, "_timestamp_seconds"): // moments
		return promNumber
	case strings.HasSuffix(name, "_seconds"):
		return promSeconds
	}
	return promNumber
}

// promUnits returns the unit of each of the series that answer an expression.
func promUnits(expr string, series []promSeries) []promUnit {
	keeps := promKeepsUnit(expr)
	units := make([]promUnit, len(series))
	for i := range series {
		units[i] = promNumber
		if keeps {
			units[i] = promUnitOf(series[i].labels["__name__"])
		}
	}
	return units
}

// show prints a value.
func (u promUnit) show(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return strconv.FormatFloat(v, 'g', -1, 64)
	case u == promPercent:
		return formatNumber(v*u.factor, "") + "%"
	case v == math.Trunc(v) && u == promNumber && math.Abs(v) < 1e15:
		return group(int64(v))
	}
	return formatNumber(v*u.factor, u.unit)
}
