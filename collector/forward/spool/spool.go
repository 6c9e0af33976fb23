package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sonde-io/sonde/internal/fsys"
)

var (
	// ErrClosed says that the spool was closed.
	ErrClosed = errors.New("spool is closed")
	// ErrUnknownProcess says that a push refers to a process object that is not, or no longer, known: it is to be appended with the object.
	ErrUnknownProcess = errors.New("process object is not known")
	// ErrTooLarge says that a push is larger than the spool takes: a quarter of its limit, and at most 64 MiB.
	ErrTooLarge = errors.New("push is too large for the spool")
)

// Config configures a Spool. FS, Dir, MaxBytes and Gaps are required.
type Config struct {
	FS       fsys.FS
	Dir      string
	MaxBytes int64 // on disk, at least MinBytes
	// SegmentBytes is how large a file becomes before the next is begun, and so how much is dropped at once; 0: a sixteenth of MaxBytes, at most 16 MiB.
	SegmentBytes int64
	// Gaps makes the push that tells the collector what was dropped.
	Gaps   func(a *Account) (Push, error)
	Logger *slog.Logger     // nil: discard
	Now    func() time.Time // nil: time.Now
}

// MinBytes is the least limit of a spool.
const MinBytes = 4 << 20

// The bounds of what waits to be written.
const (
	maxWaiting   = 64 << 20        // bytes of pushes whose Append has not returned
	maxWrite     = 4 << 20         // bytes of one write, a single push apart
	cursorEvery  = 2 * time.Second // how often it is written down what is done
	maxProcesses = 64 << 20        // bytes of process objects kept in memory, deflated
)

// Stats is what a spool holds and did.
type Stats struct {
	Bytes, MaxBytes  int64 // on disk
	Files            int
	Waiting          int64 // pushes that are not done
	Oldest           int64 // about when the oldest of them was appended, Unix ms; 0: nothing waits
	Appended         int64
	DroppedFull      int64 // pushes dropped because the limit was reached
	DamagedBytes     int64 // skipped in reading
	DamagedPushes    int64 // with a wrong checksum, or in a file that could not be read
	TornBytes        int64 // cut at open
	Writes, Failures int64 // of write and sync
	SyncSeconds      float64
}

// Spool is an open spool.
type Spool struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	room *semaphore.Weighted // of maxWaiting
	wake chan struct{}       // to the writer
	quit chan struct{}
	gone sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	queue    []*request
	files    []*file // oldest first; the last may be written
	next     uint64  // number of the next file
	procs    processes
	stats    Stats
	readable chan struct{} // closed and replaced when there is more to read

	// Reading: where the next record is looked for, what was read and is not done, and the file being read.
	readFile     uint64
	readAt       int64
	readFailures int
	inFlight     []*Item // in the order of reading
	reader       *reader
	// done is the place before which all is done, told what of it was written down.
	doneFile, toldFile uint64
	doneAt, toldAt     int64

	lost Account // what was dropped and is not on disk yet

	// Of the writer alone.
	active fsys.File
	out    []byte
}

// file is one segment.
type file struct {
	number  uint64
	path    string
	size    int64 // on disk
	end     int64 // up to where it may be read
	waiting int64 // pushes in it that are not done
	begun   int64 // Unix ms
	sealed  bool
	dropped bool
	held    map[string]string // of the process objects in it, the hash by instance; of the active one only
}

// request is pushes on their way to the disk.
type request struct {
	pushes []*Push
	bytes  int64
	done   chan error
}

