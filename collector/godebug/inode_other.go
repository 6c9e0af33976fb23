//go:build !unix

package godebug

import "io/fs"

// inode is 0: this system's files have no numbers that os tells.
func inode(fs.FileInfo) uint64 { return 0 }
