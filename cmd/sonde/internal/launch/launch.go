package launch

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/sonde-io/sonde/collector/godebug"
)

// Config says what is to be started. Path, Args and the files are required.
type Config struct {
	Path                  string
	Args                  []string // the program's name first
	Env                   []string
	Stdin, Stdout, Stderr *os.File

	Traces godebug.Traces // that Env asks for
	Keep   bool           // leave the traces in standard error too

	// Rest are arguments with which this executable calls Rest with its standard input and error. It is started so where children of the program outlive it and hold its standard error, that is
	// after Run has read it for the last time: their writes would kill them otherwise. nil: they do.
	Rest []string

	// Started is called once the program runs, before anything of its standard error is taken. nil: nobody is told.
	Started func(pid int)
	// Line is called with each line that is taken, which it may not keep.
	Line func(text []byte, l *godebug.Line, at time.Time)
}

// Ended is how a program ended, and the error that carries it to who ends this process the same way.
type Ended struct {
	Code   int            // where Signal is 0
	Signal syscall.Signal // that killed it
	At     time.Time      // when; zero: not known
	Torn   int            // lines of traces that something stood in and that were left in standard error
}

func (e *Ended) Error() string {
	if e.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%v)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// ExitCode is the code of a process that ends as e did and has no signal to say so, as shells have it.
func (e *Ended) ExitCode() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

// StartError says that the program was not started.
type StartError struct {
	Path string
	Err  error
}

func (e *StartError) Error() string { return fmt.Sprintf("start %s: %v", e.Path, e.Err) }
func (e *StartError) Unwrap() error { return e.Err }

// ExitCode is what shells answer: 127 where there is no such program, else 126.
func (e *StartError) ExitCode() int {
	if errors.Is(e.Err, os.ErrNotExist) {
		return 127
	}
	return 126
}
