package pprofenc

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"sort"
	"strings"
	"testing"
)

// profile is what the tests read of a pprof profile: values summed by the stack's functions (leaf first), lines and labels.
type profile struct {
	types   []string
	samples map[string][]int64
}

// message holds a decoded protobuf message: every field's values in order.
type message map[int][]any // uint64 or []byte

func decode(t *testing.T, p []byte) message {
	t.Helper()
	m := message{}
	for len(p) > 0 {
		key, n := binary.Uvarint(p)
		if n <= 0 {
			t.Fatal("corrupt protobuf")
		}
		p = p[n:]
		v, n := binary.Uvarint(p)
		if n <= 0 {
			t.Fatal("corrupt protobuf")
		}
		p = p[n:]
		if key&7 == 0 {
			m[int(key>>3)] = append(m[int(key>>3)], v)
			continue
		}
		m[int(key>>3)] = append(m[int(key>>3)], p[:v:v])
		p = p[v:]
	}
	return m
}

func (m message) num(field int) uint64 {
	if len(m[field]) == 0 {
		return 0
	}
	return m[field][0].(uint64)
}

func (m message) packed(field int) (out []uint64) {
	for _, v := range m[field] {
		if u, ok := v.(uint64); ok {
			out = append(out, u)
			continue
		}
		for p := v.([]byte); len(p) > 0; {
			u, n := binary.Uvarint(p)
			out, p = append(out, u), p[n:]
		}
	}
	return out
}

// readProfile reads gzipped p. depth cuts the stacks, 0 leaves them.
func readProfile(t *testing.T, p []byte, depth int) profile {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	m := decode(t, raw)
	str := func(i uint64) string { return string(m[6][i].([]byte)) }
	functions, locations := map[uint64]string{}, map[uint64][]string{}
	for _, f := range m[5] {
		f := decode(t, f.([]byte))
		functions[f.num(1)] = str(f.num(2)) + " " + str(f.num(4))
	}
	for _, l := range m[4] {
		l := decode(t, l.([]byte))
		for _, line := range l[4] {
			line := decode(t, line.([]byte))
			locations[l.num(1)] = append(locations[l.num(1)], fmt.Sprintf("%s:%d", functions[line.num(1)], line.num(2)))
		}
	}
	out := profile{samples: map[string][]int64{}}
	for _, v := range m[1] {
		v := decode(t, v.([]byte))
		out.types = append(out.types, str(v.num(1))+"/"+str(v.num(2)))
	}
	for _, s := range m[2] {
		s := decode(t, s.([]byte))
		var frames, labels []string
		for _, id := range s.packed(1) {
			if len(locations[id]) == 0 {
				t.Fatalf("sample refers to location %d, which has no lines", id)
			}
			frames = append(frames, locations[id]...)
		}
		for _, l := range s[3] {
			l := decode(t, l.([]byte))
			labels = append(labels, fmt.Sprintf("%s=%s%d", str(l.num(1)), str(l.num(2)), l.num(3)))
		}
		sort.Strings(labels)
		if depth > 0 && len(frames) > depth {
			frames = frames[:depth]
		}
		key := strings.Join(frames, "\n") + "\n" + strings.Join(labels, ",")
		row := out.samples[key]
		if row == nil {
			row = make([]int64, len(out.types))
			out.samples[key] = row
		}
		for i, v := range s.packed(2) {
			row[i] += int64(v)
		}
	}
	return out
}
