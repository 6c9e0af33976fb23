package perf

import (
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// Kinds of profiles, as types in the store.
const (
	kindCPU    = "cpu"
	kindOffCPU = "offcpu"
)

const (
	maxCapture      = 10 * time.Minute
	maxCaptureBytes = 16 << 20 // of the stacks of one capture; more are left out
)

// captureRequest asks for a profile on demand.
type captureRequest struct {
	instance, kind string
	d              time.Duration
	reply          chan<- captured
}

type captured struct {
	p   *profiles.Profile
	err error
}
