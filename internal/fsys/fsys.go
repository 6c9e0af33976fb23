package fsys

import (
	"io"
	"io/fs"
)

// FS is a file system. Paths are the operating system's. Errors are *fs.PathError or *os.LinkError, so that errors.Is finds
// fs.ErrNotExist and the errno.
type FS interface {
	// Create opens a new file for writing and reading, readable by the owner alone; one that exists is truncated.
	Create(path string) (File, error)
	// Open opens a file for reading.
	Open(path string) (File, error)
	// Rename moves a file within one file system and replaces what had the new name.
	Rename(oldPath, newPath string) error
	// Remove removes a file or an empty directory.
	Remove(path string) error
	// MkdirAll creates a directory, for the owner alone, and those above it that are missing.
	MkdirAll(path string) error
	// ReadDir returns what is in a directory, sorted by name.
	ReadDir(path string) ([]fs.DirEntry, error)
	// Stat describes a file or a directory.
	Stat(path string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
}

// File is an open file. Write appends to what was written before.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Sync makes the bytes written so far durable. After an error the bytes are lost for good: the kernel may have dropped them and
	// report success to the next Sync, so the file has to be written anew, never synced again.
	Sync() error
	// Size returns the length in bytes.
	Size() (int64, error)
}
