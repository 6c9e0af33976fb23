//go:build linux

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

func TestDiskGuard(t *testing.T) {
	var free, total int64
	var err error
	g := &diskGuard{free: func() (int64, int64, error) { return free, total, err }}
	for _, tt := range []struct {
		name        string
		free, total int64
		err         error
		full        bool
	}{
		{"much", 10 << 30, 100 << 30, nil, false},
		{"less than the reserve", reserveBytes - 1, 100 << 30, nil, true},
		{"a small disk", 60 << 20, 1 << 30, nil, false},
		{"a small disk that is full", 50 << 20, 1 << 30, nil, true},
		{"a disk that does not answer", 0, 0, errors.ErrUnsupported, false},
	} {
		free, total, err, g.at, g.near = tt.free, tt.total, tt.err, time.Time{}, false
		if got := g.check(); (got != nil) != tt.full || tt.full && !errors.Is(got, blob.ErrNoSpace) {
			t.Errorf("%s: %v, want full %v", tt.name, got, tt.full)
		}
	}
	free, total, err, g.at, g.near = 10<<30, 100<<30, nil, time.Time{}, false
	for range 2 {
		if g.check() != nil {
			t.Error("a disk with room was asked again at once")
		}
		free = 0
	}
	if (&diskGuard{}).check() != nil {
		t.Error("a disk that cannot be asked counts as full")
	}
}

// smallDisk mounts a file system of size bytes in memory, or skips the test where that is not allowed.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("NOT TESTED: a full disk needs the right to mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullDisk fills a real file system: pushes are refused, queries go on, what was acknowledged stays, and when space is freed all goes on by itself. With the guard there is
// room left to compact; without it the writes themselves fail, the catalogue's among them.
func TestFullDisk(t *testing.T) {
	for _, guarded := range []bool{true, false} {
		t.Run(fmt.Sprintf("guarded %v", guarded), func(t *testing.T) {
			disk := smallDisk(t, "24m")
			var log bytes.Buffer
			e := &env{t: t, dir: disk, clock: &clock{now: time.UnixMilli(epoch)}}
			e.cfg = Config{Now: e.clock.Now, MaxAge: 100 * 365 * day, MaxBytes: 1 << 40, GatherPause: -1, Grace: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			if guarded {
				e.cfg.Free = func() (int64, int64, error) {
					var st syscall.Statfs_t
					err := syscall.Statfs(disk, &st)
					return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, err
				}
			}
			e.open()
			t.Cleanup(e.close)
			rng := rand.New(rand.NewPCG(1, 2))
			all, w := &reference{}, 0
			push := func() error {
				start := epoch + int64(w)*1000
				p, samples := randomPush(rng, "cart", "a", uint64(w+1), start, start+1000)
				err := e.store.Append(t.Context(), p)
				w++
				if err == nil {
					all.add(p, samples, 300_000)
				}
				return err
			}
			for range 200 { // the catalogue's log is as large as it gets
				must(t, push())
			}
			filler := filepath.Join(disk, "filler")
			f, err := os.Create(filler)
			must(t, err)
			leave := int64(2 << 20)
			for e.freeOn(disk) > leave {
				if _, err := f.Write(make([]byte, 16<<10)); err != nil {
					break
				}
			}
			must(t, f.Close())
			e.store.disk.at = time.Time{} // it did not fill up within a second
			for err = nil; err == nil && w < 2000; {
				err = push()
			}
			if !errors.Is(err, blob.ErrNoSpace) && !errors.Is(err, catalog.ErrNoSpace) {
				t.Fatalf("after %d pushes: %v, want a full disk", w, err)
			}
			refused := 0
			for range 20 {
				if push() != nil {
					refused++
				}
			}
			if refused == 0 {
				t.Error("a full disk refuses nothing")
			}
			e.equals(all)
			if guarded {
				if e.freeOn(disk) < 100<<10 {
					t.Errorf("%d bytes are free, want some left", e.freeOn(disk))
				}
				must(t, e.store.Compact(t.Context(), true))
				e.equals(all)
				must(t, e.store.Clean(t.Context()))
			} else {
				_ = e.store.Compact(t.Context(), true) // may fail, and must not harm
				_ = e.store.Clean(t.Context())
				e.equals(all)
			}
			must(t, os.Remove(filler))
			for range 5 {
				must(t, push())
			}
			must(t, e.store.Compact(t.Context(), true))
			must(t, e.store.Clean(t.Context()))
			e.equals(all)
			e.check()
		})
	}
}

// freeOn returns how many bytes may be written to the disk.
func (e *env) freeOn(dir string) int64 {
	var st syscall.Statfs_t
	must(e.t, syscall.Statfs(dir, &st))
	return int64(st.Bavail) * st.Bsize
}

// TestRunIsQuiet: what fails every few seconds is logged once a minute.
func TestRunIsQuiet(t *testing.T) {
	var log bytes.Buffer
	s := &Store{log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 5 {
		s.attempt(context.Background(), "compact", func() error { return blob.ErrNoSpace })
		s.attempt(context.Background(), "apply retention", func() error { return blob.ErrNoSpace })
		s.attempt(context.Background(), "delete garbage", func() error { return nil })
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want one of each:\n%s", n, log.String())
	}
}

func TestBacklog(t *testing.T) {
	blocks := []catalog.Block{{Level: 0, Size: 10, Created: epoch - 30_000}, {Level: 0, Size: someBytes, Created: epoch - 300_000}, {Level: 1, Size: 40, Created: epoch - 900_000}}
	if got, want := backlog(blocks, time.UnixMilli(epoch)), (Backlog{Segments: 2, Bytes: someBytes + 10, Oldest: 5 * time.Minute, Behind: 5*time.Minute - segmentAge - runEvery}); got != want {
		t.Errorf("backlog is %+v, want %+v", got, want)
	}
	if got := backlog(blocks[:1], time.UnixMilli(epoch)); got.Behind != 0 {
		t.Errorf("backlog is %+v, want nothing behind", got)
	}
	if got := backlog(nil, time.UnixMilli(epoch)); got != (Backlog{}) {
		t.Errorf("backlog of nothing is %+v", got)
	}
}

// TestBacklogIsTold: a collector that does not keep up says so, once a minute, and that it does again.
func TestBacklogIsTold(t *testing.T) {
	var log bytes.Buffer
	e := newEnv(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	p, _ := randomPush(rand.New(rand.NewPCG(4, 4)), "cart", "a", 1, epoch, epoch+15_000)
	must(t, e.store.Append(t.Context(), p))
	e.store.watchBacklog(t.Context())
	e.clock.set(epoch + 20*60_000)
	e.store.watchBacklog(t.Context())
	e.store.watchBacklog(t.Context())
	u, err := e.store.Usage(t.Context())
	must(t, err)
	if u.Backlog.Segments != 1 || u.Backlog.Behind < 8*time.Minute {
		t.Errorf("usage says %+v", u.Backlog)
	}
	must(t, e.store.Compact(t.Context(), true))
	e.store.watchBacklog(t.Context())
	e.store.watchBacklog(t.Context())
	if late, again := strings.Count(log.String(), "does not keep up"), strings.Count(log.String(), "keeps up again"); late != 1 || again != 1 {
		t.Errorf("said %d times that it is late and %d times that it is not, want once each:\n%s", late, again, log.String())
	}
}
