// Package blob stores immutable blobs under slash-separated names: segments, blocks, later binaries and cores.
//
// The one implementation so far keeps them as files (Files, on fsys.FS); an S3-compatible one comes behind the same interface.
//
// Invariant: a blob is visible under its name whole or not at all, and once Put returned nil it survives kill -9 and power loss.
// A name is written once; it is never overwritten with other bytes.
//
// All of it is safe for concurrent use. One process writes a directory at a time (fsys.Lock is the caller's to take); any number
// may read it. The package imports the standard library and internal/fsys only.
package blob
