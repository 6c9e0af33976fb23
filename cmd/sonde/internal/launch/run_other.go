//go:build !unix

package launch

import "errors"

// Run is not there: this system has no signals to pass on.
func Run(cfg Config) (*Ended, error) {
	return nil, &StartError{cfg.Path, errors.ErrUnsupported}
}

// Mirror does nothing.
func (e *Ended) Mirror() {}
