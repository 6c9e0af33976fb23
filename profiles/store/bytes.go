package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// castagnoli is the polynomial of every checksum in the format.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

var errShort = errors.New("data is cut short")

// decoder reads varints and bytes from a section. The first error sticks; after it every read yields zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errVarint)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// varints fills out with zigzag varints. It is the inner loop of reading: most numbers take one or two bytes, and no call is made for them.
func (d *decoder) varints(out []int64) {
	b, at := d.b, 0
	for i := range out {
		var u uint64
		if at+1 < len(b) && b[at+1]&b[at]&0x80 == 0 {
			if u = uint64(b[at]); u < 0x80 {
				at++
			} else {
				u = u&0x7f | uint64(b[at+1])<<7
				at += 2
			}
		} else {
			var n int
			if u, n = binary.Uvarint(b[at:]); n <= 0 {
				d.fail(errVarint)
				return
			}
			at += n
		}
		out[i] = int64(u>>1) ^ -int64(u&1)
	}
	d.b = b[at:]
}

// uvarints fills out with varints of at most limit, as fast as varints does.
func (d *decoder) uvarints(out []uint32, limit uint64) {
	b, at := d.b, 0
	for i := range out {
		var u uint64
		if at < len(b) && b[at] < 0x80 {
			u = uint64(b[at])
			at++
		} else {
			var n int
			if u, n = binary.Uvarint(b[at:]); n <= 0 {
				d.fail(errVarint)
				return
			}
			at += n
		}
		if u > limit {
			d.fail(fmt.Errorf("number %d is above %d", u, limit))
			return
		}
		out[i] = uint32(u)
	}
	d.b = b[at:]
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (d *decoder) varint128() int128 {
	v, n := varint128(d.b)
	if n <= 0 {
		d.fail(errVarint)
		return int128{}
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.fail(fmt.Errorf("number %d does not fit 32 bits", v))
		return 0
	}
	return uint32(v)
}

// fixed32 reads four bytes, little endian.
func (d *decoder) fixed32() uint32 {
	if len(d.b) < 4 {
		d.fail(errShort)
		return 0
	}
	v := binary.LittleEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail(errShort)
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail(errShort)
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string { return string(d.bytes(d.uvarint())) }

// count reads a number of things that take at least size bytes each in the rest of the section, so that what is allocated for
// them is bounded by what was read.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail(fmt.Errorf("count %d is more than %d bytes can hold", n, len(d.b)))
		return 0
	}
	return int(n)
}

// done returns the first error, or one that says that bytes are left.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	return d.err
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// part is a run of bytes in a file with its own checksum: a section, a head, one column of a chunk.
type part struct {
	stored, raw uint32
	crc         uint32 // CRC32C of the stored bytes
	codec       byte
}

// How the bytes of a part are stored.
const (
	codecNone = iota
	codecZstd
	codecCount
)

const (
	// maxPart bounds the raw size of a part. The writer cuts chunks far below it, and refuses a symbol section above it.
	maxPart = 256 << 20
	// maxRatio is the best that zstd can do: a block of 128 KiB in 4 bytes. A part that claims more lies.
	maxRatio = 32 << 10
)

func appendPart(b []byte, p part, version int) []byte {
	if version == version1 {
		b = binary.AppendUvarint(b, uint64(p.stored))
		b = binary.AppendUvarint(b, uint64(p.raw))
		return binary.LittleEndian.AppendUint32(b, p.crc)
	}
	b = binary.AppendUvarint(b, uint64(p.stored)<<2|uint64(p.codec))
	if p.stored == 0 {
		return b
	}
	if p.codec != codecNone {
		b = binary.AppendUvarint(b, uint64(p.raw))
	}
	return binary.LittleEndian.AppendUint32(b, p.crc)
}

