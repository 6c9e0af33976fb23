package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// Problem is one thing that Check found wrong with a blob.
type Problem struct{ Blob, What string }

// pendingGarbage is what a catalogue offers that can list the blobs that wait to be deleted.
type pendingGarbage interface {
	Pending(ctx context.Context) ([]string, error)
}

// Check reads every stored capture and compares it with the catalogue. A blob older than grace that no row names is a problem too, unless it is waiting to be deleted. checked is
// the number of blobs read.
func Check(ctx context.Context, blobs blob.Store, cat catalog.CaptureStore, grace time.Duration) (checked int, problems []Problem, err error) {
	found, err := unnamed(ctx, blobs, time.Now().Add(-grace)) // listed before the rows: what is stored meanwhile has one
	if err != nil {
		return 0, nil, err
	}
	rows, err := cat.Captures(ctx, catalog.CaptureFilter{})
	if err != nil {
		return 0, nil, err
	}
	for _, c := range rows {
		if err := ctx.Err(); err != nil {
			return checked, problems, err
		}
		if c.Blob == "" {
			continue
		}
		delete(found, c.Blob)
		checked++
		_, err := readFile(ctx, blobs, c)
		if err == nil {
			continue
		}
		if errors.Is(err, blob.ErrNotFound) {
			if _, rerr := cat.Capture(ctx, c.ID); errors.Is(rerr, catalog.ErrNotFound) { // expired since it was listed
				continue
			}
			err = errors.New("missing: the catalogue names it and it is not there")
		}
		problems = append(problems, Problem{c.Blob, err.Error()})
	}
	if err := dropPending(ctx, cat, found); err != nil {
		return checked, problems, err
	}
	for name := range found {
		problems = append(problems, Problem{name, "orphan: no row of the catalogue names it; a collector that is started takes it up"})
	}
	return checked, problems, nil
}

// unnamed lists the blobs of captures that were written before old.
func unnamed(ctx context.Context, blobs blob.Store, old time.Time) (map[string]struct{}, error) {
	out := map[string]struct{}{}
	for info, err := range blobs.List(ctx, folder) {
		if err != nil {
			return nil, fmt.Errorf("list captures: %w", err)
		}
		if info.ModTime.Before(old) {
			out[info.Name] = struct{}{}
		}
	}
	return out, nil
}

// dropPending takes out of found what waits to be deleted.
func dropPending(ctx context.Context, cat catalog.CaptureStore, found map[string]struct{}) error {
	p, ok := cat.(pendingGarbage)
	if !ok || len(found) == 0 {
		return nil
	}
	names, err := p.Pending(ctx)
	for _, name := range names {
		delete(found, name)
	}
	return err
}

// Adopt makes rows for the blobs older than grace that no row names and that say what they are: those of a catalogue that was lost, or of a delivery that was interrupted between its blob and its
// row. It returns how many, and which blobs cannot be read.
func Adopt(ctx context.Context, blobs blob.Store, cat catalog.CaptureStore, grace time.Duration) (adopted int, problems []Problem, err error) {
	found, err := unnamed(ctx, blobs, time.Now().Add(-grace))
	if err != nil || len(found) == 0 {
		return 0, nil, err
	}
	rows, err := cat.Captures(ctx, catalog.CaptureFilter{})
	if err != nil {
		return 0, nil, err
	}
	for _, c := range rows {
		delete(found, c.Blob)
	}
	if err := dropPending(ctx, cat, found); err != nil {
		return 0, nil, err
	}
	for name := range found {
		c, err := metaOf(ctx, blobs, name)
		if err != nil {
			problems = append(problems, Problem{name, "left out: " + err.Error()})
			continue
		}
		// Where a row is there it is of a delivery that did not come to its end.
		if err := cat.PutCaptures(ctx, []catalog.Capture{c}); err != nil {
			return adopted, problems, err
		}
		if err := cat.FinishCapture(ctx, c); err != nil && !errors.Is(err, catalog.ErrConflict) {
			return adopted, problems, err
		}
		adopted++
	}
	return adopted, problems, nil
}

func metaOf(ctx context.Context, blobs blob.Store, name string) (catalog.Capture, error) {
	r, err := blobs.Open(ctx, name)
	if err != nil {
		return catalog.Capture{}, err
	}
	defer r.Close()
	c, _, err := readMeta(r, name, r.Size())
	return c, err
}
