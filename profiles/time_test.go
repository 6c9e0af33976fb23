package profiles

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.UnixMilli(1_795_241_460_123)
	for in, want := range map[string]int64{
		"now":                       1_795_241_460_123,
		"now-1h":                    1_795_237_860_123,
		"now-1h30m":                 1_795_236_060_123,
		"now-1w2d":                  1_795_241_460_123 - 9*86_400_000,
		"now+5m":                    1_795_241_760_123,
		"now-250ms":                 1_795_241_459_873,
		"2026-11-21T09:03:34Z":      1_795_251_814_000,
		"2026-11-21T10:03:34+01:00": 1_795_251_814_000,
		"2026-11-21T09:03:34.5Z":    1_795_251_814_500,
		"1795241460":                1_795_241_460_000,
		"1795241460.25":             1_795_241_460_250,
		"1795241460123":             1_795_241_460_123,
		"99999999999":               99_999_999_999_000,
		"100000000000":              100_000_000_000,
		"0":                         0,
		" now ":                     1_795_241_460_123,
	} {
		if got, err := ParseTime(in, now); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "yesterday", "now-", "now-1", "now1h", "now-1y", "now-999999w", "-5", "NaN", "Inf", "1e300", "0x10", "2026-11-21", "2026-13-21T09:03:34Z"} {
		if got, err := ParseTime(in, now); err == nil {
			t.Errorf("%q is accepted as %d", in, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"15s": 15 * time.Second, "15": 15 * time.Second, "0.5": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "1d12h": 36 * time.Hour, "1.5d": 36 * time.Hour,
		"2w": 14 * 24 * time.Hour, "100ms": 100 * time.Millisecond, "0": 0, "0s": 0,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "s", "1y", "-1s", "-5", "1h 30m", "1..5s", "1e400", "NaN", "9999999w", "0x1p3"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q is accepted as %v", in, got)
		}
	}
}
