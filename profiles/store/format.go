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
	footerMagic = "SONDEEND"
	version     = 1
	headerSize  = 16 // magic, version, level, 6 zero bytes
	trailerSize = 16 // length and CRC32C of the footer, magic
)

// The regions of a dataset hold parts back to back, in the order in which the series index lists them.
const (
	regionHeads = iota
	regionChunks
	regionSums
	regionCount
)

var regionNames = [regionCount]string{"heads", "chunks", "sums"}

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
	id        blockID
	level     int
	created   int64 // Unix ms
	ancestors located
	datasets  []datasetInfo
}

// datasetInfo says what a file holds of one service, and where.
type datasetInfo struct {
	catalog.Dataset
	sections [sectionCount]located
	regions  [regionCount]span
}

func appendHeader(b []byte, level int) []byte {
	b = append(b, fileMagic...)
	return append(b, version, byte(level), 0, 0, 0, 0, 0, 0)
}

// checkHeader returns the level.
func checkHeader(b []byte) (level int, err error) {
	if len(b) < headerSize || string(b[:8]) != fileMagic {
		return 0, errors.New("not a segment or block: the magic number is missing")
	}
	if b[8] != version {
		return 0, fmt.Errorf("file has version %d, this program reads %d", b[8], version)
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
	b = appendLocated(b, f.ancestors)
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
		for _, s := range ds.sections {
			b = appendLocated(b, s)
		}
		for _, r := range ds.regions {
			b = binary.AppendUvarint(b, r.at)
			b = binary.AppendUvarint(b, r.length)
		}
	}
	crc, n := checksum(b[at:]), len(b)-at
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	b = binary.LittleEndian.AppendUint32(b, crc)
	return append(b, footerMagic...)
}

func appendLocated(b []byte, l located) []byte {
	return appendPart(binary.AppendUvarint(b, l.at), l.part)
}

func (d *decoder) located(size uint64) located {
	l := located{at: d.uvarint()}
	l.part = d.part()
	if d.err == nil && (l.at > size || uint64(l.stored) > size-l.at) {
		d.fail(fmt.Errorf("section at %d of %d bytes is outside the file of %d", l.at, l.stored, size))
	}
	return l
}

// parseTrailer returns the length of the footer, which ends at size-trailerSize, and its checksum.
func parseTrailer(b []byte, size int64) (n int64, crc uint32, err error) {
	if len(b) != trailerSize || string(b[8:]) != footerMagic {
		return 0, 0, errors.New("file is cut short: the magic number at its end is missing")
	}
	n = int64(binary.LittleEndian.Uint32(b))
	if n > size-headerSize-trailerSize {
		return 0, 0, fmt.Errorf("footer of %d bytes does not fit a file of %d", n, size)
	}
	return n, binary.LittleEndian.Uint32(b[4:]), nil
}

// decodeFooter reads the footer of a file of size bytes, whose checksum the caller has verified.
func decodeFooter(b []byte, size uint64) (*footer, error) {
	d := &decoder{b: b}
	f := &footer{}
	copy(f.id[:], d.bytes(uint64(len(f.id))))
	f.level = int(d.byte())
	f.created = d.varint()
	f.ancestors = d.located(size)
	for range d.count(16) {
		ds := datasetInfo{}
		ds.Service = d.string()
		ds.MinStart = d.varint()
		ds.MaxStart = ds.MinStart + d.offset()
		ds.MaxEnd = ds.MinStart + d.offset()
		ds.Profiles = d.offset()
		for range d.count(1) {
			ds.Types = append(ds.Types, d.string())
		}
		for i := range ds.sections {
			ds.sections[i] = d.located(size)
		}
		for i := range ds.regions {
			r := span{d.uvarint(), d.uvarint()}
			if d.err == nil && (r.at > size || r.length > size-r.at) {
				d.fail(fmt.Errorf("region at %d of %d bytes is outside the file of %d", r.at, r.length, size))
			}
			ds.regions[i] = r
		}
		f.datasets = append(f.datasets, ds)
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
	b := catalog.Block{ID: f.id.String(), Level: f.level, Blob: blobName(f.id, f.level), Size: size, Created: f.created}
	for _, ds := range f.datasets {
		b.Datasets = append(b.Datasets, ds.Dataset)
	}
	return b
}
