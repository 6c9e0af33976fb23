package backup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// holdFor is how long a backup of which nothing more is asked keeps garbage from being deleted. What is asked for renews it.
const holdFor = 10 * time.Minute

// maxOpen is how many backups may be read at once: each has a copy of the catalogue on the disk.
const maxOpen = 4

var (
	// ErrUnknown says that there is no backup of that id (any more), or no such file in it.
	ErrUnknown = errors.New("no such backup, or its time is over")
	// ErrTooMany says that as many backups are being read as may be.
	ErrTooMany = errors.New("too many backups at once")
)

// Catalog is what a Host needs of the catalogue; *catalog.DB is one.
type Catalog interface {
	Hold(ctx context.Context, id string, ttl time.Duration) error
	Snapshot(ctx context.Context, path string) error
}

// Host gives backups of a data directory out. Dir is where the copies of the catalogue and of the time series are while they are read.
type Host struct {
	Dir     string
	Catalog Catalog
	Blobs   blob.Store
	// Metrics copies the time series database into the directory copyTo, which is missing, and returns it; or returns another, whose files do not change meanwhile. nil: there is none.
	Metrics func(ctx context.Context, copyTo string) (dir string, err error)

	mu   sync.Mutex
	open map[string]*session
}

// Session is a backup that can be read until End, or until nothing was asked of it for ten minutes.
type Session struct {
	ID string `json:"id"`
	Manifest
}

type session struct {
	Session
	path  string // of the catalogue's copy
	copy  string // of the time series
	dir   string // where these are read: copy, or a directory that is not ours
	sizes map[string]int64
	end   *time.Timer
	held  time.Time
}

// Begin copies the catalogue and holds back the deletion of what it lists. Everything that was committed before the call is in the backup.
func (h *Host) Begin(ctx context.Context) (*Session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.open) >= maxOpen {
		return nil, fmt.Errorf("begin backup: %w", ErrTooMany)
	}
	s, err := h.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin backup: %w", err)
	}
	if h.open == nil {
		h.open = map[string]*session{}
	}
	h.open[s.ID] = s
	s.end = time.AfterFunc(holdFor, func() { _ = h.End(context.Background(), s.ID) }) // the hold runs out by itself
	return &s.Session, nil
}

func (h *Host) begin(ctx context.Context) (_ *session, err error) {
	var random [8]byte
	rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	s := &session{path: filepath.Join(h.Dir, snapshotPrefix+id+".db"), copy: filepath.Join(h.Dir, snapshotPrefix+id+metricsSuffix), held: time.Now(), sizes: map[string]int64{}}
	s.ID, s.Manifest = id, Manifest{Version: manifestVersion, Created: time.Now().UnixMilli(), Catalog: catalogPrefix + id + ".db"}
	// The hold before the copy: what the copy lists is not deleted from then on.
	if err := h.Catalog.Hold(ctx, id, 2*holdFor); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.release(context.WithoutCancel(ctx), s))
		}
	}()
	if err := h.Catalog.Snapshot(ctx, s.path); err != nil {
		return nil, err
	}
	if err := s.list(ctx, h.Blobs); err != nil {
		return nil, err
	}
	if h.Metrics != nil {
		if s.dir, err = h.Metrics(ctx, s.copy); err != nil {
			return nil, err
		}
		if err := s.listMetrics(); err != nil {
			return nil, err
		}
	}
	for _, f := range s.Files {
		s.sizes[f.Name] = f.Size
	}
	return s, nil
}

// listMetrics adds the files of the time series; what is being written has a name that is none of a backup.
func (s *session) listMetrics() error {
	return filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		name := metricsPrefix + filepath.ToSlash(rel)
		st, err := e.Info()
		if err != nil || checkName(name) != nil {
			return err
		}
		s.Files = append(s.Files, File{Name: name, Size: st.Size()})
		return nil
	})
}

// snapshotPrefix starts the names of the copies that are being read.
const (
	snapshotPrefix = "backup-"
	metricsSuffix  = ".metrics"
)

