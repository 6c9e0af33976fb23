//go:build unix

package godebug

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFollowPipe has what is no log among the logs: a named pipe that nobody writes to, a device, links in a circle.
func TestFollowPipe(t *testing.T) {
	dir, logs := filepath.Join(t.TempDir(), "not", "made"), t.TempDir()
	s := &sinks{}
	f := followers(t, dir, s, File{Path: filepath.Join(logs, "*.log"), Format: FormatPlain, Service: "cart"})
	for _, err := range []error{
		os.WriteFile(filepath.Join(logs, "z.log"), nil, 0o600),
		syscall.Mkfifo(filepath.Join(logs, "pipe.log"), 0o600),
		os.Symlink("/dev/zero", filepath.Join(logs, "device.log")),
		os.Symlink("loop.log", filepath.Join(logs, "loop.log")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Round(t.Context(), time.Now())
	if err := os.WriteFile(filepath.Join(logs, "z.log"), []byte(cycle(1)), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Round(t.Context(), time.Now())
	if got := s.took(); len(got) != 1 {
		t.Errorf("took %v, want one cycle", got)
	}
	if _, err := os.Stat(filepath.Join(dir, positionsFile)); err != nil {
		t.Errorf("the positions are not kept: %v", err)
	}
}
