package store

import "sync"

// partCache keeps parts of blocks as they are after decompression, those used last, in two generations: what is used in the old one moves to the young one, and the old one is forgotten when the
// young one is full. A page asks for the same range every few seconds, and to decompress its raw chunks takes longer than to add them up. Safe for concurrent use.
type partCache struct {
	mu         sync.Mutex
	max        int64 // bytes of a generation
	young, old map[partKey][]byte
	bytes      int64 // of young
}

// partKey says which part: blobs never change.
type partKey struct {
	blob string
	at   uint64
}

// partOverhead is what an entry takes beside its bytes.
const partOverhead = 96

func newPartCache(max int64) *partCache {
	return &partCache{max: max / 2, young: map[partKey][]byte{}}
}

func (c *partCache) get(key partKey) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if raw, ok := c.young[key]; ok {
		return raw
	}
	raw, ok := c.old[key]
	if ok {
		delete(c.old, key)
		c.add(key, raw)
	}
	return raw
}

func (c *partCache) put(key partKey, raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.young[key]; !ok {
		c.add(key, raw)
	}
}

func (c *partCache) add(key partKey, raw []byte) {
	if c.bytes += int64(len(raw)) + partOverhead; c.bytes > c.max {
		c.old, c.young, c.bytes = c.young, map[partKey][]byte{}, int64(len(raw))+partOverhead
	}
	c.young[key] = raw
}

// partsShare is the share of the cache of decompressed parts that one query may fill, so that a query over weeks does not put out what others use.
const partsShare = 4

// queryParts is one query's use of the cache.
type queryParts struct {
	cache *partCache
	left  int64 // bytes that it may still add
}

func (s *Store) newQueryParts() *queryParts {
	return &queryParts{cache: s.parts, left: 2 * s.parts.max / partsShare}
}

// cached returns the raw bytes of a part, nil if they are not in memory.
func (f *file) cached(l located) []byte {
	if f.parts == nil {
		return nil
	}
	return f.parts.cache.get(partKey{f.name, l.at})
}

// openPart verifies the stored bytes of a part and returns the raw ones, in buf where they are not kept.
func (f *file) openPart(l located, stored []byte, buf *[]byte) ([]byte, error) {
	if f == nil || f.parts == nil || f.parts.left < int64(l.raw) {
		return l.openInto(stored, buf)
	}
	raw, err := l.open(stored, nil)
	if err != nil {
		return nil, err
	}
	if l.codec == codecNone { // they are the file's buffer
		raw = append(make([]byte, 0, len(raw)), raw...)
	}
	f.parts.left -= int64(l.raw) + partOverhead
	f.parts.cache.put(partKey{f.name, l.at}, raw)
	return raw, nil
}
