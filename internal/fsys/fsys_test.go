package fsys_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/internal/fsys/faultfs"
)

// TestBothImplementationsAgree runs one script on the operating system's file system and on the one in memory.
func TestBothImplementationsAgree(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (fsys.FS, string){
		"os":     func(t *testing.T) (fsys.FS, string) { return fsys.OS{}, t.TempDir() },
		"memory": func(t *testing.T) (fsys.FS, string) { return faultfs.New(), "/" },
	} {
		t.Run(name, func(t *testing.T) {
			fsy, root := open(t)
			script(t, fsy, root)
		})
	}
}

func script(t *testing.T, fsy fsys.FS, root string) {
	t.Helper()
	dir := filepath.Join(root, "a", "b")
	path := filepath.Join(dir, "f")
	if _, err := fsy.Create(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in a missing directory: %v, want ErrNotExist", err)
	}
	must(t, fsy.MkdirAll(dir))
	must(t, fsy.MkdirAll(dir))
	f, err := fsy.Create(path)
	must(t, err)
	for _, s := range []string{"hello, ", "world"} {
		_, err := f.Write([]byte(s))
		must(t, err)
	}
	must(t, f.Sync())
	if size, err := f.Size(); size != 12 || err != nil {
		t.Errorf("Size = %d, %v, want 12", size, err)
	}
	must(t, f.Close())
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Close: %v, want ErrClosed", err)
	}

	newPath := filepath.Join(dir, "g")
	must(t, fsy.Rename(path, newPath))
	must(t, fsy.SyncDir(dir))
	if _, err := fsy.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of the old name: %v, want ErrNotExist", err)
	}
	r, err := fsy.Open(newPath)
	must(t, err)
	if _, err := r.Write([]byte("x")); err == nil {
		t.Error("Write to a file opened for reading: no error")
	}
	buf := make([]byte, 10)
	if n, err := r.ReadAt(buf, 7); n != 5 || err != io.EOF || !bytes.Equal(buf[:n], []byte("world")) {
		t.Errorf("ReadAt = %d, %v, %q", n, err, buf[:n])
	}
	if err := fsy.Remove(dir); err == nil {
		t.Error("Remove of a directory that is not empty: no error")
	}
	must(t, fsy.Remove(newPath))
	if n, err := r.ReadAt(buf[:5], 0); n != 5 || err != nil {
		t.Errorf("ReadAt of a removed file that is open = %d, %v", n, err)
	}
	must(t, r.Close())
	entries, err := fsy.ReadDir(filepath.Join(root, "a"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "b" || !entries[0].IsDir() {
		t.Errorf("ReadDir = %v, %v, want [b]", entries, err)
	}
	must(t, fsy.Remove(dir))
	if err := fsy.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Remove of what is gone: %v, want ErrNotExist", err)
	}
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	must(t, fsys.OS{}.MkdirAll(dir))
	f, err := fsys.OS{}.Create(filepath.Join(dir, "f"))
	must(t, err)
	must(t, f.Close())
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "f"): 0o600} {
		st, err := os.Stat(path)
		must(t, err)
		if got := st.Mode().Perm(); got != want {
			t.Errorf("mode of %s = %v, want %v", path, got, want)
		}
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := fsys.Lock(path)
	must(t, err)
	if _, err := fsys.Lock(path); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("second Lock: %v, want ErrLocked", err)
	}
	must(t, first.Close())
	again, err := fsys.Lock(path)
	must(t, err)
	must(t, again.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
