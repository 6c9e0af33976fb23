//go:build linux || darwin || freebsd

package collector

import (
	"fmt"
	"syscall"
)

// diskSpace returns how many bytes this user may still write to the file system of dir, and how many it has.
func diskSpace(dir string) (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("ask for free space in %s: %w", dir, err)
	}
	size := int64(st.Bsize)
	return int64(st.Bavail) * size, int64(st.Blocks) * size, nil
}
