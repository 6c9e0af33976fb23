package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sonde-io/sonde/internal/catalog"
)

// FORMAT.md describes what these constants delimit.
const (
	fileMagic   = "SONDEPRF"
	version1    = 1
	version2    = 2
	headerSize  = 16 // magic, version, level, 6 zero bytes
	trailerSize = 16 // length and CRC32C of the footer, magic
)

// footerMagics end a file, by version: a reader sees the end of a file first.
var footerMagics = [...]string{version1: "SONDEEND", version2: "SONDEND2"}

// The regions of a dataset hold parts back to back, in the order in which the series index lists them.
const (
	regionHeads = iota
	regionChunks
	regionSums    // version 1: of series beside their chunks; version 2: of series of a downsampled block
	regionRollups // of the rollup index; from version 2 on, as is what follows
	regionSpans
	regionCount
)

var regionNames = [regionCount]string{"heads", "chunks", "sums", "rollups", "spans"}

// sections1 and regions1 say which of them a file of version 1 has.
var (
	sections1 = [sectionCount]bool{sectionStrings: true, sectionFunctions: true, sectionMappings: true, sectionLocations: true, sectionNodes: true, sectionLabelSets: true, sectionStacks: true, sectionIndex: true}
	regions1  = [regionCount]bool{regionHeads: true, regionChunks: true, regionSums: true}
)

// located is a part and where in the file it starts.
type located struct {
	part
	at uint64
}

func (l located) end() uint64 { return l.at + uint64(l.stored) }

// span is a run of bytes of the file.
type span struct{ at, length uint64 }

// footer is a file's table of contents.
type footer struct {
	version    int
	id         blockID
	level      int
	created    int64 // Unix ms
	resolution int64 // ms; 0: the profiles as they came
	ancestors  located
	datasets   []datasetInfo
	share      share
}

// datasetInfo says what a file holds of one service, and where.
type datasetInfo struct {
	catalog.Dataset
	version    int   // of the file
	resolution int64 // of the file
	sections   [sectionCount]located
	regions    [regionCount]span
}

// share says which of a block's profiles those of two that were made of it have where pins took it apart.
type share byte

const (
	shareAll share = iota
	sharePinned
	shareRest
)

func appendHeader(b []byte, version, level int) []byte {
	b = append(b, fileMagic...)
	return append(b, byte(version), byte(level), 0, 0, 0, 0, 0, 0)
}

// checkHeader returns the level.
func checkHeader(b []byte, version int) (level int, err error) {
	if len(b) < headerSize || string(b[:8]) != fileMagic {
		return 0, errors.New("not a segment or block: the magic number is missing")
	}
	if int(b[8]) != version {
		return 0, fmt.Errorf("header has version %d, the end of the file %d", b[8], version)
	}
	for _, z := range b[10:headerSize] {
		if z != 0 {
			return 0, errors.New("header's reserved bytes are not zero")
		}
	}
	return int(b[9]), nil
}

func appendFooter(b []byte, f *footer) []byte {
	at := len(b)
	b = append(b, f.id[:]...)
	b = append(b, byte(f.level))
	b = binary.AppendVarint(b, f.created)
	if f.version > version1 {
		b = binary.AppendUvarint(b, uint64(f.resolution))
	}
	b = appendLocated(b, f.ancestors, f.version)
	b = binary.AppendUvarint(b, uint64(len(f.datasets)))
	for _, ds := range f.datasets {
		b = appendString(b, ds.Service)
		b = binary.AppendVarint(b, ds.MinStart)
		b = binary.AppendUvarint(b, uint64(ds.MaxStart-ds.MinStart))
		b = binary.AppendUvarint(b, uint64(ds.MaxEnd-ds.MinStart))
		b = binary.AppendUvarint(b, uint64(ds.Profiles))
		b = binary.AppendUvarint(b, uint64(len(ds.Types)))
		for _, t := range ds.Types {
			b = appendString(b, t)
		}
		for i, s := range ds.sections {
			if f.version > version1 || sections1[i] {
				b = appendLocated(b, s, f.version)
			}
		}
		for i, r := range ds.regions {
			if f.version > version1 || regions1[i] {
				b = binary.AppendUvarint(b, r.at)
				b = binary.AppendUvarint(b, r.length)
			}
		}
	}
	if f.share != shareAll {
		b = append(b, byte(f.share))
	}
	crc, n := checksum(b[at:]), len(b)-at
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	b = binary.LittleEndian.AppendUint32(b, crc)
	return append(b, footerMagics[f.version]...)
}

