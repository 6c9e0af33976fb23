package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var layout = Layout{Catalog: "catalog.db", Blobs: "blobs", Metrics: "metrics", Lock: "lock"}

// data is a data directory with some blobs.
type data struct {
	t     *testing.T
	dir   string
	cat   *catalog.DB
	blobs *blob.Files
	host  *Host
}

func newData(t *testing.T, n int) *data {
	d := &data{t: t, dir: t.TempDir()}
	var err error
	d.cat, err = catalog.OpenSQLite(t.Context(), filepath.Join(d.dir, "catalog.db"))
	must(t, err)
	t.Cleanup(func() { must(t, d.cat.Close()) })
	d.blobs, err = blob.OpenFiles(fsys.OS{}, filepath.Join(d.dir, "blobs"))
	must(t, err)
	d.host = &Host{Dir: d.dir, Catalog: d.cat, Blobs: d.blobs}
	t.Cleanup(func() { must(t, d.host.Close()) })
	for i := range n {
		d.add(fmt.Sprintf("B%02d", i))
	}
	must(t, d.blobs.Put(t.Context(), "tombstones/T1", []byte("gone")))
	must(t, d.blobs.Put(t.Context(), "captures/C1", []byte("taken")))
	must(t, d.blobs.Put(t.Context(), "captures/nobody", []byte("of an interrupted delivery")))
	must(t, d.cat.PutCaptures(t.Context(), []catalog.Capture{{ID: "C1", State: catalog.CaptureDone, Blob: "captures/C1"}}))
	return d
}

func content(id string) string { return strings.Repeat(id+" ", 1000+len(id)) }

func (d *data) add(id string) {
	d.t.Helper()
	name := "blocks/" + id
	must(d.t, d.blobs.Put(d.t.Context(), name, []byte(content(id))))
	must(d.t, d.cat.Register(d.t.Context(), catalog.Registration{Block: &catalog.Block{ID: id, Level: 1, Blob: name, Size: int64(len(content(id))), Datasets: []catalog.Dataset{{Service: "cart"}}}}))
}

// collect deletes the garbage as a store does.
func (d *data) collect() int {
	names, err := d.cat.Garbage(d.t.Context(), 0)
	must(d.t, err)
	for _, n := range names {
		must(d.t, d.blobs.Delete(d.t.Context(), n))
	}
	must(d.t, d.cat.Forget(d.t.Context(), names))
	return len(names)
}

// from reads a session of a host.
type from struct {
	h     *Host
	id    string
	after int // files until it breaks off; 0: never
	n     int
}

func (s *from) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if s.n++; s.after > 0 && s.n > s.after {
		return nil, errors.New("broken off")
	}
	r, _, err := s.h.Open(ctx, s.id, name)
	return r, err
}

// holds fails the test unless the restored directory has exactly these blocks, whole.
func holds(t *testing.T, dir string, want ...string) {
	t.Helper()
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(dir, "catalog.db"))
	must(t, err)
	defer cat.Close()
	bs, err := cat.Blocks(t.Context(), catalog.BlockFilter{})
	must(t, err)
	var got []string
	for _, b := range bs {
		got = append(got, b.ID)
		if text, err := os.ReadFile(filepath.Join(dir, "blobs", b.Blob)); err != nil || string(text) != content(b.ID) {
			t.Errorf("blob %s has %d bytes, %v", b.Blob, len(text), err)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("restored %v, want %v", got, want)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "blobs/captures/C1")); err != nil || string(text) != "taken" {
		t.Errorf("capture: %q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "blobs/tombstones/T1")); err != nil || string(text) != "gone" {
		t.Errorf("tombstone: %q, %v", text, err)
	}
}

// TestBackupOfOneMoment: what happens after the beginning, deletions included, is not in it.
func TestBackupOfOneMoment(t *testing.T) {
	for _, form := range []string{"dir", "tar"} {
		t.Run(form, func(t *testing.T) {
			d := newData(t, 3)
			s, err := d.host.Begin(t.Context())
			must(t, err)
			d.add("B99")
			must(t, d.cat.Swap(t.Context(), []string{"B00"}, nil, time.UnixMilli(1)))
			if n := d.collect(); n != 0 {
				t.Fatalf("%d blobs were deleted while they are backed up", n)
			}
			to := filepath.Join(t.TempDir(), "backup")
			if form == "dir" {
				_, err = ToDir(t.Context(), s.Manifest, &from{h: d.host, id: s.ID}, to)
			} else {
				_, err = ToTar(t.Context(), s.Manifest, &from{h: d.host, id: s.ID}, to)
			}
			must(t, err)
			must(t, d.host.End(t.Context(), s.ID))
			if n := d.collect(); n != 1 {
				t.Errorf("%d blobs were deleted after it, want B00's", n)
			}
			restored := filepath.Join(t.TempDir(), "new", "data")
			m, err := Restore(t.Context(), to, restored, layout)
			must(t, err)
			if len(m.Files) != 6 || m.Bytes() == 0 {
				t.Errorf("restored %+v", m)
			}
			holds(t, restored, "B00", "B01", "B02")
			if _, err := Restore(t.Context(), to, restored, layout); err == nil || !strings.Contains(err.Error(), "not empty") {
				t.Errorf("restored over data: %v", err)
			}
			holds(t, restored, "B00", "B01", "B02")
		})
	}
}

