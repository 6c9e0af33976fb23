package godebug

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// position is how far a log was read and handed over, and what its lines' times count from.
type position struct {
	ID      string `json:"id,omitempty"`    // of the file's first bytes
	Head    int    `json:"head,omitempty"`  // so many of them
	Inode   uint64 `json:"inode,omitempty"` // of the file
	Offset  int64  `json:"offset,omitempty"`
	Cursor  string `json:"cursor,omitempty"` // of journald
	Started int64  `json:"started,omitempty"`
	Sched   int64  `json:"sched,omitempty"`
	Cycle   int64  `json:"cycle,omitempty"`
	// What the last lines of gctrace and schedtrace told, in ms: less than that is told by a process that took the place of this one.
	GCAt    float64 `json:"gc_at,omitempty"`
	SchedAt float64 `json:"sched_at,omitempty"`
}

// positionsFile is the name of the file in the data directory.
const positionsFile = "logs.json"

// maxPositionsBytes bounds the file: some 10,000 positions.
const maxPositionsBytes = 4 << 20

// loadPositions reads the positions; a file that is not there, or not readable as one, has none.
func loadPositions(dir string) (map[string]position, error) {
	f, err := os.Open(filepath.Join(dir, positionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]position{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read positions of logs: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxPositionsBytes {
		return nil, fmt.Errorf("read positions of logs: %s is longer than %d bytes", f.Name(), maxPositionsBytes)
	}
	var m map[string]position
	if err := json.NewDecoder(f).Decode(&m); err != nil {
		return nil, fmt.Errorf("read positions of logs: %s: %w", f.Name(), err)
	}
	if m == nil {
		m = map[string]position{}
	}
	return m, nil
}

// savePositions replaces the file. It is not synced: what was read again after a power loss is known by its time.
func savePositions(dir string, m map[string]position) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write positions of logs: %w", err)
	}
	file := filepath.Join(dir, positionsFile)
	if err := os.WriteFile(file+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("write positions of logs: %w", err)
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		return fmt.Errorf("write positions of logs: %w", err)
	}
	return nil
}
