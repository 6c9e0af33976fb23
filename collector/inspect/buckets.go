package inspect

import (
	"fmt"
	"time"
)

// The runtime counts heap, mutex and block profiles in buckets, one for each stack: a header, the stack, then a record. Buckets are linked when they are
// complete and never change but for their record, nor are they freed; the list grows at its head. So a walk from a head that was read once sees a list that
// stands still.
const (
	bucketNext  = 8 // of the list of all buckets
	bucketType  = 16
	bucketHash  = 24
	bucketSize  = 32 // of the object, of a heap profile's bucket
	bucketDepth = 40
	bucketStack = 48

	blockRecordSize = 16  // count float64, cycles int64
	memRecordSize   = 128 // the published counts, then those of three cycles to come
	memCycleSize    = 32  // allocs, frees, alloc_bytes, free_bytes
)

// bucketKind is what a bucket's type says.
type bucketKind uint64

const (
	heapBucket  bucketKind = 1
	blockBucket bucketKind = 2
	mutexBucket bucketKind = 3
)

// Limits of a walk.
const (
	maxBuckets     = 1 << 20
	maxBucketDepth = 1024 // runtime.maxProfStackDepth
	chunkSize      = 16 << 10
	maxChunks      = 2048 // 64 MiB, as each is read twice
	maxAgain       = 1000 // readings of one walk for what was just being written
	heapTries      = 3    // of a heap profile that was published anew meanwhile
)

// bucket is one stack of a profile with what was counted.
type bucket struct {
	addr   uint64
	stack  []uint64 // return addresses of the process, innermost first; valid during the visit
	size   uint64   // bytes of each object; heap only
	mem    memCounts
	count  float64 // contentions; mutex and block
	cycles int64   // delay; mutex and block
}

// memCounts is what a heap bucket says.
type memCounts struct {
	active        [2]uint64 // allocs and frees as of the last garbage collection that is published
	allocs, frees uint64    // with those of the cycles to come
	sized         bool      // the published bytes are the counts times the size
}

// chunks reads memory in pieces that are kept during one walk, because buckets lie close together. Each piece is read twice by one system call, so
// that what changed in between is seen.
type chunks struct {
	r     *reader
	kept  map[uint64][]byte // by address: chunkSize bytes, then the same again
	again int               // readings that are left for what was just being written
}

// pair returns two readings of n bytes at addr. ok is false where that cannot be read.
func (c *chunks) pair(addr uint64, n int) (a, b []byte, ok bool, err error) {
	start := addr &^ (chunkSize - 1)
	if off := addr - start; off+uint64(n) <= chunkSize {
		m, known := c.kept[start]
		if !known {
			if m, err = c.fetch(start, chunkSize); err != nil {
				return nil, nil, false, err
			}
			if len(c.kept) >= maxChunks {
				clear(c.kept)
			}
			c.kept[start] = m
		}
		if m != nil {
			return m[off:][:n], m[chunkSize+off:][:n], true, nil
		}
	}
	m, err := c.fetch(addr, n)
	if err != nil || m == nil {
		return nil, nil, false, err
	}
	return m[:n], m[n:], true, nil
}

// fetch reads n bytes twice, nil where they cannot be read.
func (c *chunks) fetch(addr uint64, n int) ([]byte, error) {
	m := make([]byte, 2*n)
	var ok [2]bool
	err := c.r.readv([]part{{addr, m[:n]}, {addr, m[n:]}}, ok[:])
	if err != nil || !ok[0] || !ok[1] {
		return nil, err
	}
	return m, nil
}

// buckets walks the list whose head is at the link-time address head and calls visit for each bucket. What is no bucket of that kind ends the walk with
// an error: its hash must be that of its stack.
func (v *view) buckets(kind bucketKind, head uint64, visit func(*bucket) error) error {
	addr, ok, err := v.r.word(head + v.bias)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: the list of buckets cannot be read", errShape)
	}
	c := &chunks{r: v.r, kept: map[uint64][]byte{}, again: maxAgain}
	var b bucket
	// Brent's algorithm: mark moves on to the current bucket after 1, 2, 4, … steps, and a list that comes back to it has no end.
	var mark uint64
	for n, next := 0, 1; addr != 0; n++ {
		if addr == mark {
			return fmt.Errorf("%w: the list of buckets has a cycle", errShape)
		}
		if n == next {
			mark, next = addr, 2*next
		}
		if n >= maxBuckets {
			return fmt.Errorf("%w: more than %d stacks in a profile", errShape, maxBuckets)
		}
		following, err := c.bucket(kind, addr, &b)
		if err != nil {
			return err
		}
		if err := visit(&b); err != nil {
			return err
		}
		addr = following
	}
	return nil
}

