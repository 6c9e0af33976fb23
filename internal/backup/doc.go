// Package backup copies a data directory while it is in use, and puts a copy back.
//
// A backup is the catalogue as of one moment, the blobs that it lists, the time series of a moment soon after, and a manifest with the SHA-256 of every file. Blobs never change, so the moment is that of the
// catalogue's copy alone; until all are read the catalogue holds its garbage back. As a directory a backup may be carried on where it was broken off, and made again into
// the same place: blobs that are there are not read again. A backup is whole if and only if it has its manifest, which is written last.
//
// The package imports internal/blob, internal/catalog and internal/fsys. Host is safe for concurrent use.
package backup
