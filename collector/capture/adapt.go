package capture

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// Profiler takes profiles of processes on demand, as perf and inspect do.
type Profiler struct {
	Kinds []string        // that it takes
	List  func() []string // the processes that it reaches
	Take  func(ctx context.Context, instance, kind string, d time.Duration) (*profiles.Profile, error)
	Name  string // for errors: perf
}

// Instances implements Executor.
func (p Profiler) Instances() []string { return p.List() }

// Capture implements Executor.
func (p Profiler) Capture(ctx context.Context, t Task) (string, io.ReadCloser, error) {
	if !slices.Contains(p.Kinds, t.Kind) {
		return "", nil, fmt.Errorf("%w: %s takes %v", ErrKind, p.Name, p.Kinds)
	}
	data, err := p.Take(ctx, t.Instance, t.Kind, t.Duration())
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	if err := profiles.WriteProfile(&b, data); err != nil {
		return "", nil, fmt.Errorf("encode profile: %w", err)
	}
	return Binary, io.NopCloser(&b), nil
}
