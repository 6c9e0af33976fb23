package inspect

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sonde-io/sonde/profiles"
)

// Limits of the labels of goroutines. What has more is taken to have none.
const (
	maxLabels     = 64
	maxLabelBytes = 1 << 10
	maxLabelSets  = 10_000 // remembered during a snapshot
)

// labelReader reads the labels that a program gave its goroutines (runtime/pprof.Do). A set of labels never changes and is shared by many goroutines.
type labelReader struct {
	v    *view
	sets map[uint64][]profiles.SampleLabel
}

// labels returns the set at addr, sorted; nil where there is none or it cannot be read.
func (l *labelReader) labels(addr uint64) []profiles.SampleLabel {
	if addr == 0 {
		return nil
	}
	if set, ok := l.sets[addr]; ok {
		return set
	}
	if l.sets == nil || len(l.sets) >= maxLabelSets {
		l.sets = map[uint64][]profiles.SampleLabel{}
	}
	var set []profiles.SampleLabel
	var ok bool
	if l.v.im.layout.labels == labelList {
		set, ok = l.list(addr)
	} else {
		set, ok = l.table(addr)
	}
	if !ok {
		set = nil
	}
	slices.SortFunc(set, compareLabels)
	l.sets[addr] = set
	return set
}

func compareLabels(a, b profiles.SampleLabel) int {
	return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Str, b.Str), cmp.Compare(a.Num, b.Num))
}

// list reads a slice of pairs of strings, its length checked.
func (l *labelReader) list(addr uint64) (set []profiles.SampleLabel, ok bool) {
	h := make([]byte, 24)
	if ok, err := l.v.r.read(addr, h); !ok || err != nil {
		return nil, false
	}
	n := le.Uint64(h[8:])
	if n > maxLabels || le.Uint64(h[16:]) < n {
		return nil, false
	}
	b := make([]byte, 32*n)
	if ok, err := l.v.r.read(le.Uint64(h), b); n > 0 && (!ok || err != nil) {
		return nil, false
	}
	for ; len(b) > 0; b = b[32:] {
		if set, ok = l.pair(set, b[:16], b[16:32]); !ok {
			return nil, false
		}
	}
	return set, true
}

// Of the hash tables of Go 1.18 to 1.23: a header, and buckets of eight pairs.
const (
	tableBits    = 9 // of the header: the buckets are 1<<B
	tableBuckets = 16
	tableOld     = 24
	tableHeader  = 32

	pairs        = 8
	bucketKeys   = pairs
	bucketValues = bucketKeys + 16*pairs
	bucketMore   = bucketValues + 16*pairs
	bucketBytes  = bucketMore + 8
	minTop       = 5 // of the byte of a pair that is there
)

// table reads a map[string]string, to which addr points. Where it was growing the pairs that have not moved yet are in the old buckets.
func (l *labelReader) table(addr uint64) (set []profiles.SampleLabel, ok bool) {
	m, ok, err := l.v.r.word(addr)
	if !ok || err != nil || m == 0 {
		return nil, m == 0
	}
	h := make([]byte, tableHeader)
	if ok, err := l.v.r.read(m, h); !ok || err != nil {
		return nil, false
	}
	count, bits := le.Uint64(h), h[tableBits]
	if count > maxLabels || bits > 6 {
		return nil, false
	}
	left := 4 * maxLabels // buckets, overflowing ones included
	for _, base := range []uint64{le.Uint64(h[tableBuckets:]), le.Uint64(h[tableOld:])} {
		n := uint64(1) << bits
		if base == le.Uint64(h[tableOld:]) && base != le.Uint64(h[tableBuckets:]) {
			n = max(n/2, 1)
		}
		for i := range n {
			for at := base + i*bucketBytes; at != 0 && base != 0; {
				if left--; left < 0 {
					return nil, false
				}
				b := make([]byte, bucketBytes)
				if ok, err := l.v.r.read(at, b); !ok || err != nil {
					return nil, false
				}
				for j := range pairs {
					if b[j] < minTop {
						continue
					}
					if set, ok = l.pair(set, b[bucketKeys+16*j:][:16], b[bucketValues+16*j:][:16]); !ok || len(set) > maxLabels {
						return nil, false
					}
				}
				at = le.Uint64(b[bucketMore:])
			}
		}
	}
	return set, uint64(len(set)) == count
}

// pair appends the label whose key and value are two strings.
func (l *labelReader) pair(set []profiles.SampleLabel, key, value []byte) ([]profiles.SampleLabel, bool) {
	k, ok := l.text(key)
	v, ok2 := l.text(value)
	return append(set, profiles.SampleLabel{Key: k, Str: v}), ok && ok2 && k != ""
}

// text reads a string by its two words.
func (l *labelReader) text(h []byte) (string, bool) {
	n := le.Uint64(h[8:])
	if n == 0 {
		return "", true
	}
	if n > maxLabelBytes {
		return "", false
	}
	b := make([]byte, n)
	ok, err := l.v.r.read(le.Uint64(h), b)
	return strings.ToValidUTF8(string(b), "\uFFFD"), ok && err == nil
}
