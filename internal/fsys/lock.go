package fsys

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrLocked says that another process, or another part of this one, holds a lock.
var ErrLocked = errors.New("locked by another process")

// Lock takes the lock file at path, which is created where it is missing and never removed (removing it would let two holders lock two
// files of one name). It does not wait: a lock that is held yields an error that wraps ErrLocked. The lock ends with Close or with the
// process, kill -9 included.
func Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
