package peers

import (
	"encoding/binary"
	"errors"
)

// errWire says that bytes are not a protobuf message.
var errWire = errors.New("not a protobuf message")

// field is one field of a protobuf message: a number, or bytes that lie in the message.
type field struct {
	number int
	wire   byte // 0 varint, 1 fixed64, 2 bytes, 5 fixed32
	value  uint64
	bytes  []byte
}

// next cuts the first field off b.
func next(b []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return f, nil, errWire
	}
	b = b[n:]
	f.number, f.wire = int(tag>>3), byte(tag&7)
	switch f.wire {
	case 0:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, nil, errWire
		}
		return f, b[n:], nil
	case 1:
		if len(b) < 8 {
			return f, nil, errWire
		}
		f.value = binary.LittleEndian.Uint64(b)
		return f, b[8:], nil
	case 2:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return f, nil, errWire
		}
		f.bytes = b[n : n+int(size)]
		return f, b[n+int(size):], nil
	case 5:
		if len(b) < 4 {
			return f, nil, errWire
		}
		f.value = uint64(binary.LittleEndian.Uint32(b))
		return f, b[4:], nil
	}
	return f, nil, errWire // groups too, which nobody sends
}

// each calls fn for the fields of a message.
func each(b []byte, fn func(f field) error) error {
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		if err := fn(f); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// appendBytes appends a field of bytes.
func appendBytes(b []byte, number int, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(number)<<3|2)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// appendVarint appends a field that is a number.
func appendVarint(b []byte, number int, value uint64) []byte {
	b = binary.AppendUvarint(b, uint64(number)<<3)
	return binary.AppendUvarint(b, value)
}

// appendStatus appends a google.rpc.Status. Where a retry may cure it, retry (seconds) tells when, as OTLP wants it told.
func appendStatus(b []byte, code int, message string, retry int) []byte {
	b = appendVarint(b, 1, uint64(code))
	b = appendBytes(b, 2, []byte(message))
	if retry > 0 {
		delay := appendVarint(nil, 1, uint64(retry))
		info := appendBytes(nil, 1, delay)
		detail := appendBytes(nil, 1, []byte("type.googleapis.com/google.rpc.RetryInfo"))
		b = appendBytes(b, 3, appendBytes(detail, 2, info))
	}
	return b
}
