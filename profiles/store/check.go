package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// Problem is one thing that Check found wrong. Blob is "" where it is about the catalogue itself.
type Problem struct{ Blob, What string }

// pendingGarbage is what a catalogue offers that can list blobs that wait to be deleted before their time has come. Of one that
// cannot, those older than Check's grace are taken for orphans.
type pendingGarbage interface {
	Pending(ctx context.Context) ([]string, error)
}

// Check reads every live segment and block, verifies every checksum and reference, adds up every sum anew, and compares them with the catalogue.
// Orphans (blobs that the catalogue does not know, older than grace) are problems too. checked is the number of blobs read. An error says that the check itself
// could not be done.
func Check(ctx context.Context, blobs blob.Store, cat catalog.Catalog, grace time.Duration) (checked int, problems []Problem, err error) {
	wrong, err := cat.Check(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("check catalogue: %w", err)
	}
	for _, w := range wrong {
		problems = append(problems, Problem{"", "catalogue: " + w})
	}
	more, err := checkLifecycle(ctx, blobs, cat)
	if err != nil {
		return 0, nil, err
	}
	problems = append(problems, more...)
	orphans := map[string]struct{}{} // listed before the rows: what is registered meanwhile is not one
	young := time.Now().Add(-grace)
	for _, folder := range [...]string{segmentFolder, blockFolder} {
		for info, err := range blobs.List(ctx, folder) {
			if err != nil {
				return 0, nil, fmt.Errorf("list blobs: %w", err)
			}
			if info.ModTime.Before(young) {
				orphans[info.Name] = struct{}{}
			}
		}
	}
	blocks, err := cat.Blocks(ctx, catalog.BlockFilter{})
	if err != nil {
		return 0, nil, fmt.Errorf("list blocks: %w", err)
	}
	for i := range blocks {
		if err := ctx.Err(); err != nil {
			return checked, problems, err
		}
		delete(orphans, blocks[i].Blob)
		found := checkBlob(ctx, blobs, &blocks[i])
		if len(found) > 0 {
			live, err := isLive(ctx, cat, &blocks[i])
			if err != nil {
				return checked, problems, err
			}
			if !live { // replaced since it was listed, and deleted: the check takes longer than replaced blobs stay
				continue
			}
		}
		for _, p := range found {
			problems = append(problems, Problem{blocks[i].Blob, p})
		}
		checked++
	}
	if p, ok := cat.(pendingGarbage); ok {
		names, err := p.Pending(ctx)
		if err != nil {
			return checked, problems, fmt.Errorf("list garbage: %w", err)
		}
		for _, name := range names {
			delete(orphans, name)
		}
	}
	var born time.Time
	if c, ok := cat.(dated); ok {
		if born, err = c.Born(ctx); err != nil {
			return checked, problems, err
		}
	}
	for name := range orphans {
		if r, err := blobs.Open(ctx, name); errors.Is(err, blob.ErrNotFound) { // it was garbage, and is gone by now
			continue
		} else if err == nil {
			r.Close()
		}
		what := "orphan: no row of the catalogue names it"
		if id, ok := idOfBlob(name); ok && id.time().Before(born) {
			what += ", and it is older than the catalogue: where that was lost, --rebuild makes it anew"
		}
		problems = append(problems, Problem{name, what})
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if a.Blob < b.Blob {
			return -1
		}
		return int(bit(a.Blob > b.Blob))
	})
	return checked, problems, nil
}

// isLive reports whether the block is listed still.
func isLive(ctx context.Context, cat catalog.Catalog, b *catalog.Block) (bool, error) {
	now, err := cat.Blocks(ctx, catalog.BlockFilter{Levels: []int{b.Level}})
	if err != nil {
		return false, fmt.Errorf("list blocks: %w", err)
	}
	return slices.ContainsFunc(now, func(x catalog.Block) bool { return x.ID == b.ID }), nil
}

// checkBlob returns what is wrong with one live blob.
func checkBlob(ctx context.Context, blobs blob.Store, row *catalog.Block) []string {
	f, err := openFile(ctx, blobs, row.Blob, nil)
	if errors.Is(err, blob.ErrNotFound) {
		return []string{"missing: the catalogue names it and it is not there"}
	}
	if err != nil {
		return []string{err.Error()}
	}
	defer f.close()
	c := &checker{f: f}
	c.row(row)
	c.header()
	c.tiles()
	c.ancestors()
	for _, info := range f.opened.foot.datasets {
		c.dataset(ctx, info.Service)
	}
	return c.problems
}

// checker verifies one file.
type checker struct {
	f        *file
	problems []string
}

func (c *checker) report(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// row compares the footer with the catalogue's row.
func (c *checker) row(row *catalog.Block) {
	got := c.f.opened.foot.block(c.f.size)
	if got.ID != row.ID || got.Level != row.Level || got.Blob != row.Blob || got.Size != row.Size || got.Created != row.Created {
		c.report("footer: it is block %s of level %d with %d bytes from %d, the catalogue says %s, %d, %d, %d",
			got.ID, got.Level, got.Size, got.Created, row.ID, row.Level, row.Size, row.Created)
	}
	byService := map[string]catalog.Dataset{}
	for _, ds := range row.Datasets {
		byService[ds.Service] = ds
	}
	for _, ds := range got.Datasets {
		want, ok := byService[ds.Service]
		types := slices.Sorted(slices.Values(want.Types))
		if !ok || want.MinStart != ds.MinStart || want.MaxStart != ds.MaxStart || want.MaxEnd != ds.MaxEnd || want.Profiles != ds.Profiles || !slices.Equal(types, ds.Types) {
			c.report("footer: dataset %s is %+v, the catalogue says %+v", ds.Service, ds, want)
		}
		delete(byService, ds.Service)
	}
	for service := range byService {
		c.report("footer: dataset %s is in the catalogue and not in the file", service)
	}
}

func (c *checker) header() {
	b, err := c.f.bytes(span{0, headerSize})
	level := 0
	if err == nil {
		level, err = checkHeader(b, c.f.opened.foot.version)
	}
	if err == nil && level != c.f.opened.foot.level {
		err = fmt.Errorf("level is %d, the footer says %d", level, c.f.opened.foot.level)
	}
	if err != nil {
		c.report("header: %v", err)
	}
}

// tiles verifies that the sections and regions cover the file without gaps, so that every byte has a checksum.
func (c *checker) tiles() {
	next := uint64(headerSize)
	follow := func(what string, at, length uint64) {
		if at != next {
			c.report("footer: %s starts at %d, %d is next", what, at, next)
		}
		next = at + length
	}
	for _, ds := range c.f.opened.foot.datasets {
		for i := range sectionIndex {
			follow(sectionNames[i], ds.sections[i].at, uint64(ds.sections[i].stored))
		}
		for i, r := range ds.regions {
			follow(regionNames[i], r.at, r.length)
		}
		follow(sectionNames[sectionIndex], ds.sections[sectionIndex].at, uint64(ds.sections[sectionIndex].stored))
	}
	a := c.f.opened.foot.ancestors
	follow("ancestors", a.at, uint64(a.stored))
}

func (c *checker) ancestors() {
	raw, err := c.f.section(c.f.opened.foot.ancestors)
	if err == nil {
		_, err = decodeAncestors(raw)
	}
	if err != nil {
		c.report("ancestors: %v", err)
	}
}
