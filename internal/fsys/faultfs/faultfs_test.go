package faultfs_test

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/sonde-io/sonde/internal/fsys/faultfs"
)

const seeds = 64

// after writes the file /d/f as steps say, loses power with each of many seeds and returns the distinct contents found, "-" for no file.
func after(t *testing.T, steps func(t *testing.T, m *faultfs.FS)) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	for seed := range uint64(seeds) {
		m := faultfs.New()
		steps(t, m)
		m.PowerLoss(seed)
		got[read(t, m, "/d/f")] = true
	}
	return got
}

func read(t *testing.T, m *faultfs.FS, path string) string {
	t.Helper()
	f, err := m.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	buf := make([]byte, size)
	_, err = f.ReadAt(buf, 0)
	must(t, err)
	return string(buf)
}

func write(t *testing.T, m *faultfs.FS, path, data string, sync bool) {
	t.Helper()
	f, err := m.Create(path)
	must(t, err)
	_, err = f.Write([]byte(data))
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func TestPowerLossKeepsWhatWasSynced(t *testing.T) {
	got := after(t, func(t *testing.T, m *faultfs.FS) {
		must(t, m.MkdirAll("/d"))
		must(t, m.SyncDir("/"))
		write(t, m, "/d/f", "ab", true)
		must(t, m.SyncDir("/d"))
	})
	if len(got) != 1 || !got["ab"] {
		t.Errorf("found %v, want only ab", got)
	}
}

func TestPowerLossMayTakeWhatWasNot(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps func(t *testing.T, m *faultfs.FS)
		want  []string
	}{
		{"bytes", func(t *testing.T, m *faultfs.FS) {
			must(t, m.MkdirAll("/d"))
			must(t, m.SyncDir("/"))
			write(t, m, "/d/f", "ab", false)
			must(t, m.SyncDir("/d"))
		}, []string{"", "a", "ab", "\x00\x00", "a\x00"}},
		{"name", func(t *testing.T, m *faultfs.FS) {
			must(t, m.MkdirAll("/d"))
			must(t, m.SyncDir("/"))
			write(t, m, "/d/f", "ab", true)
		}, []string{"-", "ab"}},
		{"directory", func(t *testing.T, m *faultfs.FS) {
			must(t, m.MkdirAll("/d"))
			write(t, m, "/d/f", "ab", true)
			must(t, m.SyncDir("/d"))
		}, []string{"-", "ab"}},
		{"rename over a synced file", func(t *testing.T, m *faultfs.FS) {
			must(t, m.MkdirAll("/d"))
			must(t, m.SyncDir("/"))
			write(t, m, "/d/f", "old", true)
			write(t, m, "/d/t", "new", true)
			must(t, m.SyncDir("/d"))
			must(t, m.Rename("/d/t", "/d/f"))
		}, []string{"old", "new"}},
		{"removal", func(t *testing.T, m *faultfs.FS) {
			must(t, m.MkdirAll("/d"))
			must(t, m.SyncDir("/"))
			write(t, m, "/d/f", "ab", true)
			must(t, m.SyncDir("/d"))
			must(t, m.Remove("/d/f"))
		}, []string{"-", "ab"}},
		{"bytes after a failed sync, for ever", func(t *testing.T, m *faultfs.FS) {
			must(t, m.MkdirAll("/d"))
			must(t, m.SyncDir("/"))
			f, err := m.Create("/d/f")
			must(t, err)
			_, err = f.Write([]byte("ab"))
			must(t, err)
			m.Inject(faultfs.Fault{Ops: faultfs.Sync, N: 1, Err: syscall.EIO})
			if err := f.Sync(); !errors.Is(err, syscall.EIO) {
				t.Fatalf("Sync = %v, want EIO", err)
			}
			must(t, f.Sync())
			must(t, m.SyncDir("/d"))
		}, []string{"", "a", "ab", "\x00\x00", "a\x00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := after(t, c.steps)
			for _, w := range c.want {
				if !got[w] {
					t.Errorf("never found %q in %d power losses: %v", w, seeds, got)
				}
				delete(got, w)
			}
			if len(got) > 0 {
				t.Errorf("found what cannot be: %v", got)
			}
		})
	}
}

func TestKillKeepsAllThatWasWritten(t *testing.T) {
	m := faultfs.New()
	f, err := m.Create("/f")
	must(t, err)
	_, err = f.Write([]byte("ab"))
	must(t, err)
	m.Inject(faultfs.Fault{Ops: faultfs.Write, N: 1, Short: true, Crash: true})
	if n, err := f.Write([]byte("cdef")); n != 2 || !errors.Is(err, faultfs.ErrInjected) {
		t.Errorf("Write = %d, %v, want 2 and the fault", n, err)
	}
	if _, err := m.Stat("/f"); !errors.Is(err, faultfs.ErrDead) {
		t.Errorf("Stat by the dead: %v, want ErrDead", err)
	}
	m.Kill()
	if err := f.Sync(); !errors.Is(err, faultfs.ErrDead) {
		t.Errorf("Sync of a file of the life before: %v, want ErrDead", err)
	}
	if got := read(t, m, "/f"); got != "abcd" {
		t.Errorf("after Kill the file is %q, want abcd", got)
	}
}

func TestFaultsCount(t *testing.T) {
	m := faultfs.New()
	m.Inject(faultfs.Fault{Ops: faultfs.Create, N: 2, Late: true}, faultfs.Fault{Ops: faultfs.Rename, N: 1, Sticky: true, Err: syscall.ENOSPC})
	write(t, m, "/a", "1", true)
	if _, err := m.Create("/b"); !errors.Is(err, faultfs.ErrInjected) {
		t.Errorf("second Create: %v, want the fault", err)
	}
	if got := read(t, m, "/b"); got != "" {
		t.Errorf("a late fault left %q, want an empty file", got)
	}
	for range 2 {
		if err := m.Rename("/a", "/c"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Rename: %v, want ENOSPC", err)
		}
	}
	m.Inject()
	must(t, m.Rename("/a", "/c"))
	if got := m.Count(faultfs.Rename | faultfs.Create); got != 5 {
		t.Errorf("Count = %d, want 5", got)
	}
	if got := m.Fired(); got != 3 {
		t.Errorf("Fired = %d, want 3", got)
	}
	if !m.Flip("/c", 0) || read(t, m, "/c") != "0" {
		t.Errorf("Flip left %q, want 0", read(t, m, "/c"))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
