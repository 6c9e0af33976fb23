package faultfs

import "errors"

// Op is a set of operations.
type Op uint16

// The operations that can fail. MkdirAll counts as one, whatever it creates.
const (
	Create Op = 1 << iota
	Open
	Write
	Sync
	Close
	Rename
	Remove
	Mkdir
	SyncDir
	ReadDir
	Stat
	ReadAt

	// Mutations are the operations that change the disk or make a change durable.
	Mutations = Create | Write | Sync | Rename | Remove | Mkdir | SyncDir
	// All is every operation.
	All = Mutations | Open | Close | ReadDir | Stat | ReadAt
)

var (
	// ErrInjected is what a Fault without Err fails with.
	ErrInjected = errors.New("injected fault")
	// ErrDead is what everything fails with after a Fault with Crash, and what files opened before a Kill or PowerLoss fail with.
	ErrDead = errors.New("process is dead")
)

// Fault makes one operation fail.
type Fault struct {
	Ops    Op    // which operations count; 0: Mutations
	N      int   // the N-th of them from the call of Inject on, the first being 1
	Err    error // nil: ErrInjected
	Short  bool  // a Write writes half before it fails
	Late   bool  // the operation does its work and fails all the same
	Sticky bool  // all later ones of Ops fail too: a disk that stays full
	Crash  bool  // after it every operation fails with ErrDead until Kill or PowerLoss: the process died here

	seen int
}

// Inject replaces the faults in force. Without arguments nothing fails any more.
func (m *FS) Inject(faults ...Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = nil
	for _, f := range faults {
		if f.Ops == 0 {
			f.Ops = Mutations
		}
		if f.Err == nil {
			f.Err = ErrInjected
		}
		m.faults = append(m.faults, &f)
	}
}

// Fired returns how many operations faults have failed since New.
func (m *FS) Fired() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fired
}

// Count returns how many operations of ops were tried since New: the range of N for a test that fails each in turn.
func (m *FS) Count(ops Op) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for op, c := range m.counts {
		if op&ops != 0 {
			n += c
		}
	}
	return n
}

// verdict is what is to become of one operation.
type verdict struct {
	err   error
	short bool
	late  bool
}

// before counts op and decides its fate. m.mu is held.
func (m *FS) before(op Op) verdict {
	if m.dead {
		return verdict{err: ErrDead}
	}
	m.counts[op]++
	var v verdict
	for _, f := range m.faults {
		if f.Ops&op == 0 {
			continue
		}
		f.seen++
		if v.err != nil || f.seen < f.N || f.seen > f.N && !f.Sticky {
			continue
		}
		v = verdict{err: f.Err, short: f.Short, late: f.Late}
		m.dead = m.dead || f.Crash
		m.fired++
	}
	return v
}
