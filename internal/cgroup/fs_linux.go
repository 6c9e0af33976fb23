package cgroup

import "golang.org/x/sys/unix"

// Is reports whether dir is in a file system of cgroups: the kernel makes its files.
func Is(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	return st.Type == unix.CGROUP_SUPER_MAGIC || st.Type == unix.CGROUP2_SUPER_MAGIC
}
