package profiles

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxTime is the end of the year 9999 in Unix ms: RFC 3339 writes nothing later.
const maxTime = 253402300799999

// ParseTime reads a time as the API and the command line take it: now, now-1h (or now+5m; units as in ParseDuration), RFC 3339, or Unix: a number
// below 10^11 is seconds (fractions allowed), from there on milliseconds. It returns Unix milliseconds.
func ParseTime(s string, now time.Time) (ms int64, err error) {
	text := strings.TrimSpace(s)
	if rest, ok := strings.CutPrefix(text, "now"); ok {
		if rest == "" {
			return now.UnixMilli(), nil
		}
		d, err := parseUnits(rest[1:])
		if err != nil || rest[0] != '-' && rest[0] != '+' {
			return 0, fmt.Errorf("parse time %q: want now-DURATION, such as now-1h (units ms s m h d w)", s)
		}
		if rest[0] == '-' {
			d = -d
		}
		return checkTime(s, now.UnixMilli()+d.Milliseconds())
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && !strings.ContainsAny(text, "xXpP_") {
		if math.IsNaN(f) || f < 0 || f > maxTime {
			return 0, fmt.Errorf("parse time %q: out of range", s)
		}
		if f >= 1e11 {
			return checkTime(s, int64(math.Round(f)))
		}
		return checkTime(s, int64(math.Round(f*1000)))
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("parse time %q: want now, now-1h, RFC 3339 (2026-01-02T15:04:05Z) or Unix seconds or milliseconds", s)
	}
	return checkTime(s, t.UnixMilli())
}

func checkTime(s string, ms int64) (int64, error) {
	if ms < 0 || ms > maxTime {
		return 0, fmt.Errorf("parse time %q: out of range", s)
	}
	return ms, nil
}

// ParseDuration reads a duration: numbers with the units ms, s, m, h, d (24 h) and w (7 d), as 1h30m or 1.5d, or a bare number of seconds. It is not
// negative and at most 290 years.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if f, err := strconv.ParseFloat(text, 64); err == nil && !strings.ContainsAny(text, "xXpP_") {
		if !(f >= 0 && f < math.MaxInt64/float64(time.Second)) {
			return 0, fmt.Errorf("parse duration %q: out of range", s)
		}
		return time.Duration(math.Round(f * float64(time.Second))), nil
	}
	d, err := parseUnits(text)
	if err != nil {
		return 0, fmt.Errorf("parse duration %q: %w", s, err)
	}
	return d, nil
}

var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

func parseUnits(s string) (time.Duration, error) {
	if s == "" {
		return 0, fmt.Errorf("empty")
	}
	var total float64
	for s != "" {
		n := len(s) - len(strings.TrimLeft(s, "0123456789."))
		u := n + len(s[n:]) - len(strings.TrimLeft(s[n:], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZµ"))
		value, err := strconv.ParseFloat(s[:n], 64)
		unit, ok := durationUnits[s[n:u]]
		if err != nil || !ok {
			return 0, fmt.Errorf("want numbers with the units ms s m h d w, such as 90s or 1h30m")
		}
		total += value * float64(unit)
		s = s[u:]
	}
	if total >= math.MaxInt64 {
		return 0, fmt.Errorf("out of range")
	}
	return time.Duration(math.Round(total)), nil
}
