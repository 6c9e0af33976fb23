//go:build !go1.25

package agent

import (
	"errors"
	"io"
	"runtime"
)

// flight is not to be had before Go 1.25.
type flight struct{}

func newFlight() (*flight, error) {
	return nil, errors.New("the flight recorder needs Go 1.25, this is " + runtime.Version())
}

func (*flight) writeTo(io.Writer) error { return errors.New("no flight recorder") }

func (*flight) stop() {}
