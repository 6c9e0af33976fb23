package launch

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminalPair returns both sides of a terminal of a size.
func terminalPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("SKIPPED: no terminal can be made here, so none is passed through: %v", err)
	}
	ours = os.NewFile(uintptr(fd), "terminal")
	t.Cleanup(func() { _ = ours.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77})
	}
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	return ours, theirs
}

// TestTerminal: where standard error is a terminal it stays one for the program, of the same size, and line breaks are made once.
func TestTerminal(t *testing.T) {
	ours, theirs := terminalPair(t)
	cmd, _ := launched(t, "sh", "-c", `test -t 2 && echo yes >&2; stty size <&2 >&2; echo end >&2`)
	cmd.Stderr = theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	var got bytes.Buffer
	_, _ = io.Copy(&got, ours) // ends with EIO
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := "yes\r\n33 77\r\nend\r\n"; got.String() != want {
		t.Errorf("%q, want %q", got.String(), want)
	}
}

// TestProcess1 reaps what is left over, as process 1 of a container.
func TestProcess1(t *testing.T) {
	script := `(sleep 0.05 & sleep 0.06 & exit 0); sleep 0.5; for p in /proc/[0-9]*; do read line 2>/dev/null <$p/stat && case "$line" in *") Z "*) echo "zombie: $line";; esac; done; echo $PPID; exit 4`
	cmd, _ := launched(t, "sh", "-c", "mount -t proc proc /proc 2>/dev/null; "+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Skipf("SKIPPED: no pid namespace can be made here, so a launcher that is process 1 is NOT tested: %v", err)
	}
	if got := cmd.ProcessState.ExitCode(); got != 4 || strings.TrimSpace(out.String()) != "1" {
		t.Errorf("exit status %d, output %q", got, out.String())
	}
	cmd, _ = launched(t, "sh", "-c", "kill -9 $$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 137 {
		t.Errorf("exit status %d, want 137: process 1 cannot be killed by itself", got)
	}
}
