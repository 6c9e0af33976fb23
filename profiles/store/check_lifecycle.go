package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// checkLifecycle verifies what retention and a rebuild go by: tombstones against the catalogue's deletions, and pins.
func checkLifecycle(ctx context.Context, blobs blob.Store, cat catalog.Catalog) (problems []Problem, err error) {
	deletions, err := cat.Deletions(ctx)
	if err != nil {
		return nil, fmt.Errorf("list deletions: %w", err)
	}
	for _, d := range deletions {
		if !d.Finished {
			continue // its tombstone is written first when it is carried on
		}
		name := tombstoneFolder + d.ID
		var t tombstone
		r, err := blobs.Open(ctx, name)
		if err == nil {
			size := r.Size()
			r.Close()
			t, err = readTombstone(ctx, blobs, blob.Info{Name: name, Size: size})
		}
		switch {
		case errors.Is(err, blob.ErrNotFound):
			problems = append(problems, Problem{name, "missing: what was deleted could be back if the catalogue is rebuilt"})
		case err != nil:
			problems = append(problems, Problem{name, err.Error()})
		case t.Service != d.Service || t.Instance != d.Instance || t.From != d.Start || t.To != d.End:
			problems = append(problems, Problem{name, fmt.Sprintf("it is %+v, the catalogue says %+v", t, d)})
		}
	}
	pins, _, err := cat.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	for _, p := range pins {
		if _, err := profiles.ParseSelector(p.Selector); err != nil {
			problems = append(problems, Problem{"", fmt.Sprintf("catalogue: pin %d: %v", p.ID, err)})
		}
	}
	return problems, nil
}
