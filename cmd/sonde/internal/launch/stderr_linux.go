package launch

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stderr is both sides of what the program gets for its standard error.
type stderr struct {
	ours   *os.File
	theirs int
	pty    bool
	// packets says that a read returns one write, or a page of a longer one.
	packets bool
}

// pipeBytes is the room of the pipe: the largest that everybody may have.
const pipeBytes = 1 << 20

// openStderr makes a pipe, or where to is a terminal a terminal, so that the program sees one there as it would without us.
func openStderr(to *os.File) (*stderr, error) {
	if _, err := unix.IoctlGetTermios(int(to.Fd()), unix.TCGETS); err == nil {
		if e, err := openPTY(to); err == nil { // else a pipe is better than nothing
			return e, nil
		}
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	_, _ = unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, pipeBytes) // a smaller one works too
	if err := unix.SetNonblock(p[0], true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	// Packet mode: see pipe(2), O_DIRECT. Where it is not known (gVisor), lines that something stands in are found by how they look.
	_, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETFL, unix.O_DIRECT)
	return &stderr{ours: os.NewFile(uintptr(p[0]), "stderr"), theirs: p[1], packets: err == nil}, nil
}

func openPTY(to *os.File) (*stderr, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	theirs, err := openOtherSide(fd, int(to.Fd()))
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	e := &stderr{ours: os.NewFile(uintptr(fd), "stderr"), theirs: theirs, pty: true}
	e.resize(to)
	return e, nil
}

func openOtherSide(fd, like int) (int, error) {
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return 0, err
	}
	theirs, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	// As the real one is, but that line breaks are made there, once.
	mode, err := unix.IoctlGetTermios(like, unix.TCGETS)
	if err == nil {
		mode.Oflag &^= unix.OPOST
		err = unix.IoctlSetTermios(theirs, unix.TCSETS, mode)
	}
	if err != nil {
		_ = unix.Close(theirs)
		return 0, err
	}
	return theirs, nil
}

// resize gives the program's terminal the size of the real one.
func (e *stderr) resize(to *os.File) {
	if !e.pty {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(to.Fd()), unix.TIOCGWINSZ); err == nil {
		conn, err := e.ours.SyscallConn() // Fd would make reads block
		if err == nil {
			_ = conn.Control(func(fd uintptr) { _ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
		}
	}
}

// resetSignal gives a signal the system's own meaning, also where Go's runtime keeps a handler for itself.
func resetSignal(s syscall.Signal) {
	var action [4]uint64 // handler: the default, flags, restorer, mask
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}
