// Package offheap allocates slices of pointer-free values outside the Go heap where the system allows it.
//
// The agent's buffers live here because the garbage collector paces itself by the heap's size: a megabyte of the agent's would
// change when a small program's collections run. On systems without an anonymous mmap they are ordinary slices.
//
// Invariant: the element type holds no pointers (Make checks it). Not safe for concurrent use. Imports only the standard library.
package offheap

import (
	"reflect"
	"unsafe"
)

// Slice is a slice of n zeroed values. The zero Slice is empty.
type Slice[T any] struct {
	vals []T
	raw  []byte // the mapping; nil where vals is on the heap
}

// Make returns n zeroed values. It panics where T holds pointers: the garbage collector would not see them.
func Make[T any](n int) Slice[T] {
	var zero T
	if hasPointers(reflect.TypeOf(zero)) {
		panic("offheap: element type holds pointers")
	}
	if n <= 0 {
		return Slice[T]{}
	}
	if raw := mapBytes(n * int(unsafe.Sizeof(zero))); raw != nil {
		return Slice[T]{vals: unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), n), raw: raw}
	}
	return Slice[T]{vals: make([]T, n)}
}

// All returns the values. They are invalid after Release.
func (s *Slice[T]) All() []T { return s.vals }

// Len returns the number of values.
func (s *Slice[T]) Len() int { return len(s.vals) }

// Release gives the memory back and empties s. It may be called twice.
func (s *Slice[T]) Release() {
	if s.raw != nil {
		unmapBytes(s.raw)
	}
	*s = Slice[T]{}
}

func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	default:
		return t.Kind() > reflect.Complex128 // everything after the numeric kinds, bar arrays and structs
	}
}
