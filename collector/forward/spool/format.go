package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/sonde-io/sonde/internal/fsys"
)

const (
	magic      = "SNDSPL01"
	fileHeader = len(magic) + 8
	recHeader  = 24
	suffix     = ".spool"
)

// kind is what a record holds.
type kind uint8

const (
	kindProcess kind = 1 + iota
	kindPush
	kindGaps
	kindCursor
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func fileName(n uint64) string { return fmt.Sprintf("%016x%s", n, suffix) }

// header is that of a record.
type header struct {
	kind   kind
	length uint32
	sum    uint32 // of the payload
	time   int64  // Unix ms
}

// headerSum ties a header to its place.
func headerSum(file uint64, at int64, h []byte) uint32 {
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:8], file)
	binary.LittleEndian.PutUint64(place[8:], uint64(at))
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, h[4:recHeader])
}

// appendRecord appends a record that will stand at offset at of a file.
func appendRecord(dst []byte, file uint64, at int64, k kind, time int64, payload func([]byte) []byte) []byte {
	from := len(dst)
	dst = append(dst, make([]byte, recHeader)...)
	dst = payload(dst)
	h, body := dst[from:from+recHeader], dst[from+recHeader:]
	binary.LittleEndian.PutUint32(h[4:], uint32(len(body)))
	binary.LittleEndian.PutUint32(h[8:], crc32.Checksum(body, castagnoli))
	h[12] = byte(k)
	binary.LittleEndian.PutUint64(h[16:], uint64(time))
	binary.LittleEndian.PutUint32(h[0:], headerSum(file, at, h))
	return dst
}

// parseHeader reads the header at offset at; ok says that it is one.
func parseHeader(b []byte, file uint64, at int64) (h header, ok bool) {
	if len(b) < recHeader || binary.LittleEndian.Uint32(b) != headerSum(file, at, b) {
		return header{}, false
	}
	return header{kind: kind(b[12]), length: binary.LittleEndian.Uint32(b[4:]), sum: binary.LittleEndian.Uint32(b[8:]), time: int64(binary.LittleEndian.Uint64(b[16:]))}, true
}

// scanner reads the records of one file up to end.
type scanner struct {
	f       fsys.File
	file    uint64
	at, end int64
	buf     []byte
	off     int64 // buf[0]'s offset in the file
	damaged int64 // bytes that were skipped before a record
	torn    int64 // bytes at the end that hold no record
}

// errSum says that a payload is not what was written.
var errSum = errors.New("wrong checksum")

// readAhead is how much of a file is read at once where it is scanned.
const readAhead = 64 << 10

// window returns n bytes at offset at, fewer at the end of the file. They are valid until the next call.
func (s *scanner) window(at int64, n int) ([]byte, error) {
	if at >= s.off && at+int64(n) <= s.off+int64(len(s.buf)) {
		return s.buf[at-s.off:][:n], nil
	}
	n = int(min(int64(n), s.end-at))
	want := int(min(int64(max(n, readAhead)), s.end-at))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.off = s.buf[:want], at
	if got, err := s.f.ReadAt(s.buf, at); err != nil && (err != io.EOF || got < want) {
		s.buf = s.buf[:0]
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return s.buf[:n], nil
}

// next returns the header of the next record and where its payload starts. At the end the error is io.EOF.
func (s *scanner) next() (h header, payload int64, err error) {
	for from := s.at; ; s.at++ {
		if s.end-s.at < recHeader {
			s.torn += s.end - from
			s.at = s.end
			return h, 0, io.EOF
		}
		b, err := s.window(s.at, recHeader)
		if err != nil {
			return h, 0, err
		}
		h, ok := parseHeader(b, s.file, s.at)
		payload := s.at + recHeader
		if !ok || payload+int64(h.length) > s.end {
			continue
		}
		s.damaged += s.at - from
		s.at = payload + int64(h.length)
		return h, payload, nil
	}
}

// payload returns the payload of a record, checked. It is the caller's.
func (s *scanner) payload(h header, at int64) ([]byte, error) {
	b := make([]byte, h.length) // within the file: next looked
	if n, err := s.f.ReadAt(b, at); n < len(b) {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != h.sum {
		return nil, errSum
	}
	return b, nil
}

// openFile opens a file and checks how it begins. A file whose header is not whole has nothing in it: at is its end.
func openFile(fsy fsys.FS, path string, number uint64) (s *scanner, err error) {
	f, err := fsy.Open(path)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		f.Close()
		return nil, err
	}
	s = &scanner{f: f, file: number, at: int64(fileHeader), end: size}
	if size < int64(fileHeader) {
		s.at, s.torn = size, size
	}
	return s, nil
}

func appendFileHeader(dst []byte, number uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, magic...), number)
}

func appendSection[T string | []byte](dst []byte, b T) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// section cuts the first section off b.
func section(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// sections cuts n sections off b.
func sections(b []byte, n int) (out [][]byte, rest []byte, ok bool) {
	for range n {
		var s []byte
		if s, b, ok = section(b); !ok {
			return nil, nil, false
		}
		out = append(out, s)
	}
	return out, b, true
}
