package agent

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// sampleOf is a sample of a pprof profile as the tests read it.
type sampleOf struct {
	functions []string // leaf first
	values    []int64
	labels    map[string]string
}

// pbField is a field of a protobuf message: a number, or bytes.
type pbField struct {
	num int
	v   uint64
	p   []byte
}

func pbFields(t *testing.T, p []byte) (out []pbField) {
	t.Helper()
	for len(p) > 0 {
		key, n := binary.Uvarint(p)
		v, m := binary.Uvarint(p[max(n, 0):])
		if n <= 0 || m <= 0 {
			t.Fatal("corrupt protobuf")
		}
		f := pbField{num: int(key >> 3), v: v}
		if p = p[n+m:]; key&7 == 2 {
			f.p, p = p[:v:v], p[v:]
		}
		out = append(out, f)
	}
	return out
}

func (f pbField) numbers() (out []uint64) {
	if f.p == nil {
		return []uint64{f.v}
	}
	for p := f.p; len(p) > 0; {
		v, n := binary.Uvarint(p)
		out, p = append(out, v), p[n:]
	}
	return out
}

// readSamples reads an uncompressed profile.
func readSamples(t *testing.T, raw []byte) (out []sampleOf) {
	t.Helper()
	var strs []string
	names, locations := map[uint64]uint64{}, map[uint64][]uint64{}
	id := func(p []byte) (id uint64, rest []pbField) {
		for _, f := range pbFields(t, p) {
			if f.num == 1 {
				id = f.v
			}
			rest = append(rest, f)
		}
		return id, rest
	}
	fields := pbFields(t, raw)
	for _, f := range fields {
		switch f.num {
		case 6:
			strs = append(strs, string(f.p))
		case 5:
			i, rest := id(f.p)
			for _, r := range rest {
				if r.num == 2 {
					names[i] = r.v
				}
			}
		case 4:
			i, rest := id(f.p)
			for _, r := range rest {
				if r.num == 4 {
					fn, _ := id(r.p)
					locations[i] = append(locations[i], fn)
				}
			}
		}
	}
	for _, f := range fields {
		if f.num != 2 {
			continue
		}
		s := sampleOf{labels: map[string]string{}}
		for _, g := range pbFields(t, f.p) {
			switch g.num {
			case 1:
				for _, loc := range g.numbers() {
					for _, fn := range locations[loc] {
						s.functions = append(s.functions, strs[names[fn]])
					}
				}
			case 2:
				for _, v := range g.numbers() {
					s.values = append(s.values, int64(v))
				}
			case 3:
				var key, value string
				for _, l := range pbFields(t, g.p) {
					switch l.num {
					case 1:
						key = strs[l.v]
					case 2:
						value = strs[l.v]
					}
				}
				s.labels[key] = value
			}
		}
		out = append(out, s)
	}
	return out
}

// has reports whether a function whose name contains name is on the stack.
func (s sampleOf) has(name string) bool {
	return slices.ContainsFunc(s.functions, func(f string) bool { return strings.Contains(f, name) })
}

// allocated returns the bytes that a heap profile says function allocated.
func allocated(t *testing.T, raw []byte, function string) (n int64) {
	t.Helper()
	for _, s := range readSamples(t, raw) {
		if s.has(function) {
			n += s.values[1]
		}
	}
	return n
}
