package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// dataDirectory is one that a collector left: a block, a segment that came after it, and a process.
func dataDirectory(t *testing.T) string {
	dir := t.TempDir()
	inDirectory(t, dir, func(s *store.Store, _ *catalog.DB) {
		for i := range 4 {
			must(t, s.Append(t.Context(), pushOf(i)))
			if i == 2 {
				must(t, s.Compact(t.Context(), true))
			}
		}
	})
	return dir
}

func pushOf(i int) store.Push {
	start := time.Now().Add(-time.Minute).UnixMilli() + int64(i)
	data := &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}, Period: 10_000_000}
	data.Functions = []profiles.Function{{Name: "main.main", SystemName: "main.main", File: "main.go"}}
	data.Lines = []profiles.Line{{Line: 3}}
	data.Locations = []profiles.Location{{Address: 1, Lines: profiles.Span{Hi: 1}}}
	data.LocationIDs = []uint32{0}
	data.Samples = []profiles.Sample{{Locations: profiles.Span{Hi: 1}}}
	data.Values = []int64{1, 10_000_000}
	ls := labels.FromStrings("service_name", "cart", "service_instance_id", "i")
	return store.Push{Key: catalog.Key{Instance: "i", Window: uint64(i + 1)}, Process: &catalog.Process{Instance: "i", Service: "cart", State: "running"},
		Profiles: []store.Profile{{Labels: ls, Type: "cpu", Start: start, End: start + 1, Data: data}}}
}

// inDirectory opens the directory as a collector does.
func inDirectory(t *testing.T, dir string, fn func(*store.Store, *catalog.DB)) {
	t.Helper()
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(dir, collector.CatalogFile))
	must(t, err)
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, collector.BlobDir))
	must(t, err)
	s, err := store.Open(t.Context(), store.Config{Blobs: blobs, Catalog: cat, GatherPause: -1})
	must(t, err)
	fn(s, cat)
	must(t, s.Close())
	must(t, cat.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckAndRebuild(t *testing.T) {
	for _, tt := range []struct {
		name    string
		damage  func(path string) error
		refused string // what check without --rebuild says
		says    []string
		keys    bool // survive
	}{
		{"as it is", func(string) error { return nil }, "", []string{"2 blobs live", "kept from the old catalogue", "processes: 1 row"}, true},
		{"lost", os.Remove, "no such file", []string{"lost: there is no old catalogue"}, false},
		{"overwritten", func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("nothing that a database would begin with\n", 500)), 0o600)
		}, "it is not a catalogue of sonde", []string{"are lost: ", "the old catalogue is "}, false},
		{"cut to nothing", func(path string) error { return os.Truncate(path, 0) }, "it is not a catalogue of sonde", []string{"lost"}, false},
		{"with its first page alone", func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			clear(data[4096:])
			return os.WriteFile(path, data, 0o600)
		}, "the catalogue is damaged", []string{"2 blobs live", "lost: "}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := dataDirectory(t)
			path := filepath.Join(dir, collector.CatalogFile)
			must(t, tt.damage(path))
			r := sonde(t, nil, "", "check", dir)
			if (r.code != 0) != (tt.refused != "") || !strings.Contains(r.stderr, tt.refused) || r.code != 0 && !strings.Contains(r.stderr, "check --rebuild") {
				t.Errorf("check: exit %d, %q, want %q and a hint", r.code, r.stderr, tt.refused)
			}
			if strings.Contains(r.stderr, "SQL") {
				t.Errorf("check: %q names SQL", r.stderr)
			}
			r = sonde(t, nil, "", "check", "--rebuild", dir)
			if r.code != 0 {
				t.Fatalf("rebuild: exit %d, %s%s", r.code, r.stdout, r.stderr)
			}
			for _, want := range tt.says {
				if !strings.Contains(r.stdout, want) {
					t.Errorf("rebuild: no %q in %q", want, r.stdout)
				}
			}
			if r := sonde(t, nil, "", "check", dir); r.code != 0 {
				t.Errorf("check of the rebuilt directory: exit %d, %s%s", r.code, r.stdout, r.stderr)
			}
			if left, _ := filepath.Glob(path + rebuildSuffix + "*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			inDirectory(t, dir, func(s *store.Store, cat *catalog.DB) {
				u, err := s.Usage(t.Context())
				must(t, err)
				if u.Profiles != 4 || u.Segments != 1 || u.Blocks != 1 {
					t.Errorf("usage is %+v, want the 4 profiles in a segment and a block", u)
				}
				seen, err := cat.Seen(t.Context(), []catalog.Key{{Instance: "i", Window: 4}})
				must(t, err)
				if seen[0] != tt.keys {
					t.Errorf("the key of the last push is known: %v, want %v", seen[0], tt.keys)
				}
			})
		})
	}
}

// TestRebuildRefuses leaves a directory alone that a collector uses, and one that is none.
func TestRebuildRefuses(t *testing.T) {
	dir := dataDirectory(t)
	lock, err := collector.LockData(dir)
	must(t, err)
	defer lock.Close()
	for _, tt := range []struct{ dir, want string }{{dir, "another collector uses it"}, {t.TempDir(), "DIR is what sonde serve has in --data"}} {
		r := sonde(t, nil, "", "check", "--rebuild", tt.dir)
		if out := fmt.Sprint(r.stdout, r.stderr); r.code != 1 || !strings.Contains(out, tt.want) {
			t.Errorf("exit %d, %q, want %q", r.code, out, tt.want)
		}
	}
}
