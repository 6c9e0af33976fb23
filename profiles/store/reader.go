package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/profiles"
)

// tailSize is what is read first of a file: a small segment is then there as a whole, of a block the footer is.
const tailSize = 64 << 10

// maxGap is the number of bytes that are read in vain rather than by another request.
const maxGap = 32 << 10

// maxRun bounds one read, and with it the memory that a query's reads take.
const maxRun = 8 << 20

// file is an open segment or block. Not safe for concurrent use; what it opens (index, symbols) is, and is shared through the cache.
type file struct {
	name   string
	r      blob.Reader // nil: tail is all of it
	size   int64
	tail   []byte // of the file, if it was read
	opened *openedFile
	parts  *queryParts // nil: no parts are kept in memory
	read   int64       // bytes read so far
	buf    []byte
}

// openedFile is what of a file stays in memory between queries.
type openedFile struct {
	foot     *footer
	mu       sync.Mutex
	datasets map[string]*dataset
	whole    []byte // of a small file all of it, once it was read
	bytes    int64  // estimate of all of it
}

// dataset is what of a dataset stays in memory between queries. Immutable but for what mu guards, which is read when first needed.
type dataset struct {
	info    datasetInfo
	series  []seriesInfo
	rollups []rollupInfo
	origin  *origin // nil: the file was not written by this process

	hashed sync.Once
	hashes []uint64 // of each series one number for its labels and type

	mu        sync.Mutex
	symbols   *profiles.Symbols
	lexicon   uint64                   // that lexStacks is about; 0: none
	lexStacks []uint32                 // of each stack its id in the lexicon
	heads     map[*sumInfo]*windowHead // those that were read
	rawHeads  map[*seriesInfo]*head    // those that were read, without totals
}

// openFile opens the blob name; cached, if there, spares reading its footer, and where the file is small all of it.
func openFile(ctx context.Context, blobs blob.Store, name string, cached *openedFile) (*file, error) {
	if cached != nil {
		cached.mu.Lock()
		whole := cached.whole
		cached.mu.Unlock()
		if whole != nil {
			return &file{name: name, size: int64(len(whole)), tail: whole, opened: cached}, nil
		}
	}
	r, err := blobs.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", name, err)
	}
	f := &file{name: name, r: r, size: r.Size(), opened: cached}
	if cached == nil {
		err = f.readFooter()
	}
	if err == nil && f.size <= tailSize {
		err = f.keepWhole()
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("read blob %s: %w", name, err)
	}
	return f, nil
}

// keepWhole keeps all of a small file in memory: a segment, of which a query reads many, each for a few parts.
func (f *file) keepWhole() error {
	if int64(len(f.tail)) != f.size {
		f.tail = make([]byte, f.size)
		if err := f.readAt(f.tail, 0); err != nil {
			return err
		}
	}
	f.opened.mu.Lock()
	defer f.opened.mu.Unlock()
	if f.opened.whole == nil {
		f.opened.whole = f.tail
		f.opened.bytes += f.size
	}
	return nil
}

func (f *file) close() {
	if f.r != nil {
		f.r.Close()
	}
}

func (f *file) readFooter() error {
	if f.size < headerSize+trailerSize {
		return fmt.Errorf("file is cut short: it has %d bytes", f.size)
	}
	f.tail = make([]byte, min(f.size, tailSize))
	if err := f.readAt(f.tail, f.size-int64(len(f.tail))); err != nil {
		return err
	}
	t, err := parseTrailer(f.tail[len(f.tail)-trailerSize:], f.size)
	if err != nil {
		return err
	}
	n := t.length
	b, err := f.bytes(span{uint64(f.size - trailerSize - n), uint64(n)})
	if err != nil {
		return err
	}
	if checksum(b) != t.crc {
		return fmt.Errorf("footer: %w", errChecksum)
	}
	foot, err := decodeFooter(b, uint64(f.size-trailerSize-n), t.version)
	if err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	f.opened = &openedFile{foot: foot, datasets: map[string]*dataset{}, bytes: 256 + 2*n}
	return nil
}