func appendLocated(b []byte, l located, version int) []byte {
	return appendPart(binary.AppendUvarint(b, l.at), l.part, version)
}

func (d *decoder) located(size uint64, version int) located {
	l := located{at: d.uvarint()}
	l.part = d.part(version)
	if d.err == nil && (l.at > size || uint64(l.stored) > size-l.at) {
		d.fail(fmt.Errorf("section at %d of %d bytes is outside the file of %d", l.at, l.stored, size))
	}
	return l
}

// trailer says where the footer is.
type trailer struct {
	version int
	length  int64 // of the footer, which ends where the trailer starts
	crc     uint32
}

func parseTrailer(b []byte, size int64) (t trailer, err error) {
	if len(b) == trailerSize {
		t.version = max(0, slices.Index(footerMagics[:], string(b[8:])))
	}
	if t.version == 0 {
		return t, errors.New("file is cut short, or of a version that this program does not know: the magic number at its end is missing")
	}
	t.length, t.crc = int64(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])
	if t.length > size-headerSize-trailerSize {
		return t, fmt.Errorf("footer of %d bytes does not fit a file of %d", t.length, size)
	}
	return t, nil
}

// decodeFooter reads the footer of a file of size bytes, whose checksum the caller has verified.
func decodeFooter(b []byte, size uint64, version int) (*footer, error) {
	d := &decoder{b: b}
	f := &footer{version: version}
	copy(f.id[:], d.bytes(uint64(len(f.id))))
	f.level = int(d.byte())
	f.created = d.varint()
	if version > version1 {
		if f.resolution = d.offset(); f.resolution%60_000 != 0 {
			d.fail(fmt.Errorf("resolution is %d ms, not whole minutes", f.resolution))
		}
	}
	f.ancestors = d.located(size, version)
	for range d.count(16) {
		ds := datasetInfo{version: version, resolution: f.resolution}
		ds.Service = d.string()
		ds.MinStart = d.varint()
		ds.MaxStart = ds.MinStart + d.offset()
		ds.MaxEnd = ds.MinStart + d.offset()
		ds.Profiles = d.offset()
		for range d.count(1) {
			ds.Types = append(ds.Types, d.string())
		}
		d.places(&ds, size)
		f.datasets = append(f.datasets, ds)
	}
	if version > version1 && d.err == nil && len(d.b) > 0 {
		if f.share = share(d.byte()); f.share == shareAll || f.share > shareRest {
			d.fail(fmt.Errorf("share is %d", f.share))
		}
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	sorted := slices.IsSortedFunc(f.datasets, func(a, b datasetInfo) int {
		if a.Service < b.Service {
			return -1
		}
		return 1
	})
	if !sorted {
		return nil, errors.New("datasets are not in order of service")
	}
	return f, nil
}

// places reads where a dataset's sections and regions are. Those that its version does not have are empty and lie after the one before.
func (d *decoder) places(ds *datasetInfo, size uint64) {
	for i := range ds.sections {
		if ds.version > version1 || sections1[i] {
			ds.sections[i] = d.located(size, ds.version)
		} else {
			ds.sections[i].at = ds.sections[i-1].end()
		}
	}
	for i := range ds.regions {
		r := span{}
		if ds.version > version1 || regions1[i] {
			r = span{d.uvarint(), d.uvarint()}
		} else {
			r.at = ds.regions[i-1].at + ds.regions[i-1].length
		}
		if d.err == nil && (r.at > size || r.length > size-r.at) {
			d.fail(fmt.Errorf("region at %d of %d bytes is outside the file of %d", r.at, r.length, size))
		}
		ds.regions[i] = r
	}
}

// offset reads a number that is added to another.
func (d *decoder) offset() int64 {
	v := d.uvarint()
	if v > math.MaxInt64/4 {
		d.fail(fmt.Errorf("number %d is out of range", v))
		return 0
	}
	return int64(v)
}

// block returns the catalogue's row for a file of size bytes.
func (f *footer) block(size int64) catalog.Block {
	b := catalog.Block{ID: f.id.String(), Level: f.level, Blob: blobName(f.id, f.level), Size: size, Created: f.created, Resolution: f.resolution}
	for _, ds := range f.datasets {
		b.Datasets = append(b.Datasets, ds.Dataset)
	}
	return b
}
