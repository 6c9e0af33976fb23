package catalog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

// TestLastSeenIsWrittenInSteps: a report that says nothing but that a process still lives is written every 20 s; one that says more is written at once.
func TestLastSeenIsWrittenInSteps(t *testing.T) {
	db := open(t)
	const start = 1_000_000
	full := Process{Instance: "i", Service: "cart", Gatherer: "agent", State: "running", Labels: labels.FromStrings("service_name", "cart"), LabelsHash: "h", LastSeen: start}
	alive := func(at int64) Process {
		return Process{Instance: "i", Service: "cart", Gatherer: "agent", State: "running", LastSeen: at}
	}
	for _, step := range []struct {
		name string
		p    Process
		want int64
	}{
		{"first", full, start},
		{"soon after", alive(start + 15_000), start},
		{"a step later", alive(start + 30_000), start + 30_000},
		{"soon after that", alive(start + 49_999), start + 30_000},
		{"with a version", Process{Instance: "i", Service: "cart", Gatherer: "agent", State: "running", Version: "v2", LastSeen: start + 45_000}, start + 45_000},
		{"exited", Process{Instance: "i", State: "exited", LastSeen: start + 46_000}, start + 46_000},
		{"alive after all", alive(start + 47_000), start + 47_000},
		{"seen by another", Process{Instance: "i", Gatherer: "scrape", State: "running", LastSeen: start + 48_000}, start + 48_000},
	} {
		must(t, db.PutProcesses(t.Context(), []Process{step.p}))
		got, err := db.Process(t.Context(), "i")
		must(t, err)
		if got.LastSeen != step.want || got.Labels.Get("service_name") != "cart" {
			t.Errorf("%s: last seen %d, labels %s, want %d", step.name, got.LastSeen, got.Labels, step.want)
		}
	}
	got, err := db.Process(t.Context(), "i")
	must(t, err)
	if got.State != "running" || got.Gatherer != "scrape" || got.Version != "v2" {
		t.Errorf("at the end %+v", got)
	}
}

// TestAnEmptyCatalogueIsSmall: what the catalogue weighs counts in what a profile costs.
func TestAnEmptyCatalogueIsSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	db, err := OpenSQLite(t.Context(), path)
	must(t, err)
	must(t, db.Close())
	st, err := os.Stat(path)
	must(t, err)
	if st.Size() > 64<<10 {
		t.Errorf("it takes %d bytes", st.Size())
	}
}
