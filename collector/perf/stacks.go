package perf

import (
	"encoding/binary"
	"unsafe"
)

// stacks adds up samples by stack. The zero value is empty.
type stacks struct {
	index  map[string]int // addresses, leaf first, kernel frames before the user's → index of values
	values []stackValue
	bytes  int // that it holds, about
	key    []byte
}

type stackValue struct {
	addrs string // 8 bytes each
	count int64
	nanos int64
}

// stackOverhead is about what a stack takes besides its addresses.
const stackOverhead = 96

// add adds count and nanos to the stack. It reports false, and adds nothing, where the stack is new and would take more than room bytes.
func (s *stacks) add(kernel, user []uint64, count, nanos int64, room int) (took int, ok bool) {
	s.key = s.key[:0]
	for _, pc := range kernel {
		s.key = binary.NativeEndian.AppendUint64(s.key, pc)
	}
	for _, pc := range user {
		s.key = binary.NativeEndian.AppendUint64(s.key, pc)
	}
	if i, ok := s.index[string(s.key)]; ok {
		s.values[i].count += count
		s.values[i].nanos += nanos
		return 0, true
	}
	took = len(s.key) + stackOverhead
	if took > room {
		return 0, false
	}
	if s.index == nil {
		s.index = map[string]int{}
	}
	addrs := string(s.key)
	s.index[addrs] = len(s.values)
	s.values = append(s.values, stackValue{addrs, count, nanos})
	s.bytes += took
	return took, true
}

// take returns what was added up and starts anew.
func (s *stacks) take() []stackValue {
	v := s.values
	*s = stacks{key: s.key}
	return v
}

// addresses appends the addresses of a stack to dst.
func (v *stackValue) addresses(dst []uint64) []uint64 {
	b := unsafe.Slice(unsafe.StringData(v.addrs), len(v.addrs))
	for ; len(b) >= 8; b = b[8:] {
		dst = append(dst, binary.NativeEndian.Uint64(b))
	}
	return dst
}
