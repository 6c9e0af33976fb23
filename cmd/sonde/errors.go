package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/sonde-io/sonde/cmd/sonde/internal/launch"
)

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError says that the command line was wrong.
type usageError struct {
	err     error
	command string // "sonde top", for the hint
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
func (e *usageError) Hint() string {
	if h := hintOf(e.err); h != "" {
		return h
	}
	return fmt.Sprintf("`%s --help` shows how it is used", e.command)
}

// hintError is an error with what cures it.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Hint() string  { return e.hint }

func withHint(err error, format string, args ...any) error {
	return &hintError{err: err, hint: fmt.Sprintf(format, args...)}
}

// errProblems ends `sonde check` where problems were found and printed: there is nothing more to say.
var errProblems = errors.New("problems found")

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// report prints err and what cures it, and returns the exit code. A reader that went away is no news to anybody.
func report(stderr io.Writer, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe), errors.Is(err, errProblems):
		return exitFailed
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "error: interrupted")
		return exitFailed
	}
	if e, ok := errors.AsType[*launch.Ended](err); ok { // the program said what there was to say
		e.Mirror()
		return e.ExitCode()
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintln(stderr, "error: "+line)
	}
	if h := hintOf(err); h != "" {
		fmt.Fprintln(stderr, "hint: "+h)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if e, ok := errors.AsType[*launch.StartError](err); ok {
		return e.ExitCode()
	}
	return exitFailed
}

// noSuchFile adds to the error of a FILE argument that is missing what the verb takes for one.
func noSuchFile(err error, hint string) error {
	if errors.Is(err, os.ErrNotExist) {
		return withHint(err, "%s", hint)
	}
	return err
}
