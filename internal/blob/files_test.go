package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/internal/fsys/faultfs"
)

func TestFilesOnDisk(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "x", "blobs")
	s, err := blob.OpenFiles(fsys.OS{}, dir)
	must(t, err)
	before := time.Now().Add(-time.Minute)
	must(t, s.Put(ctx, "segments/01A.seg", []byte("hello, world")))

	r, err := s.Open(ctx, "segments/01A.seg")
	must(t, err)
	buf := make([]byte, 5)
	if n, err := r.ReadAt(buf, 7); n != 5 || err != nil && err != io.EOF || string(buf) != "world" {
		t.Errorf("ReadAt = %d, %v, %q", n, err, buf)
	}
	if n, err := r.ReadAt(buf, 10); n != 2 || err != io.EOF {
		t.Errorf("ReadAt over the end = %d, %v, want 2, EOF", n, err)
	}
	if r.Size() != 12 {
		t.Errorf("Size = %d, want 12", r.Size())
	}
	must(t, s.Delete(ctx, "segments/01A.seg"))
	if n, err := r.ReadAt(buf, 0); n != 5 || err != nil {
		t.Errorf("ReadAt of a deleted blob that is open = %d, %v", n, err)
	}
	must(t, r.Close())
	must(t, r.Close())
	must(t, s.Delete(ctx, "segments/01A.seg"))
	must(t, s.Delete(ctx, "no/such/folder"))
	for _, name := range []string{"segments/01A.seg", "segments"} {
		if _, err := s.Open(ctx, name); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Open(%q) = %v, want ErrNotFound", name, err)
		}
	}

	must(t, s.Put(ctx, "a", nil))
	for info, err := range s.List(ctx, "") {
		if err != nil || info.Name != "a" || info.Size != 0 || info.ModTime.Before(before) {
			t.Errorf("List yields %+v, %v", info, err)
		}
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Put(canceled, "b", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Put after cancel = %v", err)
	}
}

func TestListIsInNameOrder(t *testing.T) {
	ctx := t.Context()
	s, err := blob.OpenFiles(faultfs.New(), "/data")
	must(t, err)
	all := []string{"a", "a-b", "a.b", "b/c/d", "b/c-d", "b/c0", "bb", "b-"}
	for _, name := range all {
		must(t, s.Put(ctx, name, []byte(name)))
	}
	slices.Sort(all)
	for _, prefix := range []string{"", "a", "b", "b/", "b/c", "b/c/", "b/c/d", "b/c/dd", "z", "z/"} {
		var want []string
		for _, name := range all {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		if got := list(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("List(%q) = %v, want %v", prefix, got, want)
		}
	}
	for info, err := range s.List(ctx, "") { // stopping early is fine
		must(t, err)
		if info.Name == "a-b" {
			break
		}
	}
	for _, err := range s.List(ctx, "../x") {
		if !errors.Is(err, blob.ErrName) {
			t.Errorf("List(../x) yields %v, want ErrName", err)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "segments/01J-x_y.seg": true, strings.Repeat("a", 200): true,
		"": false, "/a": false, "a/": false, "a//b": false, ".": false, "..": false, "a/../b": false, "../a": false, ".hidden": false,
		"a/.b": false, "a.tmp": false, "a.tmp/b": false, `a\b`: false, "a b": false, "a\x00": false, "ä": false, "a:b": false,
		strings.Repeat("a", 201): false, strings.Repeat("a/", 256) + "a": false,
	} {
		if err := blob.CheckName(name); (err == nil) != ok || err != nil && !errors.Is(err, blob.ErrName) {
			t.Errorf("CheckName(%q) = %v, want ok %v", name, err, ok)
		}
	}
	s, err := blob.OpenFiles(faultfs.New(), "/data")
	must(t, err)
	_, openErr := s.Open(t.Context(), "../x")
	for what, err := range map[string]error{"Put": s.Put(t.Context(), "../x", nil), "Open": openErr, "Delete": s.Delete(t.Context(), "../x")} {
		if !errors.Is(err, blob.ErrName) {
			t.Errorf("%s(../x) = %v, want ErrName", what, err)
		}
	}
}

func TestReadFilesChangesNothing(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	w, err := blob.OpenFiles(fsys.OS{}, dir)
	must(t, err)
	must(t, w.Put(ctx, "a/b", []byte("1")))
	leftover := filepath.Join(dir, "a", "c.1.tmp")
	must(t, os.WriteFile(leftover, []byte("half"), 0o600))

	r, err := blob.ReadFiles(fsys.OS{}, dir)
	must(t, err)
	if got := list(t, r, ""); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("List = %v, want [a/b]", got)
	}
	if err := r.Put(ctx, "x", nil); !errors.Is(err, blob.ErrReadOnly) {
		t.Errorf("Put = %v, want ErrReadOnly", err)
	}
	if err := r.Delete(ctx, "a/b"); !errors.Is(err, blob.ErrReadOnly) {
		t.Errorf("Delete = %v, want ErrReadOnly", err)
	}
	_, err = os.Stat(leftover)
	must(t, err)
	if _, err := blob.ReadFiles(fsys.OS{}, filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFiles of nothing = %v, want ErrNotExist", err)
	}

	_, err = blob.OpenFiles(fsys.OS{}, dir)
	must(t, err)
	if _, err := os.Stat(leftover); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenFiles left the leftover: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.Rename, faultfs.SyncDir, faultfs.Mkdir} {
		m := faultfs.New()
		s, err := blob.OpenFiles(m, "/data")
		must(t, err)
		m.Inject(faultfs.Fault{Ops: op, N: 1, Err: syscall.ENOSPC, Short: true})
		err = s.Put(t.Context(), "a/b", []byte("1234"))
		if !errors.Is(err, blob.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("op %b: Put on a full disk = %v, want ErrNoSpace", op, err)
			continue
		}
		for _, want := range []string{"a/b", "4 bytes", "/data", "retention"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("op %b: error %q does not say %q", op, err, want)
			}
		}
		must(t, s.Put(t.Context(), "a/b", []byte("1234"))) // space again
	}
}

func TestParallelPuts(t *testing.T) {
	s, err := blob.OpenFiles(fsys.OS{}, t.TempDir())
	must(t, err)
	var wg sync.WaitGroup
	var want []string
	for i := range 40 {
		name := fmt.Sprintf("d%d/%02d", i%4, i)
		want = append(want, name)
		wg.Go(func() {
			if err := s.Put(t.Context(), name, []byte(name)); err != nil {
				t.Error(err)
			}
			if got := read(t, s, name); got != name {
				t.Errorf("%s holds %q", name, got)
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	if got := list(t, s, ""); !slices.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
}

func list(t *testing.T, s blob.Store, prefix string) []string {
	t.Helper()
	var names []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

func read(t *testing.T, s blob.Store, name string) string {
	t.Helper()
	r, err := s.Open(t.Context(), name)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.NewSectionReader(r, 0, r.Size())); err != nil {
		t.Error(err)
	}
	return b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
