package spool

import (
	"context"
	"io"
	"slices"
)

// reader is the file being read.
type reader struct {
	sc    *scanner
	file  *file
	procs map[string]*Process // of the file so far, by instance
}

// Read returns the next push in the order of appending, waiting for one. It is to be told Done of it. Errors are ErrClosed, ctx's, and those of reading
// a file. After one of the last kind Read tries again; what cannot be read several times is counted as damaged and left out.
func (s *Spool) Read(ctx context.Context) (*Item, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		wait := s.readable
		s.mu.Unlock()
		it, err := s.TryRead()
		if it != nil || err != nil {
			return it, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.quit:
			return nil, ErrClosed
		case <-wait:
		}
	}
}

// TryRead is Read without waiting: nil where there is none now.
func (s *Spool) TryRead() (*Item, error) {
	for {
		s.mu.Lock()
		ok, err := s.openReader()
		if !ok || err != nil {
			s.mu.Unlock()
			return nil, err
		}
		r := s.reader
		r.sc.end = r.file.end
		s.mu.Unlock()
		it, err := r.next()
		s.mu.Lock()
		s.stats.DamagedBytes += r.sc.damaged
		r.sc.damaged = 0
		switch {
		case r.file.dropped: // while it was read
			s.closeReader()
		case err == io.EOF:
			if r.file.end == r.sc.end { // nothing was appended meanwhile
				if !r.file.sealed {
					s.mu.Unlock()
					return nil, nil
				}
				s.readFile, s.readAt, s.readFailures = r.file.number+1, 0, 0
				s.closeReader()
				s.advanceLocked()
			}
		case err != nil:
			s.readFailedLocked(r.file)
			s.mu.Unlock()
			return nil, err
		case it != nil && it.end > s.readAt && !s.isDoneLocked(it.file, it.end):
			s.readAt, s.readFailures = it.end, 0
			s.inFlight = append(s.inFlight, it)
			if it.damaged {
				s.stats.DamagedPushes++
				s.doneLocked(it)
				break
			}
			if p := s.procs.get(subject(it.Instance, it.Hash)); it.Process == nil && it.Hash != "" && p != nil && p.Hash == it.Hash {
				it.Process = p
			}
			s.mu.Unlock()
			return it, nil
		}
		s.mu.Unlock()
	}
}

func (s *Spool) isDoneLocked(file uint64, end int64) bool {
	return file < s.doneFile || file == s.doneFile && end <= s.doneAt
}

// Done says that an item has arrived, or never will: it is forgotten.
func (s *Spool) Done(it *Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doneLocked(it)
}

// Dropped reports whether the item was dropped, and accounted for, since it was read. It is not to be sent any more.
func (s *Spool) Dropped(it *Item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return it.dropped
}

func (s *Spool) doneLocked(it *Item) {
	if it.done {
		return
	}
	it.done = true
	if i := slices.IndexFunc(s.files, func(f *file) bool { return f.number == it.file }); i >= 0 {
		s.files[i].waiting--
	}
	s.advanceLocked()
}

// advanceLocked moves the place before which all is done, and removes the files before it.
func (s *Spool) advanceLocked() {
	n := 0
	for n < len(s.inFlight) && s.inFlight[n].done {
		s.doneFile, s.doneAt = s.inFlight[n].file, s.inFlight[n].end
		n++
	}
	s.inFlight = slices.Delete(s.inFlight, 0, n)
	first := s.readFile
	if len(s.inFlight) > 0 {
		first = s.inFlight[0].file
	}
	s.files = slices.DeleteFunc(s.files, func(f *file) bool {
		if !f.sealed || f.dropped || f.number >= first {
			return false
		}
		if err := s.cfg.FS.Remove(f.path); err != nil {
			// It is looked at again when the spool is opened, and what is in it is a duplicate then.
			s.log.Warn("cannot remove a segment of the spool that is done", "file", f.path, "error", err)
		}
		return true
	})
}

