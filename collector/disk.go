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
	def, rules, err := c.retention()
	if err != nil {
		return "retention: " + err.Error()
	}
	text := ""
	switch {
	case c.RetentionAge == 0 && c.RetentionSize == 0 && len(rules) == 0 && def.Raw == orForever(0):
		return "everything is kept: retention_age and retention_size are 0"
	case def.Raw == orForever(0):
		text = "kept: everything"
	default:
		text = fmt.Sprintf("kept: the last %v", Duration(def.Raw))
		for _, s := range []struct {
			unit  string
			after time.Duration
			until time.Duration
		}{{"minute", def.Raw, def.Minutes}, {"hour", max(def.Raw, def.Minutes), def.Hours}} {
			if s.until > s.after {
				text += fmt.Sprintf(", sums by the %s of %v", s.unit, Duration(s.until))
			}
		}
	}
	if c.RetentionSize > 0 {
		text += fmt.Sprintf(", at most %v", c.RetentionSize)
	}
	if len(rules) > 0 {
		text += fmt.Sprintf(", with %d rules for some services", len(rules))
	}
	return text
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
