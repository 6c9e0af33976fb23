// Package offheap allocates slices of pointer-free values outside the Go heap where the system allows it.
//
// The agent's buffers live here because the garbage collector paces itself by the heap's size: a megabyte of the agent's would
// change when a small program's collections run. On systems without an anonymous mmap they are ordinary slices.
//
// Invariants: the element type holds no pointers (Make checks it), and the slices made on one Account never hold more than its limit together.
// Not safe for concurrent use. Imports only the standard library.
package offheap

import (
	"fmt"
	"reflect"
	"unsafe"
)

// Account bounds what the slices made on it hold together. The zero Account has no room; a nil one has no bound.
type Account struct {
	limit, used, peak int
}

// NewAccount returns an account of limit bytes.
func NewAccount(limit int) *Account { return &Account{limit: limit} }

// Used returns what the account's slices hold now, and the most that they ever held, in bytes.
func (a *Account) Used() (now, peak int) { return a.used, a.peak }

func (a *Account) take(n int) error {
	if a == nil {
		return nil
	}
	if n > a.limit-a.used {
		return &FullError{Want: n, Used: a.used, Limit: a.limit}
	}
	a.used += n
	a.peak = max(a.peak, a.used)
	return nil
}

// FullError says that an account has no room for Want more bytes.
type FullError struct{ Want, Used, Limit int }

func (e *FullError) Error() string {
	return fmt.Sprintf("%d kB wanted, %d of %d kB taken", e.Want>>10, e.Used>>10, e.Limit>>10)
}

// Slice is a slice of n zeroed values. The zero Slice is empty.
type Slice[T any] struct {
	vals []T
	raw  []byte // the mapping; nil where vals is on the heap
	acct *Account
}

// Make returns n zeroed values counted in acct, or a FullError where they do not fit in. It panics where T holds pointers: the garbage
// collector would not see them.
func Make[T any](acct *Account, n int) (Slice[T], error) {
	var zero T
	if hasPointers(reflect.TypeOf(zero)) {
		panic("offheap: element type holds pointers")
	}
	if n <= 0 {
		return Slice[T]{}, nil
	}
	size := n * int(unsafe.Sizeof(zero))
	if err := acct.take(size); err != nil {
		return Slice[T]{}, err
	}
	if raw := mapBytes(size); raw != nil {
		return Slice[T]{vals: unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), n), raw: raw, acct: acct}, nil
	}
	return Slice[T]{vals: make([]T, n), acct: acct}, nil
}

// All returns the values. They are invalid after Release.
func (s *Slice[T]) All() []T { return s.vals }

// Len returns the number of values.
func (s *Slice[T]) Len() int { return len(s.vals) }

// Release gives the memory back and empties s. It may be called twice.
func (s *Slice[T]) Release() {
	if s.acct != nil {
		s.acct.used -= len(s.vals) * int(unsafe.Sizeof(*new(T)))
	}
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