// list fills in the files: the copy's own, what it lists, and all other blobs, such as tombstones, that rows do not name.
func (s *session) list(ctx context.Context, blobs blob.Store) error {
	st, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	s.Files = append(s.Files, File{Name: s.Catalog, Size: st.Size()})
	cat, err := catalog.ReadSQLite(ctx, s.path)
	if err != nil {
		return err
	}
	defer cat.Close()
	blocks, err := cat.Blocks(ctx, catalog.BlockFilter{})
	if err != nil {
		return err
	}
	for _, b := range blocks {
		s.Files = append(s.Files, File{Name: blobPrefix + b.Blob, Size: b.Size})
	}
	captures, err := cat.Captures(ctx, catalog.CaptureFilter{})
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, c := range captures {
		listed[c.Blob] = true
	}
	for _, folder := range [...]string{"captures/", "tombstones/"} {
		for info, err := range blobs.List(ctx, folder) {
			if err != nil {
				return err
			}
			// A capture that came since, or that nobody names any more, is not of this moment; and tombstones have no rows.
			if folder == "tombstones/" || listed[info.Name] {
				s.Files = append(s.Files, File{Name: blobPrefix + info.Name, Size: info.Size})
			}
		}
	}
	return cat.Close()
}

// Open returns a file of a backup.
func (h *Host) Open(ctx context.Context, id, name string) (io.ReadCloser, int64, error) {
	h.mu.Lock()
	s := h.open[id]
	if s == nil {
		h.mu.Unlock()
		return nil, 0, fmt.Errorf("read backup %.32q: %w", id, ErrUnknown)
	}
	size, ok := s.sizes[name]
	renew := time.Since(s.held) > holdFor/10
	if s.end.Reset(holdFor); renew {
		s.held = time.Now()
	}
	path, isFile := s.path, name == s.Catalog
	if inner, ok := strings.CutPrefix(name, metricsPrefix); ok {
		path, isFile = filepath.Join(s.dir, filepath.FromSlash(inner)), true
	}
	h.mu.Unlock()
	if !ok {
		return nil, 0, fmt.Errorf("read file %.200q of backup %s: %w", name, id, ErrUnknown)
	}
	if renew {
		if err := h.Catalog.Hold(ctx, id, 2*holdFor); err != nil {
			return nil, 0, fmt.Errorf("read backup %s: %w", id, err)
		}
	}
	if isFile {
		f, err := os.Open(path)
		return f, size, err
	}
	r, err := h.Blobs.Open(ctx, strings.TrimPrefix(name, blobPrefix))
	if err != nil {
		return nil, 0, fmt.Errorf("read backup %s: %w", id, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(r, 0, size), r}, size, nil
}

// End gives a backup up that was read, or is not wanted any more. One that there is not is no error.
func (h *Host) End(ctx context.Context, id string) error {
	h.mu.Lock()
	s := h.open[id]
	delete(h.open, id)
	h.mu.Unlock()
	if s == nil {
		return nil
	}
	s.end.Stop()
	if err := h.release(ctx, s); err != nil {
		return fmt.Errorf("end backup %s: %w", id, err)
	}
	return nil
}

func (h *Host) release(ctx context.Context, s *session) error {
	err := os.Remove(s.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(s.copy), h.Catalog.Hold(ctx, s.ID, 0))
}

// Close ends all backups, and removes what those of a program that was killed left behind.
func (h *Host) Close() error {
	h.mu.Lock()
	var ids []string
	for id := range h.open {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	var errs []error
	for _, id := range ids {
		errs = append(errs, h.End(context.Background(), id))
	}
	return errors.Join(append(errs, h.Sweep())...)
}

// Sweep removes copies of the catalogue and of time series of which nobody reads: those of a program that was killed.
func (h *Host) Sweep() error {
	var paths []string
	for _, suffix := range [...]string{".db*", metricsSuffix} {
		some, err := filepath.Glob(filepath.Join(h.Dir, snapshotPrefix+"*"+suffix))
		if err != nil {
			return err
		}
		paths = append(paths, some...)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, p := range paths {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(p), snapshotPrefix), ".")
		if h.open[id] == nil {
			errs = append(errs, os.RemoveAll(p))
		}
	}
	return errors.Join(errs...)
}