// readAll reads the whole of a small file ahead of those who will want most of it.
func (f *file) readAll() error {
	if f.size > maxRun || int64(len(f.tail)) == f.size {
		return nil
	}
	f.tail = make([]byte, f.size)
	return f.readAt(f.tail, 0)
}

func (f *file) readAt(b []byte, at int64) error {
	n, err := f.r.ReadAt(b, at)
	f.read += int64(n)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errShort
	}
	return err
}

// bytes returns a run of the file, valid until the next call.
func (f *file) bytes(s span) ([]byte, error) {
	if tailAt := uint64(f.size) - uint64(len(f.tail)); s.at >= tailAt {
		return f.tail[s.at-tailAt : s.at-tailAt+s.length], nil
	}
	f.buf = slices.Grow(f.buf[:0], int(s.length))[:s.length]
	return f.buf, f.readAt(f.buf, int64(s.at))
}

// each calls fn with the bytes of each of spans, which are in order of their place, reading those that lie close together at once.
func (f *file) each(ctx context.Context, spans []span, fn func(i int, b []byte) error) error {
	for lo := 0; lo < len(spans); {
		if err := ctx.Err(); err != nil {
			return err
		}
		run, hi := spans[lo], lo+1
		for hi < len(spans) {
			end := spans[hi].at + spans[hi].length
			if spans[hi].at > run.at+run.length+maxGap || end-run.at > maxRun {
				break
			}
			run.length = max(run.length, end-run.at)
			hi++
		}
		b, err := f.bytes(run)
		if err != nil {
			return err
		}
		for i := lo; i < hi; i++ {
			at := spans[i].at - run.at
			if err := fn(i, b[at:at+spans[i].length]); err != nil {
				return err
			}
		}
		lo = hi
	}
	return nil
}

// dataset returns the dataset of service, or nil if the file has none.
func (f *file) dataset(service string) (*dataset, error) {
	o := f.opened
	o.mu.Lock()
	defer o.mu.Unlock()
	if ds := o.datasets[service]; ds != nil {
		return ds, nil
	}
	i := slices.IndexFunc(o.foot.datasets, func(d datasetInfo) bool { return d.Service == service })
	if i < 0 {
		return nil, nil
	}
	ds := &dataset{info: o.foot.datasets[i]}
	raw, err := f.section(ds.info.sections[sectionIndex])
	if err == nil {
		ds.series, err = decodeIndex(raw, &ds.info)
	}
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %s: %w", service, sectionNames[sectionIndex], err)
	}
	if raw, err = f.section(ds.info.sections[sectionRollups]); err == nil {
		ds.rollups, err = decodeRollups(raw, &ds.info, len(ds.series))
	}
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %s: %w", service, sectionNames[sectionRollups], err)
	}
	o.datasets[service] = ds
	o.bytes += indexBytes(ds.series, ds.rollups)
	return ds, nil
}

// section returns the raw bytes of a part that is read alone. They are not kept by the file.
func (f *file) section(l located) ([]byte, error) {
	b, err := f.bytes(span{l.at, uint64(l.stored)})
	if err != nil {
		return nil, err
	}
	raw, err := l.open(b, nil)
	if err != nil {
		return nil, fmt.Errorf("part at %d of %d bytes: %w", l.at, l.stored, err)
	}
	return raw, nil
}

// loadSymbols returns the dataset's symbols, reading them if they are not in memory. They must not be added to.
func (f *file) loadSymbols(ds *dataset) (*profiles.Symbols, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.symbols != nil {
		return ds.symbols, nil
	}
	s, err := f.readSymbols(ds)
	if err != nil {
		return nil, err
	}
	ds.symbols = s
	f.opened.mu.Lock()
	f.opened.bytes += symbolBytes(s)
	f.opened.mu.Unlock()
	return s, nil
}