// Append keeps pushes, all or none of them, in their order. When it returns nil they survive kill -9 and power loss; until it returns, their bytes must
// not change. ctx ends only the wait for room.
func (s *Spool) Append(ctx context.Context, pushes ...*Push) error {
	r := &request{pushes: pushes, done: make(chan error, 1)}
	for _, p := range pushes {
		r.bytes += p.size()
	}
	if most := min(s.cfg.MaxBytes/4, maxWaiting); r.bytes > most {
		return fmt.Errorf("append to spool: %d bytes, at most %d: %w", r.bytes, most, ErrTooLarge)
	}
	weight := r.bytes
	if err := s.room.Acquire(ctx, weight); err != nil {
		return fmt.Errorf("append to spool: wait for those before: %w", err)
	}
	defer s.room.Release(weight)
	for _, p := range pushes {
		if err := s.resolve(p); err != nil {
			return fmt.Errorf("append to spool: %w", err)
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("append to spool: %w", ErrClosed)
	}
	s.queue = append(s.queue, r)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	if err := <-r.done; err != nil {
		return fmt.Errorf("append to spool: %w", err)
	}
	return nil
}

// resolve finds the process object of p, and takes it into the table where it came with it.
func (s *Spool) resolve(p *Push) error {
	if p.Hash == "" {
		return nil
	}
	if p.process = s.Process(p.Instance, p.Hash); p.process != nil {
		return nil
	}
	if p.Process == nil {
		return fmt.Errorf("%w: %s of %s", ErrUnknownProcess, p.Hash, p.Instance)
	}
	var err error
	if p.process, err = newProcess(p.Hash, p.Service, p.Process); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs.put(subject(p.Instance, p.Hash), p.process)
	return nil
}

// subject is what process objects are filed under: those that nobody is to remember under their hash.
func subject(instance, hash string) string {
	if instance == "" {
		return "?" + hash
	}
	return instance
}

// Process returns the process object of instance with that hash, nil where it is not known.
func (s *Spool) Process(instance, hash string) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.procs.get(subject(instance, hash)); p != nil && p.Hash == hash {
		return p
	}
	return nil
}

// Knows reports whether the process object of instance with that hash is known.
func (s *Spool) Knows(instance, hash string) bool { return s.Process(instance, hash) != nil }

// Stats returns what the spool holds and did.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.MaxBytes, st.Files = s.cfg.MaxBytes, len(s.files)
	for _, f := range s.files {
		st.Bytes += f.size
		st.Waiting += f.waiting
		if f.waiting > 0 && st.Oldest == 0 {
			st.Oldest = f.begun
		}
	}
	if len(s.inFlight) > 0 { // it says when it was appended
		st.Oldest = s.inFlight[0].appended
	}
	return st
}

// Close writes down what is done and ends the spool. It may be called twice. Appends that wait fail with ErrClosed.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.quit)
	s.gone.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeReader()
	return nil
}

// processes is the table of process objects by instance, those used least lately forgotten first.
type processes struct {
	m     map[string]*entry
	bytes int
	clock uint64
}

type entry struct {
	*Process
	used uint64
}

func (t *processes) get(instance string) *Process {
	e := t.m[instance]
	if e == nil {
		return nil
	}
	t.clock++
	e.used = t.clock
	return e.Process
}

func (t *processes) put(instance string, p *Process) {
	if t.m == nil {
		t.m = map[string]*entry{}
	}
	if old := t.m[instance]; old != nil {
		t.bytes -= len(old.deflated)
	}
	t.clock++
	t.m[instance] = &entry{p, t.clock}
	t.bytes += len(p.deflated)
	for t.bytes > maxProcesses || len(t.m) > maxTable {
		t.forget()
	}
}

// maxTable bounds the number of process objects in memory.
const maxTable = 64 << 10

// forget drops about an eighth of the table: those used least lately.
func (t *processes) forget() {
	limit := t.clock - uint64(len(t.m))*7/8
	n := 0
	for instance, e := range t.m {
		if e.used < limit || n == 0 && e.used < t.clock {
			t.bytes -= len(e.deflated)
			delete(t.m, instance)
			n++
		}
	}
	if n == 0 { // one that is larger than the table
		clear(t.m)
		t.bytes = 0
	}
}
