package store

import (
	"context"
	"slices"
	"testing"

	"github.com/sonde-io/sonde/profiles"
)

// TestCanonical: the stacks stay what they were under their ids, tables are as long as before, and what is written of them is read back.
func TestCanonical(t *testing.T) {
	e := filled(t)
	for _, b := range e.blobs() {
		f, err := openFile(context.Background(), e.cfg.Blobs, b.Blob, nil)
		must(t, err)
		defer f.close()
		for _, info := range b.Datasets {
			ds, err := f.dataset(info.Service)
			must(t, err)
			from, err := f.loadSymbols(ds)
			must(t, err)
			got := canonical(from)
			must(t, got.Validate())
			if len(got.Nodes) != len(from.Nodes) || len(got.Locations) != len(from.Locations) || len(got.Functions) != len(from.Functions) {
				t.Fatalf("there are %d nodes, %d locations, %d functions; want %d, %d, %d", len(got.Nodes), len(got.Locations), len(got.Functions), len(from.Nodes), len(from.Locations), len(from.Functions))
			}
			for version := version1; version <= version2; version++ {
				read := &profiles.Symbols{}
				for i := range symbolSections {
					must(t, decodeSymbols(appendSymbols(nil, i, got, version), i, read, version))
				}
				must(t, read.Validate())
				for id := range from.Stacks {
					if w, g := stackText(from, uint32(id)), stackText(read, uint32(id)); g != w {
						t.Fatalf("version %d: stack %d is %q, want %q", version, id, g, w)
					}
				}
			}
			if !slices.IsSortedFunc(got.Locations[1:], func(a, b profiles.SymLocation) int { return int(int64(a.Address>>1) - int64(b.Address>>1)) }) {
				t.Error("locations are not in order of their addresses")
			}
			if len(got.Strings) > len(from.Strings) {
				t.Errorf("there are %d strings, want at most %d", len(got.Strings), len(from.Strings))
			}
		}
	}
}
