//go:build unix

package launch

import (
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// handOver starts this executable once more with args, to pass on what is still written to the other side of from. It is in a session of its own, so that neither what is typed nor the end of a
// terminal's session ends it before those who write, and holds nothing else of what this process has.
func handOver(args []string, from, to *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if runtime.GOOS == "linux" {
		self = "/proc/self/exe" // also where the file was replaced since
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := os.StartProcess(self, append([]string{os.Args[0]}, args...), &os.ProcAttr{Dir: "/", Env: []string{}, Files: []*os.File{from, null, to}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return err
	}
	return p.Release()
}

// Rest copies what is still written to a standard error whose program has ended, as it is, until nobody holds it any more or nobody reads to. It is what Config.Rest makes of a process.
func Rest(from io.Reader, to io.Writer) {
	signal.Reset(unix.SIGTERM, unix.SIGINT)                                                          // that end it
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, outBytes)) // of a terminal whose other side is closed reading ends with EIO
}
