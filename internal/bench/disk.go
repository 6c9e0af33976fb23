//go:build unix

package bench

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk returns the bytes of all files below dir, and what they and the folders take on disk as du counts it.
func Disk(t testing.TB, dir string) (bytes, allocated int64) {
	t.Helper()
	add := func(d fs.DirEntry) error {
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			bytes += info.Size()
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			allocated += st.Blocks * 512
		}
		return nil
	}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			err = add(d)
		}
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile: it takes nothing
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes, allocated
}
