package binaries

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
)

// Limits that are not settings.
const (
	maxCandidates = 4096 // files of processes that may be asked for
	maxWanted     = 1024 // binaries that frames asked for and that are not known
	maxBuildID    = 128  // bytes of a build id that is asked for
	suffix        = ".elf"
	tempPattern   = "new-*.tmp"
)

// ErrTooLarge says that a file is larger than Config.MaxFile.
var ErrTooLarge = errors.New("binary too large")

// Config configures a Store. Dir is required.
type Config struct {
	Dir      string           // the folder; it is made
	MaxBytes int64            // of all files; 0: 2 GiB
	MaxFile  int64            // of one file as it comes; 0: 1 GiB
	Now      func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: discard

	// Told is called with the build of each Go program that Put takes, before Put returns; its error is Put's. nil: nobody is told.
	Told func(ctx context.Context, info *build.Info) error
}

// Store is a folder of binaries.
type Store struct {
	cfg        Config
	generation atomic.Uint64
	asked      chan string // build ids of candidates

	mu         sync.Mutex
	files      map[string]*file  // by each of their names
	lists      map[string]*file  // of functions, by the ids of their builds
	candidates map[string]string // path of a local file, by each of its names
	wanted     map[string]*Wanted
	bytes      int64
	closed     bool

	naming sync.Mutex // held while names are looked up; guards what is open
	open   []*opened  // used last first
}

// file is a binary in the folder, or a list of functions.
type file struct {
	path  string
	ids   IDs
	list  string // the build whose functions it lists; "": it is a binary
	bytes int64
	used  time.Time // also the file's time of modification, to the hour
}

// Wanted is a binary that frames asked for and that is not known.
type Wanted struct {
	BuildID string `json:"build_id"`
	Frames  int64  `json:"frames"` // times it was asked for
	Last    int64  `json:"last"`   // Unix ms
}

// Binary is a binary that is known.
type Binary struct {
	IDs
	Bytes int64 `json:"bytes"` // that it takes here
	Used  int64 `json:"used"`  // Unix ms, to the hour
}

// Open opens the folder and takes stock of it.
func Open(cfg Config) (*Store, error) {
	cfg.MaxBytes, cfg.MaxFile = cmp.Or(cfg.MaxBytes, 2<<30), cmp.Or(cfg.MaxFile, 1<<30)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, asked: make(chan string, 64), files: map[string]*file{}, lists: map[string]*file{}, candidates: map[string]string{}, wanted: map[string]*Wanted{}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open binaries: %w", err)
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open binaries: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(cfg.Dir, e.Name())
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.Remove(path); err != nil { // what was being copied when the collector ended
				return nil, fmt.Errorf("open binaries: %w", err)
			}
			continue
		}
		st, err := e.Info()
		if err != nil {
			continue // deleted meanwhile
		}
		if f := parseName(e.Name()); f != nil {
			f.path, f.used = path, st.ModTime()
			s.insert(f)
		} else if l := parseList(e.Name(), st.Size()); l != nil {
			l.path, l.used = path, st.ModTime()
			s.insertList(l)
		}
	}
	s.generation.Store(1)
	return s, nil
}

// fileName says what a file is, so that no other file has to: names and bytes.
func (f *file) fileName() string {
	return strings.Join([]string{cmp.Or(f.ids.GNU, "-"), cmp.Or(f.ids.Go, "-"), cmp.Or(f.ids.Hash, "-"), strconv.FormatInt(f.bytes, 10)}, "_") + suffix
}

// parseName reads the name of a file, nil where it is none of ours.
func parseName(name string) *file {
	base, ok := strings.CutSuffix(name, suffix)
	parts := strings.Split(base, "_")
	if !ok || len(parts) != 4 {
		return nil
	}
	n, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil || n < 0 {
		return nil
	}
	for i, p := range parts[:3] {
		if p == "-" {
			parts[i] = ""
		}
	}
	return &file{ids: IDs{GNU: parts[0], Go: parts[1], Hash: parts[2]}, bytes: n}
}

