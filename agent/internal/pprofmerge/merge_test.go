package pprofmerge

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// field builds one length-delimited field.
func msg(num int, parts ...[]byte) []byte { return appendBytes(nil, num, bytes.Join(parts, nil)) }

func num(n int, v uint64) []byte { return appendVarint(nil, n, v) }

// small is a profile with two samples of one stack, main.f called by main.g, one of them labelled; ids differ with base.
func small(base uint64, value uint64, label string) []byte {
	strs := []string{"", "cpu", "nanoseconds", "main.f", "main.g", "f.go", "who", label}
	var p []byte
	p = append(p, msg(fSampleType, num(1, 1), num(2, 2))...)
	p = append(p, msg(fSample, msg(1, []byte{byte(base + 1), byte(base + 2)}), msg(2, []byte{byte(value)}))...)
	p = append(p, msg(fSample, num(1, base+1), num(1, base+2), num(2, value), msg(3, num(1, 6), num(2, 7)))...)
	p = append(p, msg(fMapping, num(1, base+9), num(5, 5))...)
	for i := uint64(1); i <= 2; i++ {
		p = append(p, msg(fLocation, num(1, base+i), num(2, base+9), num(3, 0x1000*i), msg(4, num(1, base+20+i), num(2, i)))...)
		p = append(p, msg(fFunction, num(1, base+20+i), num(2, 2+i), num(3, 2+i), num(4, 5))...)
	}
	for _, s := range strs {
		p = append(p, msg(fString, []byte(s))...)
	}
	p = append(p, num(fTime, 1000+base)...)
	p = append(p, num(fDuration, 500)...)
	return append(p, num(fPeriod, 10)...)
}

func merged(t *testing.T, m *Merger) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := m.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func count(t *testing.T, p []byte, num int) (n int) {
	t.Helper()
	if err := each(p, func(f field) error {
		if f.num == num {
			n++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func sum(t *testing.T, p []byte) (total uint64) {
	t.Helper()
	if err := each(p, func(f field) error {
		if f.num != fSample {
			return nil
		}
		return each(f.p, func(s field) error {
			if s.num == 2 {
				return s.numbers(func(v uint64) error { total += v; return nil })
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return total
}

func TestMergeAddsEqualStacks(t *testing.T) {
	var m Merger
	for _, p := range [][]byte{small(0, 3, "a"), small(40, 4, "a"), small(80, 5, "b")} {
		if err := m.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	out := merged(t, &m)
	for _, c := range []struct{ field, want int }{{fSample, 3}, {fLocation, 2}, {fFunction, 2}, {fMapping, 1}} {
		if got := count(t, out, c.field); got != c.want {
			t.Errorf("field %d comes %d times, want %d", c.field, got, c.want)
		}
	}
	if got := sum(t, out); got != 2*(3+4+5) {
		t.Errorf("total %d, want 24", got)
	}
	// The result is a profile itself, and merging it alone changes nothing.
	var again Merger
	if err := again.Add(out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(merged(t, &again), out) {
		t.Error("merging one merged profile changes it")
	}
}

func TestLimitsStripAndMark(t *testing.T) {
	long := strings.Repeat("x", 100)
	limits := Limits{Labels: 4, Key: 50, Value: 50}
	for label, want := range map[string]bool{"short": false, long: true} {
		over, err := Exceeds(small(0, 1, label), limits)
		if err != nil || over != want {
			t.Errorf("Exceeds with %.10s…: %v, %v", label, over, err)
		}
	}
	m := Merger{Limits: limits}
	if err := m.Add(small(0, 1, long)); err != nil {
		t.Fatal(err)
	}
	out := merged(t, &m)
	if m.Stripped != 1 || bytes.Contains(out, []byte(long)) || !bytes.Contains(out, []byte(Mark)) {
		t.Errorf("stripped %d labels; the long one is there: %v", m.Stripped, bytes.Contains(out, []byte(long)))
	}
	if got := sum(t, out); got != 2 {
		t.Errorf("total %d: a stripped label costs no sample", got)
	}
}

func TestErrorsNameTheCause(t *testing.T) {
	for name, tc := range map[string]struct {
		p    []byte
		want string
	}{
		"truncated":       {small(0, 1, "a")[:30], "corrupt"},
		"no strings":      {msg(fSampleType, num(1, 0)), "no string table"},
		"missing string":  {append(msg(fSampleType, num(1, 9)), msg(fString)...), "string 9 of 1"},
		"too few values":  {append(append(msg(fSampleType, num(1, 0)), msg(fSample)...), msg(fString)...), "0 values vs. 1 types"},
		"no such place":   {append(append(msg(fSampleType), msg(fSample, num(1, 7))...), msg(fString)...), "no location 7"},
		"one id twice":    {bytes.Join([][]byte{msg(fSampleType), msg(fString), msg(fMapping, num(1, 3)), msg(fMapping, num(1, 3))}, nil), "comes twice"},
		"not a profile":   {[]byte("\xff\xff\xff\xff"), "corrupt"},
		"length too long": {[]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, "corrupt"},
	} {
		var m Merger
		if err := m.Add(tc.p); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	var m Merger
	other := bytes.Replace(small(0, 1, "a"), []byte("nanoseconds"), []byte("millisecond"), 1)
	if err := m.Add(small(0, 1, "a")); err != nil {
		t.Fatal(err)
	}
	if err := m.Add(other); err == nil || !strings.Contains(err.Error(), "sample types differ") {
		t.Errorf("profiles of other types: %v", err)
	}
}

// TestRealProfiles merges two of the runtime's own and compares the total.
func TestRealProfiles(t *testing.T) {
	var m Merger
	var want uint64
	for range 2 {
		var b bytes.Buffer
		if err := pprof.StartCPUProfile(&b); err != nil {
			t.Fatal(err)
		}
		pprof.Do(context.Background(), pprof.Labels("k", "v"), func(context.Context) {
			for end := time.Now().Add(150 * time.Millisecond); time.Now().Before(end); {
				_ = strings.Repeat("x", 100)
			}
		})
		pprof.StopCPUProfile()
		zr, err := gzip.NewReader(&b)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(zr)
		if err != nil {
			t.Fatal(err)
		}
		want += sum(t, raw)
		if err := m.Add(raw); err != nil {
			t.Fatal(err)
		}
	}
	if got := sum(t, merged(t, &m)); got != want {
		t.Errorf("total %d, want %d", got, want)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add(small(0, 3, "a"))
	f.Add(small(40, 4, strings.Repeat("x", 100)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		limits := Limits{Labels: 2, Key: 10, Value: 10}
		m := Merger{Limits: limits}
		if m.Add(p) != nil {
			return
		}
		if over, err := Exceeds(p, limits); err == nil && !over && m.Stripped > 0 {
			t.Errorf("stripped %d labels though none exceeds the limits", m.Stripped)
		}
		out := merged(t, &m)
		if err := new(Merger).Add(out); err != nil {
			t.Errorf("the result cannot be read: %v", err)
		}
	})
}