// bucket reads the bucket at addr into b and returns the address of the next.
func (c *chunks) bucket(kind bucketKind, addr uint64, b *bucket) (next uint64, err error) {
	wrong := func(what string) (uint64, error) { return 0, fmt.Errorf("%w: bucket at %#x %s", errShape, addr, what) }
	if addr%8 != 0 || addr >= 1<<56 {
		return wrong("has no possible address")
	}
	h, _, ok, err := c.pair(addr, bucketStack)
	if err != nil {
		return 0, err
	}
	if !ok {
		return wrong("cannot be read")
	}
	depth, hash := le.Uint64(h[bucketDepth:]), le.Uint64(h[bucketHash:])
	b.addr, b.size, next = addr, le.Uint64(h[bucketSize:]), le.Uint64(h[bucketNext:])
	if t := le.Uint64(h[bucketType:]); t != uint64(kind) || depth > maxBucketDepth {
		return wrong(fmt.Sprintf("has the type %d and %d frames", t, depth))
	}
	record := blockRecordSize
	if kind == heapBucket {
		record = memRecordSize
	}
	n := int(depth) * 8
	for try := 0; ; try++ {
		m, again, ok, err := c.pair(addr+bucketStack, n+record)
		if err != nil {
			return 0, err
		}
		if !ok {
			return wrong("cannot be read")
		}
		b.stack = b.stack[:0]
		for i := range int(depth) {
			b.stack = append(b.stack, le.Uint64(m[8*i:]))
		}
		if stackHash(b.stack, b.size) != hash {
			return wrong("has another hash than its stack")
		}
		steady := true
		if kind == heapBucket {
			steady = b.readMem(m[n:], again[n:])
		} else {
			steady = b.readBlock(m[n:], again[n:])
		}
		switch {
		case steady:
			return next, nil
		case kind == heapBucket && try == 3 && !b.mem.sized:
			return wrong("has bytes that are no multiple of its size")
		case try == 3 || c.again == 0:
			return next, nil
		}
		c.again--
		delete(c.kept, (addr+bucketStack)&^(chunkSize-1)) // somebody is just writing it
	}
}

// readMem takes two readings of a heap record and reports whether the second is one that nobody was moving counts in: the runtime adds the counts of a cycle
// to the published ones, then clears them.
func (b *bucket) readMem(first, second []byte) (steady bool) {
	word := func(m []byte, i int) uint64 { return le.Uint64(m[8*i:]) }
	steady = true
	b.mem = memCounts{active: [2]uint64{word(second, 0), word(second, 1)}}
	for i := 0; i < memRecordSize/8; i += memCycleSize / 8 {
		for j := range 2 {
			old, now := word(first, i+j), word(second, i+j)
			if i == 0 && old != now || now < old {
				steady = false
			}
		}
		b.mem.allocs += word(second, i)
		b.mem.frees += word(second, i+1)
	}
	// Every object of a bucket has its size.
	b.mem.sized = word(second, 2) == b.mem.active[0]*b.size && word(second, 3) == b.mem.active[1]*b.size
	return steady && b.mem.sized
}

// readBlock takes two readings of a record of contentions and reports whether they agree: two words are written one after the other.
func (b *bucket) readBlock(first, second []byte) (steady bool) {
	b.count, b.cycles = floatAt(second), int64(le.Uint64(second[8:]))
	return string(first[:blockRecordSize]) == string(second[:blockRecordSize])
}

// stackHash is what stkbucket computes.
func stackHash(stack []uint64, size uint64) uint64 {
	var h uint64
	for _, pc := range stack {
		h += pc
		h += h << 10
		h ^= h >> 6
	}
	h += size
	h += h << 10
	h ^= h >> 6
	h += h << 3
	h ^= h >> 11
	return h
}

// heapWalk is what a walk of the heap's buckets found, before it is known whether a garbage collection was published meanwhile.
type heapWalk struct {
	parts  []part
	counts []uint64 // two of each bucket: what was published
	buf    []byte
	ok     []bool
}

// published reports whether the published counts are still those that were seen: then the walk saw the heap as of one garbage collection.
func (w *heapWalk) unchanged(r *reader) (bool, error) {
	const batch = maxParts
	if w.buf == nil {
		w.buf, w.ok = make([]byte, 16*batch), make([]bool, batch)
	}
	for i := 0; i < len(w.parts); i += batch {
		parts := w.parts[i:min(i+batch, len(w.parts))]
		for j := range parts {
			parts[j].b = w.buf[16*j:][:16]
		}
		if err := r.readv(parts, w.ok[:len(parts)]); err != nil {
			return false, err
		}
		for j := range parts {
			counts := w.counts[2*(i+j):]
			if !w.ok[j] || le.Uint64(w.buf[16*j:]) != counts[0] || le.Uint64(w.buf[16*j+8:]) != counts[1] {
				return false, nil
			}
		}
	}
	return true, nil
}

// heap walks the heap's buckets: begin is called before each attempt, visit for each bucket. of says whether all of them are as of one garbage collection;
// where one is published during each of the attempts they are not, and each stack's counts are right by themselves.
func (v *view) heap(begin func(), visit func(*bucket) error) (oneCycle bool, err error) {
	for try := 1; ; try++ {
		begin()
		var w heapWalk
		err := v.buckets(heapBucket, v.im.globals.memBuckets, func(b *bucket) error {
			w.parts = append(w.parts, part{addr: b.addr + bucketStack + 8*uint64(len(b.stack))})
			w.counts = append(w.counts, b.mem.active[0], b.mem.active[1])
			return visit(b)
		})
		if err != nil {
			return false, err
		}
		same, err := w.unchanged(v.r)
		if err != nil || same || try == heapTries {
			return same, err
		}
		time.Sleep(time.Duration(try) * 2 * time.Millisecond) // the runtime publishes a cycle in one go
	}
}
