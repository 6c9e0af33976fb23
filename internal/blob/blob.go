package blob

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// ErrNotFound says that no blob has the name.
var ErrNotFound = errors.New("blob not found")

// Store keeps blobs. A name is never written twice with different bytes. Safe for concurrent use.
type Store interface {
	// Put stores data under name. When it returns nil the blob survives kill -9 and power loss, its directory entries included; when
	// it returns an error no blob of that name is visible, now or after a restart. data is not kept.
	Put(ctx context.Context, name string, data []byte) error
	// Open returns the blob for ranged reads. The error wraps ErrNotFound if there is none.
	Open(ctx context.Context, name string) (Reader, error)
	// Delete removes the blob; a missing one is not an error.
	Delete(ctx context.Context, name string) error
	// List yields the blobs whose name starts with prefix, in name order.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// Reader reads ranges of one blob. Safe for concurrent use; Close may be called twice.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Info describes a stored blob.
type Info struct {
	Name    string
	Size    int64
	ModTime time.Time
}
