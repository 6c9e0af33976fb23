package store

import (
	"context"

	"github.com/sonde-io/sonde/profiles"
)

// The kinds of parts that are not sections of a dataset, which have their number and 1.
const (
	fuzzFile       = 0
	fuzzHead       = 20
	fuzzStacks     = 21
	fuzzColumn     = 22
	fuzzFooter     = 30
	fuzzAncestors  = 31
	fuzzWindowHead = 32
)

// fuzzPart reads data as the part of a file that kind names. That it returns is the test.
func fuzzPart(kind byte, n uint16, data []byte) {
	var c chunkStacks
	switch {
	case kind == fuzzFile:
		f := &file{name: "fuzz", r: memory{data}, size: int64(len(data))}
		if f.readFooter() != nil {
			return
		}
		check := &checker{f: f}
		check.header()
		check.tiles()
		check.ancestors()
		for _, ds := range f.opened.foot.datasets {
			check.dataset(context.Background(), ds.Service)
		}
	case kind <= symbolSections:
		for version := version1; version <= version2; version++ {
			s := &profiles.Symbols{Functions: make([]profiles.SymFunction, n)}
			if decodeSymbols(data, int(kind)-1, s, version) == nil {
				_ = s.Validate()
			}
		}
	case kind <= sectionIndex+1:
		var info datasetInfo
		for i := range info.regions {
			info.regions[i] = span{0, 1 << 30}
		}
		for _, info.version = range []int{version1, version2} {
			_, _ = decodeIndex(data, &info)
			_, _ = decodeRollups(data, &info, int(n))
		}
		info.resolution = 60_000
		_, _ = decodeIndex(data, &info)
	case kind == fuzzHead:
		_, _ = decodeHead(data, int(n), int(n%5), true)
	case kind == fuzzStacks:
		for version := version1; version <= version2; version++ {
			if total, rest, err := c.decodeStacks(data, int(n), len(data), 1<<20, version); err == nil {
				_ = c.decodeMembers(rest, int(n), total)
				_ = c.decodeShortMembers(rest, int(n), total)
			}
		}
	case kind == fuzzColumn:
		if len(data) < int(n) {
			return
		}
		total, rest, err := c.decodeStacks(data[:n], 8, int(n)*2, 1<<20, version1)
		if err != nil || c.decodeMembers(rest, 8, total) != nil {
			c = chunkStacks{stacks: []uint32{1, 2}, counts: []uint32{2, 1}, profile: []uint32{0, 7, 3}}
		}
		_, _ = decodeColumn(data[n:], len(c.profile), c.counts, nil, new(sampledCounts), func(int) ([]byte, error) { return data[:n], nil })
		_, _ = c.decodeSumColumn(data[n:], []int64{1, 2, 3, 4, 5, 6, 7, 8}, nil)
	case kind == fuzzFooter:
		_, _ = decodeFooter(data, uint64(n)<<8, version1)
		_, _ = decodeFooter(data, uint64(n)<<8, version2)
	case kind == fuzzWindowHead:
		for columns := range 3 {
			_, _ = decodeWindowHead(data, int(n), 60_000, columns, true)
		}
	default:
		_, _ = decodeAncestors(data)
	}
}
