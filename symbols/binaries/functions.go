package binaries

import (
	"fmt"
	"os"
	"slices"

	"github.com/sonde-io/sonde/symbols/pclntab"
)

// Functions opens the function table of the Go binary with a build id: of a copy, or of a local process's own file while that is there. The caller closes it. The error wraps
// os.ErrNotExist where neither is, and what pclntab says of a binary that is no Go program or of a Go version that it does not know. Unlike a frame's question it makes no binary wanted.
func (s *Store) Functions(id string) (*pclntab.Table, error) {
	s.mu.Lock()
	path, copied := s.candidates[id], s.files[id]
	s.mu.Unlock()
	if copied != nil {
		t, err := pclntab.Open(copied.path)
		if err != nil {
			return nil, fmt.Errorf("open functions of build %s: %w", id, err)
		}
		return t, nil
	}
	if path == "" {
		return nil, fmt.Errorf("open functions of build %s: no such binary: %w", id, os.ErrNotExist)
	}
	// The path may be another file's by now: a process ended, and its id was given to the next.
	f, _, ids, err := identifyFile(path)
	if err != nil {
		return nil, fmt.Errorf("open functions of build %s: %w: %w", id, os.ErrNotExist, err)
	}
	defer f.Close()
	if !slices.Contains(ids.all(), id) {
		return nil, fmt.Errorf("open functions of build %s: %s is another binary now: %w", id, path, os.ErrNotExist)
	}
	t, err := pclntab.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd())) // the file that was looked at, whatever is at its path; only Linux has local processes
	if err != nil {
		return nil, fmt.Errorf("open functions of build %s: %w", id, err)
	}
	return t, nil
}