// insert makes f known. s.mu is held, or nobody else has s.
func (s *Store) insert(f *file) {
	for _, name := range f.ids.all() {
		if s.files[name] == nil {
			s.files[name] = f
		}
		delete(s.candidates, name)
		delete(s.wanted, name)
	}
	s.bytes += f.bytes
}

// distinct returns the binaries by when they were used, the latest first. s.mu is held.
func (s *Store) distinct() []*file { return s.byUse(s.files) }

// byUse returns the files in these maps by when they were used, the latest first. s.mu is held.
func (s *Store) byUse(of ...map[string]*file) []*file {
	set := map[*file]bool{}
	for _, m := range of {
		for _, f := range m {
			set[f] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b *file) int { return cmp.Or(b.used.Compare(a.used), strings.Compare(a.path, b.path)) })
}

// Generation grows whenever a binary becomes known.
func (s *Store) Generation() uint64 { return s.generation.Load() }

// Add tells of the file of a local process, such as /proc/PID/exe. It is read only as far as its names take; Run copies it if frames have asked for it, or when they do.
func (s *Store) Add(ctx context.Context, path string) error {
	f, size, ids, err := identifyFile(path)
	if err != nil {
		return fmt.Errorf("add binary: %w", err)
	}
	f.Close()
	if s.known(ids) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > s.cfg.MaxFile {
		return fmt.Errorf("add binary %s: more than %d bytes: %w", path, s.cfg.MaxFile, ErrTooLarge)
	}
	for _, name := range ids.all() {
		if len(s.candidates) >= maxCandidates {
			for victim := range s.candidates { // any one
				delete(s.candidates, victim)
				break
			}
		}
		s.candidates[name] = path
		if s.wanted[name] != nil {
			s.ask(name)
		}
	}
	return ctx.Err()
}

// ask has Run copy a candidate, and reports whether it will. s.mu is held.
func (s *Store) ask(name string) bool {
	select {
	case s.asked <- name:
		return true
	default:
		return false
	}
}

// identifyFile opens a file and returns its size and names.
func identifyFile(path string) (f *os.File, size int64, ids IDs, err error) {
	if f, err = os.Open(path); err != nil {
		return nil, 0, ids, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil {
		ids, err = identify(f, st.Size())
	}
	if err != nil {
		f.Close()
		return nil, 0, ids, fmt.Errorf("read %s: %w", path, err)
	}
	return f, st.Size(), ids, nil
}

// fetch copies the candidate of a name. Its path may be another file's by now: a process ended, and its id was given to the next.
func (s *Store) fetch(ctx context.Context, name string) {
	s.mu.Lock()
	path := s.candidates[name]
	delete(s.candidates, name)
	s.mu.Unlock()
	if path == "" {
		return
	}
	f, size, ids, err := identifyFile(path)
	if err != nil {
		return // the process is gone: what it ran stays in the list of what is wanted
	}
	defer f.Close()
	if slices.Contains(ids.all(), name) {
		_, err = s.keep(ctx, f, size)
	}
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.Warn("cannot copy a binary that frames ask for", "path", path, "error", err)
	}
}

