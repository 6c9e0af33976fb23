package pclntab

import (
	"bytes"
	"strings"
)

// maxNames bounds the bytes of the table of names that EachName reads: a large program has 10 MiB.
const maxNames = 256 << 20

// EachName calls fn with the name of every function in the binary, those that are there only because they were put into others included, until fn returns false. Names come in no
// order that means anything, type arguments as Frame.Func has them. It reads the whole table of names: a few MiB.
func (t *Table) EachName(fn func(name string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.cus < t.names {
		return
	}
	t.im.scanned = 0
	var torn []byte // what the last piece ended in
	t.im.scan(t.names, min(t.cus-t.names, maxNames), 0, func(_ uint64, b []byte) bool {
		for len(b) > 0 {
			name, rest, whole := bytes.Cut(b, []byte{0})
			if len(torn)+len(name) > maxName {
				name, torn = nil, torn[:0] // no name, or padding
			}
			if !whole {
				torn = append(torn, name...)
				return true
			}
			if torn = append(torn, name...); len(torn) > 0 && !fn(string(torn)) {
				return false
			}
			torn, b = torn[:0], rest
		}
		return true
	})
}

// WithoutTypes leaves the type arguments out of a function's name, so that names of one function compare: profiles have [...] where tables of newer Go versions spell them out.
func WithoutTypes(name string) string {
	if !strings.Contains(name, "[") {
		return name
	}
	var b strings.Builder
	depth := 0
	for _, c := range []byte(name) {
		switch {
		case c == '[':
			depth++
		case c == ']' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String()
}
