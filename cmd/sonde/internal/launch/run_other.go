//go:build !unix

package launch

import (
	"errors"
	"io"
	"syscall"
)

// Run is not there: this system has no signals to pass on.
func Run(cfg Config) (*Ended, error) {
	return nil, &StartError{cfg.Path, errors.ErrUnsupported}
}

// Rest does nothing.
func Rest(io.Reader, io.Writer) {}

// Mirror does nothing.
func (e *Ended) Mirror() {}

func signalName(s syscall.Signal) string { return s.String() }