func (d *decoder) part(version int) (p part) {
	if version == version1 {
		p = part{stored: d.uint32(), raw: d.uint32()}
		p.crc = d.fixed32()
		if p.stored != p.raw {
			p.codec = codecZstd
		}
	} else {
		x := d.uvarint()
		if p.codec = byte(x & 3); p.codec >= codecCount || x>>2 > maxPart {
			d.fail(fmt.Errorf("part has codec %d and %d stored bytes", p.codec, x>>2))
			return part{}
		}
		p.stored = uint32(x >> 2)
		p.raw = p.stored
		if p.stored == 0 {
			if p.codec != codecNone {
				d.fail(errors.New("part of no bytes is compressed"))
			}
			return part{}
		}
		if p.codec != codecNone {
			p.raw = d.uint32()
		}
		p.crc = d.fixed32()
	}
	if d.err == nil && (p.raw > maxPart || p.stored > p.raw || uint64(p.raw) > uint64(p.stored)*maxRatio) {
		d.fail(fmt.Errorf("part has %d stored and %d raw bytes", p.stored, p.raw))
	}
	return p
}

// effort is how hard a part is compressed.
type effort int

const (
	effortSegment effort = iota // lives for a minute: no entropy coding, which costs more than it saves there
	effortBlock                 // of an open window: will be merged into another within the hour
	effortLast                  // of a closed window: lives for days
	effortSymbols               // of a closed window, what it holds once: symbols
	effortCount
	effortNone effort = -1
)

// compressor appends parts to a buffer. Not safe for concurrent use.
type compressor struct {
	encoders [effortCount]*zstd.Encoder // made when first used
	tmp      []byte
}

func (c *compressor) encoder(e effort) *zstd.Encoder {
	if c.encoders[e] == nil {
		speed := [effortCount]zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression}[e]
		// The part carries a CRC32C of its own. Hardly a part is larger than the window, of which an encoder keeps twice as much in memory.
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithWindowSize(1<<20),
			zstd.WithLowerEncoderMem(true), zstd.WithNoEntropyCompression(e == effortSegment))
		if err != nil {
			panic(err) // the options are constants
		}
		c.encoders[e] = enc
	}
	return c.encoders[e]
}

// A part below minCompress bytes is not compressed, in a segment below minSegment: a call costs some microseconds. Nor is one that does not save an eighth.
const (
	minCompress = 96
	minSegment  = 1024
)

func (c *compressor) append(dst, raw []byte, e effort) ([]byte, part) {
	at := len(dst)
	if len(raw) >= minCompress && e != effortNone && (e != effortSegment || len(raw) >= minSegment) {
		c.tmp = c.encoder(e).EncodeAll(raw, c.tmp[:0])
		if len(c.tmp) < len(raw)-len(raw)/8 {
			dst = append(dst, c.tmp...)
			return dst, part{uint32(len(c.tmp)), uint32(len(raw)), checksum(dst[at:]), codecZstd}
		}
	}
	dst = append(dst, raw...)
	return dst, part{stored: uint32(len(raw)), raw: uint32(len(raw)), crc: checksum(dst[at:])}
}

// decompressor is shared by all readers: DecodeAll may be called concurrently. It never writes beyond the capacity it is given.
var decompressor = func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(maxPart))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}()

var errChecksum = errors.New("checksum does not match")

// open verifies stored against p and returns the raw bytes: in buf, or stored itself where it is not compressed.
func (p part) open(stored, buf []byte) ([]byte, error) {
	if len(stored) != int(p.stored) {
		return nil, errShort
	}
	if got := checksum(stored); got != p.crc {
		return nil, fmt.Errorf("%w: CRC32C is %08x, want %08x", errChecksum, got, p.crc)
	}
	if p.codec == codecNone {
		return stored, nil
	}
	raw, err := decompressor.DecodeAll(stored, slices.Grow(buf[:0], int(p.raw)))
	if err != nil {
		return nil, fmt.Errorf("decompress part: %w", err)
	}
	if len(raw) != int(p.raw) {
		return nil, fmt.Errorf("decompress part: %d bytes, want %d", len(raw), p.raw)
	}
	return raw, nil
}

// openInto is open with a buffer that grows. A part that is not compressed leaves it alone: the bytes are the caller's then.
func (p part) openInto(stored []byte, buf *[]byte) ([]byte, error) {
	raw, err := p.open(stored, *buf)
	if err == nil && p.codec != codecNone {
		*buf = raw
	}
	return raw, err
}
