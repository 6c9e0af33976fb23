//go:build !linux

package perf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/profiles"
)

// Sampler is Linux's; elsewhere New makes none.
type Sampler struct{}

// New returns errors.ErrUnsupported.
func New(Config) (*Sampler, error) {
	return nil, fmt.Errorf("make perf sampler: perf events are Linux's: %w", errors.ErrUnsupported)
}

// Can returns false.
func (*Sampler) Can(discover.Process) (ok bool, reason string) {
	return false, "perf events are Linux's"
}

// SetTargets does nothing.
func (*Sampler) SetTargets([]Target) {}

// Run waits for ctx.
func (*Sampler) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Status returns nothing.
func (*Sampler) Status() []Status { return nil }

// Stats returns nothing.
func (*Sampler) Stats() Stats { return Stats{} }

// Capture returns errors.ErrUnsupported.
func (*Sampler) Capture(context.Context, string, string, time.Duration) (*profiles.Profile, error) {
	return nil, errors.ErrUnsupported
}