// settle takes what of f is not done into the account of what was dropped. From here on f is not read.
func (s *Spool) settle(f *file) *Account {
	s.mu.Lock()
	if f.dropped { // before, and the account could not be written
		defer s.mu.Unlock()
		return &s.lost
	}
	f.dropped = true
	s.lost.Through = f.number
	drop := func(it *Item) {
		f.waiting--
		s.lost.addItem(it)
		if it.account == nil {
			s.stats.DroppedFull++
		}
	}
	for _, it := range s.inFlight {
		if it.file == f.number && !it.done {
			it.done, it.dropped = true, true
			drop(it)
		}
	}
	from := int64(0)
	unread := f.number >= s.readFile
	if f.number == s.readFile {
		from = s.readAt
	}
	if unread {
		s.readFile, s.readAt = f.number+1, 0
	}
	s.advanceLocked()
	s.mu.Unlock()
	var items []*Item
	if unread {
		items = s.unread(f, from)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range items {
		if !s.isDoneLocked(it.file, it.end) {
			drop(it)
		}
	}
	// What is damaged is lost too, but whose it was is not known.
	s.lost.add(Loss{Pushes: max(f.waiting, 0), From: f.begun, To: f.begun})
	s.stats.DroppedFull += max(f.waiting, 0)
	f.waiting = 0
	return &s.lost
}

// unread reads what stands in f from an offset on, without profiles.
func (s *Spool) unread(f *file, from int64) (items []*Item) {
	sc, err := openFile(s.cfg.FS, f.path, f.number)
	if err != nil {
		s.log.Error("cannot read a segment that is dropped, to account for it", "file", f.path, "error", err)
		return nil
	}
	defer sc.f.Close()
	sc.at, sc.end = max(from, sc.at), f.end
	r := &reader{sc: sc, file: f, procs: map[string]*Process{}}
	for {
		it, err := r.next()
		if err != nil {
			return items
		}
		if it != nil && !it.damaged {
			it.Meta, it.Profiles = nil, nil
			items = append(items, it)
		}
	}
}

// openReader makes sure that there is a file to read from; s.mu is held.
func (s *Spool) openReader() (bool, error) {
	if s.reader != nil {
		if !s.reader.file.dropped {
			return true, nil
		}
		s.closeReader()
	}
	i := slices.IndexFunc(s.files, func(f *file) bool {
		return f.number >= s.readFile && !f.dropped && (f.sealed || f.end > int64(fileHeader))
	})
	if i < 0 {
		return false, nil
	}
	f := s.files[i]
	if s.readFile != f.number {
		s.readFile, s.readAt = f.number, 0
	}
	sc, err := openFile(s.cfg.FS, f.path, f.number)
	if err != nil {
		s.readFailedLocked(f)
		return false, err
	}
	sc.end = f.end
	s.reader = &reader{sc: sc, file: f, procs: map[string]*Process{}}
	return true, nil
}

// maxReadFailures is how often in a row a file is tried to be read before the next one is.
const maxReadFailures = 5

// readFailedLocked has f read once more, from where reading was, or gives it up.
func (s *Spool) readFailedLocked(f *file) {
	s.closeReader()
	if s.readFailures++; s.readFailures < maxReadFailures {
		return
	}
	lost := f.waiting
	for _, it := range s.inFlight {
		if it.file == f.number && !it.done {
			lost--
		}
	}
	s.stats.DamagedPushes += lost
	f.waiting -= lost
	s.readFile, s.readAt, s.readFailures = f.number+1, 0, 0
}

func (s *Spool) closeReader() {
	if s.reader != nil {
		s.reader.sc.f.Close() // it was only read
		s.reader = nil
	}
}

// next returns the next push of the file, nil for another record.
func (r *reader) next() (*Item, error) {
	h, at, err := r.sc.next()
	if err != nil {
		return nil, err
	}
	if h.kind == kindCursor {
		return nil, nil
	}
	b, err := r.sc.payload(h, at)
	if err == errSum {
		if h.kind == kindPush || h.kind == kindGaps {
			return &Item{file: r.file.number, end: r.sc.at, damaged: true}, nil
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch h.kind {
	case kindProcess:
		if instance, p, ok := parseProcess(b); ok {
			r.procs[instance] = p
		}
	case kindPush, kindGaps:
		it, err := parsePush(h.kind, b)
		if err != nil {
			return nil, nil // of another version: the checksum is right
		}
		if p := r.procs[subject(it.Instance, it.Hash)]; p != nil && p.Hash == it.Hash {
			if it.Process = p; it.Service == "" {
				it.Service = p.Service
			}
		}
		it.file, it.end, it.appended = r.file.number, r.sc.at, h.time
		return it, nil
	}
	return nil, nil
}
