package pprofmerge

import (
	"encoding/binary"
	"errors"
)

var errCorrupt = errors.New("decode profile: corrupt protobuf")

// field is one field of a message: v holds a varint, p a length-delimited value.
type field struct {
	num int
	typ int
	v   uint64
	p   []byte
}

// The wire types of protobuf that pprof uses.
const (
	varint = 0
	bytesT = 2
)

// next cuts the first field off p.
func next(p []byte) (f field, rest []byte, err error) {
	key, n := binary.Uvarint(p)
	if n <= 0 || key>>3 == 0 || key>>3 > 1<<20 {
		return f, nil, errCorrupt
	}
	p = p[n:]
	f.num, f.typ = int(key>>3), int(key&7)
	switch f.typ {
	case varint:
		f.v, n = binary.Uvarint(p)
		if n <= 0 {
			return f, nil, errCorrupt
		}
		return f, p[n:], nil
	case bytesT:
		size, n := binary.Uvarint(p)
		if n <= 0 || size > uint64(len(p)-n) {
			return f, nil, errCorrupt
		}
		f.p = p[n : n+int(size)]
		return f, p[n+int(size):], nil
	default:
		return f, nil, errCorrupt
	}
}

// each calls fn for every field of the message p.
func each(p []byte, fn func(field) error) error {
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		if err := fn(f); err != nil {
			return err
		}
		p = rest
	}
	return nil
}

// numbers calls fn for the values of a repeated integer field, packed or not.
func (f field) numbers(fn func(uint64) error) error {
	if f.typ == varint {
		return fn(f.v)
	}
	for p := f.p; len(p) > 0; {
		v, n := binary.Uvarint(p)
		if n <= 0 {
			return errCorrupt
		}
		if err := fn(v); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func appendVarint(b []byte, num int, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(num)<<3|varint)
	return binary.AppendUvarint(b, v)
}

func appendBytes(b []byte, num int, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(num)<<3|bytesT)
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}
