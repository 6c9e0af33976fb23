package binaries

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
)

// Bounds of a sorter's memory. The names of the largest programs have some 10 MiB.
const (
	runBytes  = 2 << 20 // of names that are sorted at once
	runReader = 8 << 10 // of each run while runs are merged
	maxRuns   = 256     // twice what the largest table that pclntab reads makes
)

// sorter sorts names in little memory: what does not fit at once goes to a file in sorted runs, which are merged.
type sorter struct {
	dir     string
	bytes   []byte // the names, one after the other
	ends    []nameAt
	sorted  bool
	file    *os.File // nil: all of it fits
	written int64
	runs    []span // in the file
}

// nameAt is a name's place in a sorter's bytes.
type nameAt struct{ from, to uint32 }

func (s *sorter) name(n nameAt) []byte { return s.bytes[n.from:n.to] }

// add takes a name.
func (s *sorter) add(name string) error {
	if len(s.bytes)+len(name) > runBytes || len(s.ends) >= runBytes/16 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	from := uint32(len(s.bytes))
	s.bytes = append(s.bytes, name...)
	s.ends = append(s.ends, nameAt{from, uint32(len(s.bytes))})
	s.sorted = false
	return nil
}

// sort puts the names that are in memory in order, each once.
func (s *sorter) sort() {
	if s.sorted {
		return
	}
	slices.SortFunc(s.ends, func(a, b nameAt) int { return bytes.Compare(s.name(a), s.name(b)) })
	s.ends = slices.CompactFunc(s.ends, func(a, b nameAt) bool { return bytes.Equal(s.name(a), s.name(b)) })
	s.sorted = true
}

// spill writes what is in memory to the file.
func (s *sorter) spill() (err error) {
	if len(s.runs) >= maxRuns {
		return errListBytes
	}
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, tempPattern); err != nil {
			return err
		}
	}
	s.sort()
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.written), 64<<10)
	at := s.written
	var length []byte
	for _, n := range s.ends {
		length = binary.AppendUvarint(length[:0], uint64(n.to-n.from))
		_, err1 := w.Write(length)
		_, err2 := w.Write(s.name(n))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		s.written += int64(len(length)) + int64(n.to-n.from)
	}
	s.runs = append(s.runs, span{at, s.written})
	s.bytes, s.ends, s.sorted = s.bytes[:0], s.ends[:0], false
	return w.Flush()
}

// close removes the file.
func (s *sorter) close() error {
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}

// each calls fn with the names in order, each once; they are valid until fn returns. It may be called again.
func (s *sorter) each(fn func(name []byte) error) error {
	if s.file == nil {
		s.sort()
		for _, n := range s.ends {
			if err := fn(s.name(n)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(s.ends) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	var h runHeap
	for _, r := range s.runs {
		c := &cursor{r: bufio.NewReaderSize(io.NewSectionReader(s.file, r.from, r.to-r.from), runReader)}
		if err := c.next(); err != nil {
			return err
		}
		h = append(h, c)
	}
	heap.Init(&h)
	var last []byte
	for len(h) > 0 {
		if !bytes.Equal(h[0].name, last) { // no name is empty
			last = append(last[:0], h[0].name...)
			if err := fn(last); err != nil {
				return err
			}
		}
		switch err := h[0].next(); {
		case errors.Is(err, io.EOF):
			heap.Pop(&h)
		case err != nil:
			return err
		default:
			heap.Fix(&h, 0)
		}
	}
	return nil
}

// cursor is where a merge is in a run.
type cursor struct {
	r    *bufio.Reader
	name []byte
}

// next reads the next name; the error is io.EOF at the run's end.
func (c *cursor) next() error {
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		return err
	}
	c.name = slices.Grow(c.name[:0], int(n))[:n] // as spill wrote it
	if _, err := io.ReadFull(c.r, c.name); err != nil {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// runHeap has the cursor with the first name on top.
type runHeap []*cursor

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return bytes.Compare(h[i].name, h[j].name) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*cursor)) }
func (h *runHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
