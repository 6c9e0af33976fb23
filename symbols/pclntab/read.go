package pclntab

import (
	"encoding/binary"
	"io"
	"sync"
)

// A table keeps numPages pages of pageSize bytes of its file: enough that the pages which a lookup comes back to stay.
const (
	pageSize = 4096
	numPages = 32
)

// pages reads a file through a small cache. Reads outside of the file, and those that fail, report false.
type pages struct {
	r       io.ReaderAt
	size    uint64
	scanned uint64 // bytes that scan has read
	slot    [numPages]*page
}

type page struct {
	number uint64
	n      int // bytes of it that the file has
	data   [pageSize]byte
}

var freePages = sync.Pool{New: func() any { return new(page) }}

// maxScan bounds how many bytes are looked through to find the table, and for each name: a sparse file can claim any size.
const maxScan = 2 << 30

// view returns the bytes of the file from off to the end of its page, at least one; nil outside of the file. They are valid until the next call.
func (p *pages) view(off uint64) []byte {
	if off >= p.size {
		return nil
	}
	number := off / pageSize
	s := &p.slot[number%numPages]
	if *s == nil {
		*s = freePages.Get().(*page)
		(*s).n = 0
	}
	pg := *s
	if pg.number != number || pg.n == 0 {
		pg.number = number
		pg.n, _ = p.r.ReadAt(pg.data[:min(pageSize, p.size-number*pageSize)], int64(number*pageSize))
	}
	at := int(off % pageSize)
	if at >= pg.n {
		return nil
	}
	return pg.data[at:pg.n]
}

// trim gives the pages back.
func (p *pages) trim() {
	for i, pg := range p.slot {
		if pg != nil {
			freePages.Put(pg)
			p.slot[i] = nil
		}
	}
}

// read fills dst from off.
func (p *pages) read(dst []byte, off uint64) bool {
	for len(dst) > 0 {
		b := p.view(off)
		if b == nil {
			return false
		}
		n := copy(dst, b)
		dst, off = dst[n:], off+uint64(n)
	}
	return true
}

// space is a file with the byte order and word size of its program.
type space struct {
	pages
	order binary.ByteOrder
	word  uint64 // bytes of a pointer: 4 or 8
}

func (s *space) u32(off uint64) (uint32, bool) {
	var b [4]byte
	if v := s.view(off); len(v) >= 4 {
		return s.order.Uint32(v), true
	}
	ok := s.read(b[:], off)
	return s.order.Uint32(b[:]), ok
}

// uptr reads a word of the program.
func (s *space) uptr(off uint64) (uint64, bool) {
	var b [8]byte
	ok := s.read(b[:s.word], off)
	return s.pointer(b[:s.word]), ok
}

func (s *space) pointer(b []byte) uint64 {
	if s.word == 4 {
		return uint64(s.order.Uint32(b))
	}
	return s.order.Uint64(b)
}

func (s *space) putPointer(b []byte, v uint64) {
	if s.word == 4 {
		s.order.PutUint32(b, uint32(v))
	} else {
		s.order.PutUint64(b, v)
	}
}

// cstring reads the string that ends in a zero byte; longer than max it is cut.
func (s *space) cstring(off uint64, max int) (string, bool) {
	var out []byte
	for {
		b := s.view(off)
		if b == nil {
			return "", false
		}
		for i, c := range b {
			if c == 0 {
				if out == nil {
					return string(b[:i]), true
				}
				return string(append(out, b[:i]...)), true
			}
			if len(out)+i == max {
				return string(append(out, b[:i]...)), true
			}
		}
		out = append(out, b...)
		off += uint64(len(b))
	}
}

// varints reads variable-length numbers one after the other, for at most *budget bytes.
type varints struct {
	s      *space
	off    uint64
	b      []byte
	budget *int
}

func (v *varints) next() (uint32, bool) {
	var x uint32
	for shift := 0; shift < 35; shift += 7 {
		if len(v.b) == 0 {
			v.b = v.s.view(v.off)
			if v.b == nil {
				return 0, false
			}
			v.off += uint64(len(v.b))
		}
		if *v.budget--; *v.budget < 0 {
			return 0, false
		}
		c := v.b[0]
		v.b = v.b[1:]
		x |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return x, true
		}
	}
	return 0, false
}

// scan calls f with consecutive pieces of length bytes from off, of at most 64 KiB, each starting with the last overlap bytes of the one before it,
// until f returns false. base is the piece's place in the file. It does not disturb the cache.
func (p *pages) scan(off, length uint64, overlap int, f func(base uint64, b []byte) bool) {
	if off >= p.size {
		return
	}
	length = min(length, p.size-off)
	buf := scanBuffers.Get().(*[64 << 10]byte)
	defer scanBuffers.Put(buf)
	kept := 0
	for length > 0 && p.scanned < maxScan {
		n, _ := p.r.ReadAt(buf[kept:kept+int(min(uint64(len(buf)-kept), length))], int64(off))
		if n <= 0 {
			return
		}
		p.scanned += uint64(n)
		if !f(off-uint64(kept), buf[:kept+n]) {
			return
		}
		off, length = off+uint64(n), length-uint64(n)
		all := buf[:kept+n]
		kept = min(overlap, len(all))
		copy(buf[:], all[len(all)-kept:])
	}
}

var scanBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}
