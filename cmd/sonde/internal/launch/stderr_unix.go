//go:build unix && !linux

package launch

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// stderr is both sides of what the program gets for its standard error.
type stderr struct {
	ours    *os.File
	theirs  int
	packets bool // false: reads return several writes at once
}

// openStderr makes a pipe.
func openStderr(*os.File) (*stderr, error) {
	var p [2]int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p[:]); err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	unix.CloseOnExec(p[0])
	unix.CloseOnExec(p[1])
	if err := unix.SetNonblock(p[0], true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &stderr{ours: os.NewFile(uintptr(p[0]), "stderr"), theirs: p[1]}, nil
}

func (e *stderr) resize(*os.File) {}

// resetSignal does nothing: os/signal has done what can be done.
func resetSignal(syscall.Signal) {}
