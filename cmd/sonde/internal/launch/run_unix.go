//go:build unix

package launch

import (
	"cmp"
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run starts the program, passes signals and its standard error on, and returns how it ended, or a *StartError.
func Run(cfg Config) (*Ended, error) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, passed()...) // before there is a program that one could miss
	defer signal.Stop(signals)
	e, err := openStderr(cfg.Stderr)
	if err != nil {
		return nil, &StartError{cfg.Path, err}
	}
	p, err := newPump(&cfg, e.ours, e.packets)
	if err != nil {
		return nil, &StartError{cfg.Path, err}
	}
	pid, err := syscall.ForkExec(cfg.Path, cfg.Args, &syscall.ProcAttr{Env: cfg.Env, Files: []uintptr{cfg.Stdin.Fd(), cfg.Stdout.Fd(), uintptr(e.theirs)}})
	_ = unix.Close(e.theirs) // the program has its own
	if err != nil {
		_ = e.ours.Close()
		return nil, &StartError{cfg.Path, err}
	}
	if cfg.Started != nil {
		cfg.Started(pid)
	}
	go p.run()
	waited := make(chan syscall.WaitStatus, 1)
	go func() { waited <- wait(pid) }()
	t := openTerminal()
	defer t.close()
	var end *Ended
	passedOn := p.done
	for end == nil || passedOn != nil {
		select {
		case s := <-signals:
			if end != nil && ends(s) { // whoever does not read standard error is not waited for any more
				return end, nil
			}
			e.pass(s.(syscall.Signal), pid, t, cfg.Stderr)
		case ws := <-waited:
			p.finish()
			end, pid = &Ended{Code: ws.ExitStatus(), At: time.Now()}, 0
			if ws.Signaled() {
				end.Signal = ws.Signal()
			}
		case <-passedOn: // it may run on without its standard error
			passedOn = nil
		}
	}
	if p.held {
		if cfg.Rest != nil && os.Getpid() != 1 { // with process 1 all others end
			_ = handOver(cfg.Rest, p.from, cfg.Stderr) // where that fails nobody is left to pass it on, and the children are told by their own writes
		}
		_ = p.from.Close()
	}
	end.Torn = p.split.Lost()
	return end, nil
}

// ends reports whether a signal is meant to end this process.
func ends(s os.Signal) bool {
	return s == unix.SIGTERM || s == unix.SIGINT || s == unix.SIGHUP || s == unix.SIGQUIT
}

// wait waits until the program has ended. As process 1 it reaps whoever else has: nobody else can.
func wait(pid int) (ws syscall.WaitStatus) {
	target := pid
	if os.Getpid() == 1 {
		target = -1
	}
	for {
		got, err := syscall.Wait4(target, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // not to be: it is our child, and only we wait
			return 1 << 8
		case got == pid:
			return ws
		}
	}
}

// passed are the signals that are taken here so that they can be passed on. Those that stop and continue do that to the whole process group by themselves; what this process was told to ignore the program ignores too.
func passed() (all []os.Signal) {
	for n := syscall.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGPROF, 32, 33:
			continue
		}
		if !signal.Ignored(n) {
			all = append(all, n)
		}
	}
	return all
}

// pass passes one signal on.
func (e *stderr) pass(s syscall.Signal, pid int, t *terminal, to *os.File) {
	switch {
	case s == unix.SIGPIPE: // it is for who writes, and that is the pump
		return
	case s == unix.SIGWINCH:
		e.resize(to)
	case (s == unix.SIGINT || s == unix.SIGQUIT) && t.foreground():
		return // it was typed, and the terminal has sent it to the program too
	}
	if pid != 0 {
		_ = syscall.Kill(pid, s) // that it is gone is known soon
	}
}

// terminal is the terminal that this process's session belongs to; nil: none.
type terminal struct{ fd int }

func openTerminal() *terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	return &terminal{fd}
}

// foreground reports whether what is typed there goes to this process's group.
func (t *terminal) foreground() bool {
	if t == nil {
		return false
	}
	group, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func (t *terminal) close() {
	if t != nil {
		_ = unix.Close(t.fd)
	}
}

// signalName is the constant that stands for a signal: SIGKILL.
func signalName(s syscall.Signal) string {
	return cmp.Or(unix.SignalName(s), "signal "+strconv.Itoa(int(s)))
}

// Mirror ends this process as the program ended, by its signal. It returns where that is not possible: as process 1, say.
func (e *Ended) Mirror() {
	if e.Signal == 0 {
		return
	}
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // the core that is wanted is the program's
	signal.Reset(e.Signal)
	resetSignal(e.Signal)
	_ = syscall.Kill(os.Getpid(), e.Signal)
	time.Sleep(100 * time.Millisecond)
}