// TestBackupIsCarriedOn where it was broken off, and reads what is new when it is made again.
func TestBackupIsCarriedOn(t *testing.T) {
	d := newData(t, 5)
	to := t.TempDir()
	s, err := d.host.Begin(t.Context())
	must(t, err)
	if _, err := ToDir(t.Context(), s.Manifest, &from{h: d.host, id: s.ID, after: 4}, to); err == nil {
		t.Fatal("it was not broken off")
	}
	if _, err := Restore(t.Context(), to, filepath.Join(t.TempDir(), "data"), layout); err == nil || !strings.Contains(err.Error(), ManifestName) {
		t.Errorf("restore of half a backup: %v", err)
	}
	again := func() Written {
		t.Helper()
		s, err := d.host.Begin(t.Context())
		must(t, err)
		defer func() { must(t, d.host.End(t.Context(), s.ID)) }()
		w, err := ToDir(t.Context(), s.Manifest, &from{h: d.host, id: s.ID}, to)
		must(t, err)
		return w
	}
	must(t, d.host.End(t.Context(), s.ID))
	w := again()
	if blobs := w.Fetched - w.Files[0].Size; blobs != int64(2*len(content("B00")))+9 {
		t.Errorf("%d bytes of blobs were read again, want two blocks, the capture and the tombstone", blobs)
	}
	d.add("B10")
	must(t, d.cat.Swap(t.Context(), []string{"B00"}, nil, time.UnixMilli(1)))
	must(t, os.WriteFile(filepath.Join(to, "blobs/blocks/B01"), []byte(content("B0x")), 0o600)) // as large as before
	if w = again(); w.Fetched-w.Files[0].Size != int64(2*len(content("B10"))) {
		t.Errorf("%d bytes of blobs were read, want the new block and the damaged one", w.Fetched-w.Files[0].Size)
	}
	restored := filepath.Join(t.TempDir(), "data")
	_, err = Restore(t.Context(), to, restored, layout)
	must(t, err)
	holds(t, restored, "B01", "B02", "B03", "B04", "B10")
	if left, err := filepath.Glob(filepath.Join(to, "*")); err != nil || len(left) != 3 {
		t.Errorf("in the backup there are %q, want manifest, catalogue and blobs", left)
	}
	if _, err := ToDir(t.Context(), w.Manifest, &from{}, d.dir); err == nil {
		t.Error("a backup was written into a data directory")
	}
}

// TestRestoreVerifies: damage of any file is found, and nothing is left behind.
func TestRestoreVerifies(t *testing.T) {
	d := newData(t, 2)
	s, err := d.host.Begin(t.Context())
	must(t, err)
	tarFile := filepath.Join(t.TempDir(), "b.tar")
	_, err = ToTar(t.Context(), s.Manifest, &from{h: d.host, id: s.ID}, tarFile)
	must(t, err)
	whole, err := os.ReadFile(tarFile)
	must(t, err)
	for name, edit := range map[string]func([]byte) []byte{
		"flipped in a blob":    func(b []byte) []byte { b[strings.Index(string(b), "B01 B01")+5] ^= 1; return b },
		"flipped in catalogue": func(b []byte) []byte { b[strings.Index(string(b), "SQLite format 3")+200] ^= 1; return b },
		"cut short":            func(b []byte) []byte { return b[:len(b)/2] },
		"without its end":      func(b []byte) []byte { return b[:strings.Index(string(b), ManifestName)] },
		"not a backup":         func([]byte) []byte { return []byte("hello") },
		"a path out of it": func(b []byte) []byte {
			return []byte(strings.ReplaceAll(string(b), "blobs/blocks/B01", "blobs/blocks/../"))
		},
	} {
		path := filepath.Join(t.TempDir(), "b.tar")
		must(t, os.WriteFile(path, edit(append([]byte(nil), whole...)), 0o600))
		to := t.TempDir()
		if _, err := Restore(t.Context(), path, to, layout); err == nil {
			t.Errorf("%s: restored", name)
		}
		if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
			t.Errorf("%s: there is %v left, %v", name, left, err)
		}
	}
}

