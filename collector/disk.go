package collector

import (
	"context"
	"fmt"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// What one process is expected to take where nothing was measured yet: five types of profiles every 15 s, at the 700 bytes that a
// profile of a real daemon took in blocks.
const (
	profilesPerDay  = 5 * 24 * 3600 / 15
	bytesPerProfile = 700
)

// measurable is how much time stored profiles must span for their bytes to say something about a day.
const measurable = time.Hour

// diskOutlook says how much is stored and what a day is expected to add.
func diskOutlook(blocks []catalog.Block) string {
	var bytes, first, last int64
	for _, b := range blocks {
		bytes += b.Size
		for _, d := range b.Datasets {
			if first == 0 || d.MinStart < first {
				first = d.MinStart
			}
			last = max(last, d.MaxEnd)
		}
	}
	span := time.Duration(last-first) * time.Millisecond
	if span < measurable {
		return fmt.Sprintf("%s stored, about %s a day expected for each process (estimated: %d profiles of %d bytes)",
			humanBytes(bytes), humanBytes(profilesPerDay*bytesPerProfile), profilesPerDay, bytesPerProfile)
	}
	perDay := float64(bytes) / span.Hours() * 24
	return fmt.Sprintf("%s stored, about %s a day expected (measured over the last %v)", humanBytes(bytes), humanBytes(int64(perDay)), Duration(span.Round(time.Hour)))
}

// retentionText says what is kept.
func retentionText(c *Config) string {
	switch {
	case c.RetentionAge == 0 && c.RetentionSize == 0:
		return "everything is kept: retention_age and retention_size are 0"
	case c.RetentionAge == 0:
		return fmt.Sprintf("kept: the newest %v", c.RetentionSize)
	case c.RetentionSize == 0:
		return fmt.Sprintf("kept: the last %v, whatever the size", c.RetentionAge)
	}
	return fmt.Sprintf("kept: the last %v, at most %v", c.RetentionAge, c.RetentionSize)
}

// humanBytes writes n with three digits and a unit of powers of 1000.
func humanBytes(n int64) string {
	f, unit := float64(n), "B"
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if f < 1000 {
			break
		}
		f, unit = f/1000, u
	}
	return fmt.Sprintf("%.3g %s", f, unit)
}

// liveBlocks is what diskOutlook reads.
func liveBlocks(ctx context.Context, cat catalog.Catalog) ([]catalog.Block, error) {
	blocks, err := cat.Blocks(ctx, catalog.BlockFilter{})
	if err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	return blocks, nil
}
