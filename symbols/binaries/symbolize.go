package binaries

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/sonde-io/sonde/symbols/pclntab"
)

// What is open at once: a service's frames are of few binaries.
const (
	maxOpen       = 8
	maxTableBytes = 128 << 20 // of symbol tables
)

// opened is a binary whose tables are read.
type opened struct {
	of      *file
	f       *os.File
	image   *image
	table   *pclntab.Table // nil: no Go program, or of a version that is not known
	symbols *symtab        // nil: not read yet; a Go program's is for its functions in C
	frames  []pclntab.Frame
}

func (o *opened) close() error {
	var err error
	if o.table != nil {
		err = o.table.Close()
	}
	return errors.Join(err, o.f.Close())
}

// Symbolize calls add for every frame at an address of the binary of that name, innermost first, and reports whether it knows any. start, limit and offset are those of the
// mapping that the address was met in; an address outside of it is one as the linker gave it. A binary that is not known is remembered as wanted.
func (s *Store) Symbolize(buildID string, start, limit, offset, address uint64, add func(function, file string, line, startLine int64)) bool {
	f := s.lookup(buildID)
	if f == nil {
		return false
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	o := s.opened(f)
	if o == nil {
		return false
	}
	at, ok := o.image.linked(start, limit, offset, address)
	if !ok {
		return false
	}
	if o.table != nil {
		o.frames = o.table.Frames(o.frames[:0], at)
		for _, fr := range o.frames {
			if fr.File == "?" {
				fr.File = ""
			}
			add(fr.Func, fr.File, int64(fr.Line), int64(fr.StartLine))
		}
		if len(o.frames) > 0 {
			return true
		}
	}
	if o.symbols == nil {
		o.symbols = readSymtab(o.image)
		s.trim()
	}
	name := o.symbols.find(at)
	if name != "" {
		add(name, "", 0, 0)
	}
	return name != ""
}

// lookup returns the file of a name. One that is not there is wanted from now on.
func (s *Store) lookup(id string) *file {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if f := s.files[id]; f != nil {
		if now.Sub(f.used) > time.Hour {
			f.used = now
			_ = os.Chtimes(f.path, now, now) // only for the order in which files go
		}
		return f
	}
	if id == "" || len(id) > maxBuildID {
		return nil
	}
	w := s.wanted[id]
	if w == nil {
		if len(s.wanted) >= maxWanted {
			for victim := range s.wanted { // any one
				delete(s.wanted, victim)
				break
			}
		}
		w = &Wanted{BuildID: id}
		s.wanted[id] = w
		if s.candidates[id] != "" {
			if !s.ask(id) {
				delete(s.wanted, id) // asked for again by the next frame
				return nil
			}
		}
	}
	w.Frames++
	w.Last = now.UnixMilli()
	return nil
}

// opened returns f with its tables, nil where it cannot be read. s.naming is held.
func (s *Store) opened(f *file) *opened {
	if i := slices.IndexFunc(s.open, func(o *opened) bool { return o.of == f }); i >= 0 {
		o := s.open[i]
		s.open = slices.Insert(slices.Delete(s.open, i, i+1), 0, o)
		return o
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil
	}
	o := &opened{of: f, f: file}
	st, err := file.Stat()
	if err == nil {
		o.image, err = readImage(file, st.Size())
	}
	if err != nil {
		file.Close()
		return nil
	}
	if o.table, err = pclntab.New(file, st.Size()); err != nil {
		o.table = nil
	}
	s.open = slices.Insert(s.open, 0, o)
	s.trim()
	return o
}

// trim closes the binaries that were not used for longest until the rest is within bounds, but not the last one used. s.naming is held.
func (s *Store) trim() {
	bytes := int64(0)
	for i, o := range s.open {
		if o.symbols != nil {
			bytes += o.symbols.bytes()
		}
		if i > 0 && (i >= maxOpen || bytes > maxTableBytes) {
			for _, o := range s.open[i:] {
				_ = o.close() // it was only read
			}
			s.open = slices.Delete(s.open, i, len(s.open))
			return
		}
	}
}
