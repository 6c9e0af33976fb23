package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles/store"
)

// rebuildSuffix names the catalogue that is being made; what a rebuild that was interrupted left is made anew.
const rebuildSuffix = ".rebuild"

// bakTime is the layout of the time in the name of a catalogue that was replaced.
const bakTime = "20060102-150405"

// sqliteSuffixes are what SQLite adds to a database's name: the database, its log, the log's index.
var sqliteSuffixes = [...]string{"", "-wal", "-shm"}

// rebuilt is what `sonde check --rebuild` did.
type rebuilt struct {
	Dir      string    `json:"dir"`
	Live     int       `json:"live"`     // blobs that the new catalogue lists
	Garbage  int       `json:"garbage"`  // blobs that were replaced or deleted
	Captures int       `json:"captures"` // that the old catalogue did not name, and that say themselves what they are
	Old      string    `json:"old"`      // where the old catalogue is now; "" if there was none
	Kept     []string  `json:"kept"`     // tables copied from the old catalogue, with how many rows
	Lost     []string  `json:"lost"`     // what is not about profiles and could not be copied
	Problems []problem `json:"problems"` // blobs left out
}

// rebuild makes the catalogue of the data directory dir anew from its blobs. The old one is kept under another name.
func rebuild(ctx context.Context, dir string, now time.Time) (_ *rebuilt, err error) {
	defer func() {
		if err != nil && hintOf(err) == "" {
			err = fmt.Errorf("rebuild catalogue of %s: %w", dir, err)
		}
	}()
	blobDir := filepath.Join(dir, collector.BlobDir)
	if _, err := os.Stat(blobDir); err != nil {
		return nil, withHint(fmt.Errorf("rebuild catalogue of %s: %w", dir, err), "DIR is what sonde serve has in --data; it holds %s", collector.BlobDir)
	}
	unlock, err := collector.LockData(dir)
	if err != nil {
		return nil, err
	}
	defer unlock.Close()
	blobs, err := blob.OpenFiles(fsys.OS{}, blobDir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, collector.CatalogFile)
	r := &rebuilt{Dir: dir, Kept: []string{}, Lost: []string{}, Problems: []problem{}}
	if err := r.write(ctx, blobs, path, path+rebuildSuffix); err != nil {
		return nil, err
	}
	r.Old, err = replaceCatalogue(path, path+rebuildSuffix, path+".bak-"+now.UTC().Format(bakTime))
	return r, err
}

// write makes the new catalogue in the file path, with what can be copied from the old one, and verifies it.
func (r *rebuilt) write(ctx context.Context, blobs blob.Store, old, path string) (err error) {
	for _, suffix := range sqliteSuffixes {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	cat, err := catalog.OpenSQLite(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	garbage, err := r.salvage(ctx, cat, old)
	if err != nil {
		return err
	}
	found, err := store.Rebuild(ctx, blobs, garbage)
	if err != nil {
		return err
	}
	for _, p := range found.Problems {
		r.Problems = append(r.Problems, problem{Blob: p.Blob, What: p.What})
	}
	r.Live, r.Garbage = len(found.Live), len(found.Garbage)
	// Before deletions are carried out again, which concern captures too.
	captures, unread, err := capture.Adopt(ctx, blobs, cat, -time.Hour) // nobody writes one: all are old enough
	if err != nil {
		return err
	}
	r.Captures = captures
	for _, p := range unread {
		r.Problems = append(r.Problems, problem{Blob: p.Blob, What: p.What})
	}
	if err := found.Fill(ctx, cat); err != nil {
		return err
	}
	_, problems, err := store.Check(ctx, blobs, cat, time.Hour)
	if err != nil {
		return err
	}
	for _, p := range problems {
		if !slices.ContainsFunc(r.Problems, func(x problem) bool { return x.Blob == p.Blob }) {
			r.Problems = append(r.Problems, problem{Blob: p.Blob, What: p.What})
		}
	}
	return nil
}

// salvage copies what is not about blocks from the old catalogue, if there is one, and returns what it says is garbage.
func (r *rebuilt) salvage(ctx context.Context, cat *catalog.DB, old string) ([]string, error) {
	if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
		r.Lost = append(r.Lost, "there is no old catalogue: processes, builds, events, pins and the keys of pushes are lost")
		return nil, nil
	}
	s, err := cat.Salvage(ctx, old)
	if err != nil {
		r.Lost = append(r.Lost, fmt.Sprintf("processes, builds, events, pins and the keys of pushes are lost: %v", err))
		return nil, nil
	}
	for table, n := range s.Rows {
		r.Kept = append(r.Kept, fmt.Sprintf("%s: %s", table, plural(n, "row")))
	}
	slices.Sort(r.Kept)
	r.Lost = append(r.Lost, s.Lost...)
	return s.Garbage, nil
}

// replaceCatalogue puts the new catalogue in the place of the old one, which is then named bak, if there is one. The old one's log is moved first: the new
// one must never be opened with it. At no moment is there no catalogue: a collector that starts without one makes an empty one. Who is interrupted here
// starts again: nothing of what is needed is gone.
func replaceCatalogue(path, fresh, bak string) (string, error) {
	for _, suffix := range sqliteSuffixes[1:] {
		if err := os.Rename(path+suffix, bak+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	switch err := os.Link(path, bak); {
	case errors.Is(err, fs.ErrNotExist):
		bak = ""
	case err != nil: // a file system without links
		if err := os.Rename(path, bak); err != nil {
			return "", err
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return bak, err
	}
	return bak, (fsys.OS{}).SyncDir(filepath.Dir(path))
}

func (a *app) writeRebuilt(format string, r *rebuilt) error {
	if format == "json" {
		return writeJSON(a.stdout, r)
	}
	if len(r.Problems) > 0 {
		tab := a.newTable("BLOB", "PROBLEM")
		for _, p := range r.Problems {
			tab.add(dash(p.Blob), clean(p.What))
		}
		if err := tab.write(a.stdout); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("%s: catalogue rebuilt, %s live, %s replaced or deleted\n", r.Dir, plural(int64(r.Live), "blob"), plural(int64(r.Garbage), "blob"))
	if r.Captures > 0 {
		text += plural(int64(r.Captures), "capture") + " taken up that the old catalogue did not name\n"
	}
	if len(r.Kept) > 0 {
		text += "kept from the old catalogue: " + strings.Join(r.Kept, ", ") + "\n"
	}
	for _, l := range r.Lost {
		text += "lost: " + clean(l) + "\n"
	}
	if r.Old != "" {
		text += "the old catalogue is " + r.Old + "\n"
	}
	_, err := fmt.Fprint(a.stdout, text)
	return err
}
