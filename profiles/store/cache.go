package store

import (
	"container/list"
	"sync"
)

// cache keeps opened files by the bytes they take, the least recently used going first. Safe for concurrent use.
type cache struct {
	max   int64
	mu    sync.Mutex
	order *list.List // of *cacheEntry, the most recently used in front
	byKey map[string]*list.Element
	bytes int64
}

type cacheEntry struct {
	name  string
	file  *openedFile
	bytes int64 // as counted in cache.bytes
}

func newCache(max int64) *cache {
	return &cache{max: max, order: list.New(), byKey: map[string]*list.Element{}}
}

// get returns the opened file, or nil.
func (c *cache) get(name string) *openedFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[name]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cacheEntry).file
}

// put keeps the file, or counts anew what it takes: an opened file grows as its datasets and symbols are read.
func (c *cache) put(name string, f *openedFile) {
	f.mu.Lock()
	size := f.bytes
	f.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[name]; e != nil {
		entry := e.Value.(*cacheEntry)
		c.bytes += size - entry.bytes
		entry.file, entry.bytes = f, size
		c.order.MoveToFront(e)
	} else {
		c.byKey[name] = c.order.PushFront(&cacheEntry{name, f, size})
		c.bytes += size
	}
	for c.bytes > c.max && c.order.Len() > 0 {
		c.remove(c.order.Back())
	}
}

// drop forgets a file that was deleted.
func (c *cache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[name]; e != nil {
		c.remove(e)
	}
}

func (c *cache) remove(e *list.Element) {
	entry := e.Value.(*cacheEntry)
	c.order.Remove(e)
	delete(c.byKey, entry.name)
	c.bytes -= entry.bytes
}