// readSymbols reads the dataset's symbols.
func (f *file) readSymbols(ds *dataset) (*profiles.Symbols, error) {
	s := &profiles.Symbols{}
	for i := range symbolSections {
		raw, err := f.section(ds.info.sections[i])
		if err == nil {
			err = decodeSymbols(raw, i, s, ds.info.version)
		}
		if err != nil {
			return nil, fmt.Errorf("dataset %s: %s: %w", ds.info.Service, sectionNames[i], err)
		}
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("dataset %s: symbols: %w", ds.info.Service, err)
	}
	return s, nil
}

// wantColumn finds t among the columns of profiles of type typ: its kind and its place among the columns of that kind. An empty unit in t means any.
func wantColumn(typ string, columns []column, t profiles.Type) (kind profiles.Kind, place int, unit string, ok bool) {
	if typ != t.Profile {
		return 0, 0, "", false
	}
	var n [kinds]int
	for _, c := range columns {
		if c.Sample == t.Sample && (t.Unit == "" || t.Unit == c.Unit) {
			return c.Kind, n[c.Kind], c.Unit, true
		}
		n[c.Kind]++
	}
	return 0, 0, "", false
}

// span returns where the group's stacks and its columns up to the one at place lie: one run, because columns refer to earlier ones only.
func (g *groupInfo) span(place int) span {
	return span{g.stacks.at, g.columns[place].end() - g.stacks.at}
}

// chunkReader decodes groups of chunks and of sums, slice by slice; it is what a query has of buffers. Not safe for concurrent use.
type chunkReader struct {
	stacks  chunkStacks
	values  []int64
	sums    []int128
	columns [][]int64
	sampled sampledCounts

	chunk *chunkInfo
	group *groupInfo
	limit int
	file  *file        // whose parts may be in memory; nil: none are
	bytes []byte       // of the group, from its stacks on; nil: they are read as need be
	parts []openedPart // stacks, members, columns
	slice int          // whose stacks are decoded
	rest  []byte       // what follows them
}

// openedPart is a part of the group at hand, split once somebody wants it.
type openedPart struct {
	opened bool
	buf    []byte
	shares
}

// open starts to read g, a group of chunk, from b, which starts at g.stacks. Stack ids are below limit.
func (c *chunkReader) open(chunk *chunkInfo, g *groupInfo, b []byte, limit int) error {
	c.chunk, c.group, c.limit, c.bytes, c.slice = chunk, g, limit, b, -1
	for len(c.parts) < 2+len(g.columns) {
		c.parts = append(c.parts, openedPart{})
	}
	for i := range c.parts {
		c.parts[i].opened = false
	}
	return nil
}

// share returns slice i's share of a part: 0 the stacks, 1 the members, 2 and up the columns.
func (c *chunkReader) share(part, i int) ([]byte, error) {
	p := &c.parts[part]
	if !p.opened {
		l := c.group.stacks
		switch {
		case part == 1:
			l = c.group.members
		case part > 1:
			l = c.group.columns[part-2]
		}
		raw, err := c.read(l, &p.buf)
		if err == nil {
			err = p.split(raw, c.chunk.slices())
		}
		if err != nil {
			return nil, err
		}
		p.opened = true
	}
	return p.share(i), nil
}

// read returns the raw bytes of a part of the group.
func (c *chunkReader) read(l located, buf *[]byte) (raw []byte, err error) {
	if c.file != nil {
		if raw = c.file.cached(l); raw != nil {
			return raw, nil
		}
	}
	var stored []byte
	if c.bytes != nil {
		at := l.at - c.group.stacks.at
		stored = c.bytes[at : at+uint64(l.stored)]
	} else if stored, err = c.file.bytes(span{l.at, uint64(l.stored)}); err != nil {
		return nil, err
	}
	return c.file.openPart(l, stored, buf)
}