func TestHost(t *testing.T) {
	d := newData(t, 1)
	if _, _, err := d.host.Open(t.Context(), "none", "x"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a backup that there is not: %v", err)
	}
	s, err := d.host.Begin(t.Context())
	must(t, err)
	for _, name := range []string{"", "catalog.db", "blobs/blocks/none", "blobs/../catalog.db"} {
		if _, _, err := d.host.Open(t.Context(), s.ID, name); !errors.Is(err, ErrUnknown) {
			t.Errorf("file %q: %v", name, err)
		}
	}
	for range maxOpen - 1 {
		_, err := d.host.Begin(t.Context())
		must(t, err)
	}
	if _, err := d.host.Begin(t.Context()); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v, want ErrTooMany", err)
	}
	must(t, os.WriteFile(filepath.Join(d.dir, "backup-0123.db"), nil, 0o600))
	must(t, d.host.Sweep())
	if left, _ := filepath.Glob(filepath.Join(d.dir, "backup-*")); len(left) != maxOpen {
		t.Errorf("%d copies are left, want those that are read: %q", len(left), left)
	}
	must(t, d.host.Close())
	if left, _ := filepath.Glob(filepath.Join(d.dir, "backup-*")); len(left) != 0 {
		t.Errorf("copies are left: %q", left)
	}
	must(t, d.cat.Swap(t.Context(), []string{"B00"}, nil, time.UnixMilli(1)))
	if n := d.collect(); n != 1 {
		t.Error("garbage is held after the end")
	}
}

func TestManifest(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"v":1,"catalog":"catalog-1.db","files":[{"name":"catalog-1.db"},{"name":"blobs/blocks/A"}]}`:   true,
		`{"v":2,"catalog":"catalog-1.db","files":[{"name":"catalog-1.db"},{"name":"metrics/wal/1"}]}`:    true,
		`{"v":2,"catalog":"catalog-1.db","files":[{"name":"catalog-1.db"},{"name":"metrics/../x"}]}`:     false,
		`{"v":3,"catalog":"catalog-1.db","files":[{"name":"catalog-1.db"}]}`:                             false,
		`{"v":1,"catalog":"catalog-1.db","files":[]}`:                                                    false,
		`{"v":1,"catalog":"blobs/x","files":[{"name":"blobs/x"}]}`:                                       false,
		`{"v":1,"catalog":"catalog-1.db","files":[{"name":"catalog-1.db"},{"name":"catalog-1.db"}]}`:     false,
		`{"v":1,"catalog":"catalog-1.db","files":[{"name":"catalog-1.db"},{"name":"../../etc/passwd"}]}`: false,
		`{"v":1,"catalog":"catalog-1.db","files":[{"name":"catalog-1.db"},{"name":"blobs/../x"}]}`:       false,
		`{`: false,
	} {
		if _, err := decodeManifest([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %v", text, err, ok)
		}
	}
}

// TestBackupOfMetrics: time series are copied when it begins; of what is there already, blocks are not read again and all else is.
func TestBackupOfMetrics(t *testing.T) {
	d := newData(t, 1)
	const block = "01JD0000000000000000000000/meta.json"
	files := map[string]string{block: "block", "metadata.json": "first", "wal/checkpoint.0001/0000": "log", "metadata.json.tmp": "half"}
	d.host.Metrics = func(_ context.Context, dir string) (string, error) {
		for name, text := range files {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		return dir, nil
	}
	to := t.TempDir()
	for round, second := range []string{"first", "other"} {
		files["metadata.json"] = second
		s, err := d.host.Begin(t.Context())
		must(t, err)
		w, err := ToDir(t.Context(), s.Manifest, &from{h: d.host, id: s.ID}, to)
		must(t, err)
		if want := []int64{int64(len(content("B00"))) + 9 + 13, 8}[round]; w.Fetched-w.Files[0].Size != want {
			t.Errorf("round %d: %d bytes were read besides the catalogue, want %d", round, w.Fetched-w.Files[0].Size, want)
		}
		must(t, d.host.End(t.Context(), s.ID))
	}
	if left, err := filepath.Glob(filepath.Join(d.dir, "backup-*")); err != nil || len(left) > 0 {
		t.Errorf("copies are left: %q, %v", left, err)
	}
	restored := filepath.Join(t.TempDir(), "data")
	_, err := Restore(t.Context(), to, restored, layout)
	must(t, err)
	for name, want := range map[string]string{block: "block", "metadata.json": "other", "wal/checkpoint.0001/0000": "log", "metadata.json.tmp": ""} {
		if got, _ := os.ReadFile(filepath.Join(restored, "metrics", name)); string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	must(t, os.MkdirAll(filepath.Join(d.dir, "backup-0123.metrics", "x"), 0o700))
	must(t, d.host.Sweep())
	if left, _ := filepath.Glob(filepath.Join(d.dir, "backup-*")); len(left) != 0 {
		t.Errorf("copies of a program that was killed are left: %q", left)
	}
}
