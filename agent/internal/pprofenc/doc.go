// Package pprofenc turns the runtime's cumulative records (allocations, mutex and block contention) into pprof profiles of
// what happened since the previous capture.
//
// It owns the subtraction and a hand-written encoder of the few pprof messages that these profiles need. Symbols are
// looked up once per program counter and kept without pointers, up to a number of them, and buffers are reused, because what an agent
// allocates shifts the garbage collector of the program it lives in. The big buffers are outside the Go heap
// (package offheap), within an account that says how much they may hold together; profiles are compressed as they are written.
//
// Invariant: the sum of all profiles of one Heap, Mutex or Block since its Baseline equals what the runtime counted since then,
// scaled as runtime/pprof scales it. Stacks are keyed by their addresses and, for the heap, the object size.
//
// The types here are not safe for concurrent use: one goroutine captures. It imports the standard library and offheap only.
package pprofenc
