package faultfs

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// node is a file or a directory.
type node struct {
	mod time.Time

	data   []byte
	synced int  // data[:synced] survives a power loss
	lost   bool // a Sync failed: what is not synced yet never will be

	entries map[string]*node // nil for a file
	durable map[string]*node // entries at the last SyncDir
	log     []change         // what became of the names since
}

// change is one change of a directory's names. It reaches the disk as a whole or not at all.
type change struct {
	unset string // this name goes, if not empty
	set   string // this name becomes n, if not empty
	n     *node
}

func newDir() *node { return &node{entries: map[string]*node{}, durable: map[string]*node{}} }

func (n *node) isDir() bool { return n.entries != nil }

func (n *node) set(name string, to *node)     { n.apply(change{set: name, n: to}) }
func (n *node) unset(name string)             { n.apply(change{unset: name}) }
func (n *node) move(from, to string, x *node) { n.apply(change{unset: from, set: to, n: x}) }

func (n *node) apply(c change) {
	n.log = append(n.log, c)
	c.on(n.entries)
}

func (c change) on(names map[string]*node) {
	if c.unset != "" {
		delete(names, c.unset)
	}
	if c.set != "" {
		names[c.set] = c.n
	}
}

// powerLoss takes from n and all below it what was not synced, but for what r lets survive.
func (n *node) powerLoss(r *rand.Rand) {
	if !n.isDir() {
		n.loseBytes(r)
		return
	}
	names := maps.Clone(n.durable)
	for _, c := range n.log {
		if r.IntN(2) == 0 {
			c.on(names)
		}
	}
	n.entries, n.durable, n.log = names, maps.Clone(names), nil
	for _, name := range slices.Sorted(maps.Keys(names)) {
		names[name].powerLoss(r)
	}
}

// loseBytes cuts the unsynced end of a file somewhere and, one time in two, leaves the file as long as it was with zeros there: a disk may have
// written the length but not the bytes.
func (n *node) loseBytes(r *rand.Rand) {
	unsynced := len(n.data) - n.synced
	if unsynced > 0 {
		keep := n.synced + r.IntN(unsynced+1)
		data := slices.Clone(n.data)
		if r.IntN(2) == 0 {
			clear(data[keep:])
		} else {
			data = data[:keep]
		}
		n.data = data
	}
	n.synced, n.lost = len(n.data), false
}

// Kill ends the process that uses the file system: open files are dead, all that was written stays, synced or not. Faults are cleared.
func (m *FS) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restart()
}

// PowerLoss is a Kill that takes unsynced bytes and names with it. seed decides which of them happened to reach the disk.
func (m *FS) PowerLoss(seed uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restart()
	m.root.powerLoss(rand.New(rand.NewPCG(seed, 0)))
}

func (m *FS) restart() {
	m.life++
	m.dead = false
	m.faults = nil
}

// Flip inverts one bit of the byte at off in the file at path, synced: what a bad disk does. It reports whether there was such a byte.
func (m *FS) Flip(path string, off int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(path)
	if err != nil || off < 0 || off >= int64(len(n.data)) {
		return false
	}
	n.data = slices.Clone(n.data)
	n.data[off] ^= 1
	return true
}

type info struct {
	name string
	size int64
	mode fs.FileMode
	mod  time.Time
}

func (n *node) info(name string) fs.FileInfo {
	i := info{name: name, size: int64(len(n.data)), mode: 0o600, mod: n.mod}
	if n.isDir() {
		i.mode = fs.ModeDir | 0o700
	}
	return i
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.mod }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
