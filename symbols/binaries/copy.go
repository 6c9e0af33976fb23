package binaries

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// span is a part of a file.
type span struct{ from, to int64 }

// needless returns the parts of a file that no name is made from: code and debug information, in order.
func needless(m *image) (out []span) {
	for _, s := range m.sections {
		if s.typ == 8 || s.name != ".text" && !strings.HasPrefix(s.name, ".debug_") && !strings.HasPrefix(s.name, ".zdebug_") {
			continue
		}
		if s.offset <= uint64(m.size) && s.size <= uint64(m.size)-s.offset {
			out = append(out, span{int64(s.offset), int64(s.offset + s.size)})
		}
	}
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	return out
}

// copyNeeded writes the file in m to f, with holes where nothing is needed, and returns how many bytes that took.
func copyNeeded(ctx context.Context, f *os.File, m *image) (written int64, err error) {
	at := int64(0)
	piece := func(to int64) error {
		for at < to {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(to-at, 4<<20)
			if _, err := io.Copy(io.NewOffsetWriter(f, at), io.NewSectionReader(m.r, at, n)); err != nil {
				return err
			}
			at, written = at+n, written+n
		}
		return nil
	}
	for _, hole := range needless(m) {
		if err := piece(hole.from); err != nil {
			return written, fmt.Errorf("copy binary: %w", err)
		}
		at = max(at, hole.to)
	}
	if err := piece(m.size); err != nil {
		return written, fmt.Errorf("copy binary: %w", err)
	}
	// A hole at the end is made by the length.
	return written, f.Truncate(m.size)
}
