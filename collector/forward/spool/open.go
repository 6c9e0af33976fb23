package spool

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
)

// Open opens the spool in a directory, which it makes where it is missing, and finds out what is not done. No other process may have it open.
func Open(cfg Config) (*Spool, error) {
	if cfg.MaxBytes < MinBytes {
		return nil, fmt.Errorf("open spool: limit of %d bytes, at least %d", cfg.MaxBytes, MinBytes)
	}
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = min(cfg.MaxBytes/16, 16<<20)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Spool{cfg: cfg, log: cfg.Logger, now: cfg.Now, room: semaphore.NewWeighted(maxWaiting), wake: make(chan struct{}, 1), quit: make(chan struct{}),
		readable: make(chan struct{}), next: 1}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open spool in %s: %w", cfg.Dir, err)
	}
	s.gone.Add(1)
	go s.run()
	return s, nil
}

// loader is what the files of a spool say when it is opened.
type loader struct {
	s       *Spool
	cursor  [2]uint64
	through uint64 // the highest file that was dropped
	pushes  []place
}

// place is where a push stands that may not be done.
type place struct {
	file uint64
	at   int64 // its end
}

// load reads what is in the directory.
func (s *Spool) load() error {
	if err := s.cfg.FS.MkdirAll(s.cfg.Dir); err != nil {
		return err
	}
	if err := s.cfg.FS.SyncDir(filepath.Dir(filepath.Clean(s.cfg.Dir))); err != nil {
		return err
	}
	names, err := s.cfg.FS.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	l := &loader{s: s}
	for _, e := range names { // sorted
		hex, ok := strings.CutSuffix(e.Name(), suffix)
		n, err := strconv.ParseUint(hex, 16, 64)
		if !ok || err != nil || e.Name() != fileName(n) {
			continue // not ours
		}
		s.next = n + 1
		if err := l.file(n); err != nil {
			// What is there may be read another time; what comes now can be taken all the same.
			s.log.Error("cannot read a segment of the spool, it is left as it is", "file", e.Name(), "error", err)
		}
	}
	return l.finish()
}

// file looks through one file.
func (l *loader) file(n uint64) error {
	f := &file{number: n, path: filepath.Join(l.s.cfg.Dir, fileName(n)), sealed: true}
	sc, err := openFile(l.s.cfg.FS, f.path, n)
	if err != nil {
		return err
	}
	defer sc.f.Close()
	f.size = sc.end
	for {
		h, at, err := sc.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if f.begun == 0 {
			f.begun = h.time
		}
		if err := l.record(sc, h, at); err != nil {
			return err
		}
		f.end = sc.at
	}
	l.s.stats.TornBytes += sc.torn
	l.s.files = append(l.s.files, f)
	return nil
}

func (l *loader) record(sc *scanner, h header, at int64) error {
	if h.kind == kindPush {
		l.pushes = append(l.pushes, place{sc.file, sc.at})
		return nil
	}
	b, err := sc.payload(h, at)
	if err == errSum {
		return nil // found again, and counted, where it is read
	}
	if err != nil {
		return err
	}
	switch h.kind {
	case kindProcess:
		if instance, p, ok := parseProcess(b); ok {
			l.s.procs.put(instance, p)
		}
	case kindGaps:
		if it, err := parsePush(h.kind, b); err == nil {
			l.through = max(l.through, it.account.Through)
			l.pushes = append(l.pushes, place{sc.file, sc.at})
		}
	case kindCursor:
		if len(b) == 16 {
			l.cursor = [2]uint64{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
		}
	}
	return nil
}

// finish sets where reading begins, and removes files that are done or were to be dropped.
func (l *loader) finish() error {
	s := l.s
	s.doneFile, s.doneAt = l.cursor[0], int64(l.cursor[1])
	s.toldFile, s.toldAt = s.doneFile, s.doneAt
	waits := map[uint64]int64{}
	for _, p := range l.pushes {
		if p.file > l.through && !s.isDoneLocked(p.file, p.at) {
			waits[p.file]++
		}
	}
	var keep []*file
	for _, f := range s.files {
		if f.waiting = waits[f.number]; f.waiting > 0 {
			keep = append(keep, f)
			continue
		}
		if err := s.cfg.FS.Remove(f.path); err != nil {
			return fmt.Errorf("remove what is done: %w", err)
		}
	}
	s.files = keep
	// Also what an earlier life removed: a file that came back after a power loss would stand among others with numbers like its own.
	return s.cfg.FS.SyncDir(s.cfg.Dir)
}