// Put takes a binary from r, which is read to its end.
func (s *Store) Put(ctx context.Context, r io.Reader) (IDs, error) {
	f, err := os.CreateTemp(s.cfg.Dir, tempPattern)
	if err != nil {
		return IDs{}, fmt.Errorf("put binary: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(r, s.cfg.MaxFile+1))
	if err != nil {
		return IDs{}, err // the reader's, which says what it is
	}
	ids, err := s.keep(ctx, f, n)
	if err != nil || s.cfg.Told == nil {
		return ids, err
	}
	info, err := build.Read(f)
	if err != nil {
		return ids, nil // it is not of Go, and has its symbols all the same
	}
	info.Size = n
	if err := s.cfg.Told(ctx, info); err != nil {
		return ids, fmt.Errorf("tell of a binary: %w", err)
	}
	return ids, nil
}

// keep copies a file of size bytes into the folder.
func (s *Store) keep(ctx context.Context, r io.ReaderAt, size int64) (IDs, error) {
	if size > s.cfg.MaxFile || size > s.cfg.MaxBytes {
		return IDs{}, fmt.Errorf("keep binary: more than %d bytes: %w", min(s.cfg.MaxFile, s.cfg.MaxBytes), ErrTooLarge)
	}
	ids, err := identify(r, size)
	if err != nil {
		return ids, fmt.Errorf("keep binary: %w", err)
	}
	m, err := readImage(r, size)
	if err != nil {
		return ids, fmt.Errorf("keep binary: %w", err)
	}
	if s.known(ids) {
		return ids, nil
	}
	tmp, err := os.CreateTemp(s.cfg.Dir, tempPattern)
	if err != nil {
		return ids, fmt.Errorf("keep binary: %w", err)
	}
	defer os.Remove(tmp.Name()) // gone once it is renamed
	f := &file{ids: ids, used: s.cfg.Now()}
	f.bytes, err = copyNeeded(ctx, tmp, m)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return ids, fmt.Errorf("keep binary: %w", err)
	}
	f.path = filepath.Join(s.cfg.Dir, f.fileName())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ids, fmt.Errorf("keep binary: %w", os.ErrClosed)
	}
	if s.knownLocked(ids) { // another was faster
		return ids, nil
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return ids, fmt.Errorf("keep binary: %w", err)
	}
	s.insert(f)
	s.generation.Add(1)
	return ids, s.makeRoom(f)
}

// known reports whether binaries of all of these names are here. One that was stripped has the build ids of the one that was not, but another hash.
func (s *Store) known(ids IDs) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.knownLocked(ids)
}

func (s *Store) knownLocked(ids IDs) bool {
	return !slices.ContainsFunc(ids.all(), func(name string) bool { return s.files[name] == nil })
}

// makeRoom deletes the files that were not used for longest, but not the one that came. s.mu is held.
func (s *Store) makeRoom(came *file) error {
	if s.bytes <= s.cfg.MaxBytes && len(s.lists) <= maxLists {
		return nil
	}
	for _, f := range slices.Backward(s.byUse(s.files, s.lists)) {
		if s.bytes <= s.cfg.MaxBytes && len(s.lists) <= maxLists {
			break
		}
		if f == came || s.bytes <= s.cfg.MaxBytes && f.list == "" {
			continue
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("make room for a binary: %w", err)
		}
		s.remove(f)
	}
	return nil
}

// Run copies binaries of local processes that frames ask for, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case name := <-s.asked:
			s.fetch(ctx, name)
		}
	}
}

// List returns the binaries that are known, used last first, and those that are not, asked for last first.
func (s *Store) List() (known []Binary, wanted []Wanted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.distinct() {
		known = append(known, Binary{IDs: f.ids, Bytes: f.bytes, Used: f.used.UnixMilli()})
	}
	for _, w := range s.wanted {
		wanted = append(wanted, *w)
	}
	slices.SortFunc(wanted, func(a, b Wanted) int {
		return cmp.Or(cmp.Compare(b.Last, a.Last), strings.Compare(a.BuildID, b.BuildID))
	})
	return known, wanted
}

// Bytes returns what all files take.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Wanted returns how many binaries frames asked for that are not known.
func (s *Store) Wanted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wanted)
}

// Close closes the files that are open. It may be called twice.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.naming.Lock()
	defer s.naming.Unlock()
	var errs []error
	for _, o := range s.open {
		errs = append(errs, o.close())
	}
	s.open = nil
	return errors.Join(errs...)
}

// MaxFile is the most bytes that a file may have as it comes.
func (s *Store) MaxFile() int64 { return min(s.cfg.MaxFile, s.cfg.MaxBytes) }
