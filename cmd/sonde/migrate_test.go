package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// TestMigrateBack takes a directory back, and forward again by opening it.
func TestMigrateBack(t *testing.T) {
	dir := dataDirectory(t)
	if r := sonde(t, nil, "", "migrate", dir); r.code != exitUsage || !strings.Contains(r.stderr, "--back is required") {
		t.Errorf("without --back: exit %d, %q", r.code, r.stderr)
	}
	for range 2 { // the second time there is nothing left to do
		r := sonde(t, nil, "", "migrate", "--back", dir)
		if r.code != 0 || !strings.Contains(r.stdout, "the release before this one can open it") {
			t.Fatalf("exit %d, %s%s", r.code, r.stdout, r.stderr)
		}
		if _, err := catalog.ReadSQLite(t.Context(), filepath.Join(dir, collector.CatalogFile)); err == nil || !strings.Contains(err.Error(), "its schema is version 1") {
			t.Errorf("the catalogue's schema is not version 1: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, collector.CatalogFile+"*")); len(left) != 2 {
			t.Errorf("there are %v, want the catalogue and the one before", left)
		}
		inDirectory(t, dir, func(s *store.Store, cat *catalog.DB) {
			u, err := s.Usage(t.Context())
			must(t, err)
			if u.Profiles != 4 {
				t.Errorf("there are %d profiles, want 4", u.Profiles)
			}
			seen, err := cat.Seen(t.Context(), []catalog.Key{{Instance: "i", Window: 4}, {Instance: "i", Window: 5}})
			must(t, err)
			if !seen[0] || seen[1] {
				t.Errorf("keys 4 and 5 are known: %v, want the first alone", seen)
			}
		})
	}
	typo := filepath.Join(t.TempDir(), "typo")
	if r := sonde(t, nil, "", "migrate", "--back", typo); r.code != exitFailed || !strings.Contains(r.stderr, "hint: DIR is") {
		t.Errorf("a directory that is none: exit %d, %q", r.code, r.stderr)
	}
	if _, err := os.Stat(typo); err == nil {
		t.Error("a directory that was misspelt was made")
	}
}
