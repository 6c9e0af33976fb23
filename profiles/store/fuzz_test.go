package store

import (
	"os"
	"slices"
	"testing"

	"github.com/sonde-io/sonde/internal/blob"
)

// seeds calls add for every part of the golden files: what kind of part it is to fuzzPart, a number that its decoder needs, and its bytes without their checksum, which
// keeps a fuzzer from getting far. They are read without a catalogue, so that the fuzzer's workers start at once.
func seeds(f *testing.F, add func(kind byte, n uint16, data []byte)) {
	for _, name := range goldenFiles {
		data, err := os.ReadFile(name)
		must(f, err)
		add(fuzzFile, 0, data)
		r := &file{name: name, r: memory{data}, size: int64(len(data))}
		must(f, r.readFooter())
		part := func(kind byte, n int, l located) []byte {
			raw, err := r.section(l)
			must(f, err)
			raw = slices.Clone(raw)
			add(kind, uint16(n), raw)
			return raw
		}
		at := r.size - trailerSize
		end, err := parseTrailer(data[at:], r.size)
		must(f, err)
		add(fuzzFooter, uint16(r.size>>8), data[at-end.length:at])
		part(fuzzAncestors, 0, r.opened.foot.ancestors)
		ds, err := r.dataset(r.opened.foot.datasets[0].Service)
		must(f, err)
		for i, s := range ds.info.sections {
			if s.stored > 0 {
				part(byte(1+i), len(ds.series), s)
			}
		}
		groups := func(c *chunkInfo) {
			for _, g := range c.groups {
				if g.rows == 0 {
					continue
				}
				stacks := part(fuzzStacks, c.profiles, g.stacks) // with one slice there are no lengths of shares before it
				for _, col := range g.columns {
					raw, err := r.section(col)
					must(f, err)
					add(fuzzColumn, uint16(len(stacks)), slices.Concat(stacks, raw))
				}
			}
		}
		for i := range ds.series {
			part(fuzzHead, ds.series[i].profiles, ds.series[i].head)
			groups(&ds.series[i].chunks[0])
		}
		for i := range ds.rollups {
			for j := range ds.rollups[i].levels {
				l := &ds.rollups[i].levels[j]
				part(fuzzWindowHead, l.windows, l.head)
				groups(&l.chunks[0])
			}
		}
	}
}

// fuzzKinds fuzzes the decoders of the kinds from lo to hi.
func fuzzKinds(f *testing.F, lo, hi byte) {
	seeds(f, func(kind byte, n uint16, data []byte) {
		if kind >= lo && kind <= hi {
			f.Add(kind, n, data)
		}
	})
	f.Fuzz(func(t *testing.T, kind byte, n uint16, data []byte) { fuzzPart(lo+kind%(hi-lo+1), n, data) })
}

func FuzzFile(f *testing.F)       { fuzzKinds(f, fuzzFile, fuzzFile) }
func FuzzFooter(f *testing.F)     { fuzzKinds(f, fuzzFooter, fuzzFooter) }
func FuzzAncestors(f *testing.F)  { fuzzKinds(f, fuzzAncestors, fuzzAncestors) }
func FuzzSymbols(f *testing.F)    { fuzzKinds(f, 1, symbolSections) }
func FuzzIndices(f *testing.F)    { fuzzKinds(f, sectionRollups+1, sectionIndex+1) }
func FuzzHead(f *testing.F)       { fuzzKinds(f, fuzzHead, fuzzHead) }
func FuzzWindowHead(f *testing.F) { fuzzKinds(f, fuzzWindowHead, fuzzWindowHead) }
func FuzzStacks(f *testing.F)     { fuzzKinds(f, fuzzStacks, fuzzStacks) }
func FuzzColumn(f *testing.F)     { fuzzKinds(f, fuzzColumn, fuzzColumn) }

// FuzzSpans reads the table of spans, and the rows of a chunk.
func FuzzSpans(f *testing.F) {
	f.Add(uint8(2), uint8(3), []byte{0, 1, 0, 2, 4, 1, 0, 1, 0, 0, 2, 4})
	f.Add(uint8(1), uint8(1), []byte{1, 2, 3, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd})
	f.Fuzz(func(t *testing.T, rows, n uint8, data []byte) {
		sets, err := decodeSpanSets(data)
		if err == nil && len(sets) > len(data)+1 {
			t.Errorf("%d sets of %d bytes", len(sets), len(data))
		}
		for columns := range 3 {
			_, _ = decodeSpans(data, int(rows), int(n), columns, 100, 100)
		}
	})
}

// FuzzTombstone reads what a rebuild does not bring back.
func FuzzTombstone(f *testing.F) {
	const id = "06GZTN6DPW03YY73J07G000034"
	f.Add([]byte(`{"v":1,"id":"` + id + `","service":"cart","from":0,"to":9,"created":5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := tombstoneFolder + id
		if s, err := readTombstone(t.Context(), heldBlobs{name: data}, blob.Info{Name: name, Size: int64(len(data))}); err == nil && s.ID != id {
			t.Errorf("it is %q", s.ID)
		}
	})
}
