//go:build go1.25

package agent

import (
	"errors"
	"io"
	"runtime/trace"
)

// flight is the flight recorder: the runtime keeps the last seconds of the program's execution trace in memory.
type flight struct{ rec *trace.FlightRecorder }

// newFlight starts the recorder. There can be one in a program.
func newFlight() (*flight, error) {
	rec := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: flightAge, MaxBytes: flightBytes})
	if err := rec.Start(); err != nil {
		return nil, errors.New("the program has a flight recorder of its own: " + err.Error())
	}
	return &flight{rec}, nil
}

func (f *flight) writeTo(w io.Writer) error {
	_, err := f.rec.WriteTo(w)
	return err
}

func (f *flight) stop() { f.rec.Stop() }
