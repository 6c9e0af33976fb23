//go:build !unix

package launch

import (
	"errors"
	"syscall"
)

// Run is not there: this system has no signals to pass on.
func Run(cfg Config) (*Ended, error) {
	return nil, &StartError{cfg.Path, errors.ErrUnsupported}
}

// Mirror does nothing.
func (e *Ended) Mirror() {}

func signalName(s syscall.Signal) string { return s.String() }
