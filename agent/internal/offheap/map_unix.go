//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package offheap

import "syscall"

// mapBytes maps n zeroed bytes, or returns nil where the system refuses.
func mapBytes(n int) []byte {
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return b
}

func unmapBytes(b []byte) {
	// Munmap fails only for a range that is not mapped, and ours is: there is nothing to do about an error.
	_ = syscall.Munmap(b)
}
