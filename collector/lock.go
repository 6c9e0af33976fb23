package collector

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/sonde-io/sonde/internal/fsys"
)

// LockData takes the lock of the data directory dir until the result is closed, or fails at once where another process has it. What is changed in a data
// directory is changed under it.
func LockData(dir string) (io.Closer, error) {
	lock, err := fsys.Lock(filepath.Join(dir, LockFile))
	if errors.Is(err, fsys.ErrLocked) {
		return nil, &Error{fmt.Errorf("open data directory %s: another collector uses it", dir), "stop the other sonde serve, or give this one a directory of its own with --data"}
	}
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	return lock, nil
}
