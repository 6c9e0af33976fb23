// Package pclntab names what the addresses of a Go program stand for, from the table that the linker puts into every Go binary for the
// runtime's own tracebacks: functions, files, lines, inlined calls and the depth of the stack. It needs neither a symbol table nor DWARF, so it
// works on stripped, position-independent, trimmed and cgo binaries, of Go 1.18 to 1.26 and any architecture with an ELF linker.
//
// Addresses are link-time virtual addresses: of a position-independent program the caller subtracts where the kernel put it.
//
// A Table reads from the file what it needs and keeps at most 128 KiB of it; nothing is mapped, because a file that is truncated while it is
// mapped would kill the process. It caches no answers: callers that ask for the same pc again and again do that.
//
// Files are other people's, hostile ones included: every offset is checked, no length that was read decides how much is allocated, each
// answer has a bounded amount of work, and no input makes the package panic. A table that does not hold what the layout of its Go version says
// is refused rather than guessed at.
//
// A Table may be used concurrently. The package imports the standard library and symbols/build.
package pclntab
