// Package cputime tells how much CPU the process and the calling thread have used, without any cost to speak of.
//
// Thread returns the thread's own time on Linux and Windows, and the wall clock elsewhere, which is never less than the CPU time
// of one thread: an agent that budgets itself by it stays below its budget. Callers lock their goroutine to its thread.
// Safe for concurrent use. Imports only the standard library.
package cputime
