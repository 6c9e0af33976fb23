// Package spool is a queue of pushes on disk: what a sidecar has taken and its collector does not have yet.
//
// It owns a directory of append-only segment files, described in FORMAT.md. Records are gathered while the ones before are written (group commit),
// written with one write and one sync, and only then is Append done: they survive kill -9 and power loss. They are read back in the order in which they were
// appended; a segment goes when all of it is done, or, being the oldest, when there would be more bytes than allowed. What is dropped so is counted by
// instance, and the account, which says who lost how much, is itself a record.
//
// Invariants:
//   - What Append took is read, or counted as dropped, whatever happens to the process in between; where it was killed it may be read twice.
//   - A file is written once, from its start to its end. What a failed write or sync leaves behind is never written over and never read in the same life.
//   - Nothing read from a file is trusted before its checksum; the header's covers where it stands, so that no record can pose as another.
//
// All methods but Read are safe for concurrent use; Read is called by one goroutine. The package imports internal/fsys and the standard library's.
package spool