// openSlice decodes the stacks of slice i, and which profiles they are in.
func (c *chunkReader) openSlice(i int) error {
	total, err := c.openStacks(i)
	if err != nil {
		return err
	}
	return c.openMembers(total)
}

// openStacks decodes the stacks of slice i and returns the number of its rows.
func (c *chunkReader) openStacks(i int) (total int, err error) {
	lo, hi := c.chunk.slice(i)
	b, err := c.share(0, i)
	if err == nil {
		total, c.rest, err = c.stacks.decodeStacks(b, hi-lo, c.group.rows, c.limit, c.chunk.version)
	}
	if err == nil && c.chunk.version == version1 && total != c.group.rows {
		err = fmt.Errorf("there are %d rows, the index says %d", total, c.group.rows)
	}
	if err == nil && c.chunk.version != version1 && len(c.rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(c.rest))
	}
	if err != nil {
		return 0, fmt.Errorf("stacks of chunk at %d: %w", c.group.stacks.at, err)
	}
	c.slice = i
	return total, nil
}

// memberBytes returns the open slice's share of the members.
func (c *chunkReader) memberBytes() ([]byte, error) {
	if c.group.members.stored > 0 {
		return c.share(1, c.slice)
	}
	return c.rest, nil // version 1: they follow the stacks
}

// openMembers decodes which profiles the stacks of the open slice are in, which has total rows.
func (c *chunkReader) openMembers(total int) error {
	lo, hi := c.chunk.slice(c.slice)
	b, err := c.memberBytes()
	switch {
	case err != nil:
	case hi-lo <= shortSlice:
		err = c.stacks.decodeShortMembers(b, hi-lo, total)
	default:
		err = c.stacks.decodeMembers(b, hi-lo, total)
	}
	if err != nil {
		return fmt.Errorf("stacks of chunk at %d: %w", c.group.stacks.at, err)
	}
	return nil
}

// decodeValues decodes the open slice's share of a column of profiles, in stack-major order.
func (c *chunkReader) decodeValues(place int, out []int64) ([]int64, error) {
	same := func(i int) ([]byte, error) {
		if i >= place {
			return nil, fmt.Errorf("column %d refers to column %d", place, i)
		}
		return c.share(2+i, c.slice)
	}
	raw, err := c.share(2+place, c.slice)
	if err == nil {
		out, err = decodeColumn(raw, len(c.stacks.profile), c.stacks.counts, out, &c.sampled, same)
	}
	if err != nil {
		return nil, fmt.Errorf("column %d of chunk at %d: %w", place, c.group.stacks.at, err)
	}
	return out, nil
}

// decodeSums decodes the open slice's share of a column of sums, in stack-major order. covered is that of the chunk's windows.
func (c *chunkReader) decodeSums(place int, covered []int64) (err error) {
	lo, hi := c.chunk.slice(c.slice)
	raw, err := c.share(2+place, c.slice)
	if err == nil {
		c.sums, err = c.stacks.decodeSumColumn(raw, covered[lo:hi], c.sums)
	}
	if err != nil {
		return fmt.Errorf("column %d of sums at %d: %w", place, c.group.stacks.at, err)
	}
	return nil
}

// profileMajor decodes all columns of slice i into rows for each of its profiles.
func (c *chunkReader) profileMajor(i int, remap []uint32) ([]rows[int64], error) {
	if err := c.openSlice(i); err != nil {
		return nil, err
	}
	for len(c.columns) < len(c.group.columns) {
		c.columns = append(c.columns, nil)
	}
	for j := range c.group.columns {
		var err error
		if c.columns[j], err = c.decodeValues(j, c.columns[j]); err != nil {
			return nil, err
		}
	}
	lo, hi := c.chunk.slice(i)
	return c.stacks.profileMajor(c.columns[:len(c.group.columns)], hi-lo, remap, nil), nil
}
