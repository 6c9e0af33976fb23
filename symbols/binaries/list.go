package binaries

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/sonde-io/sonde/symbols/pclntab"
)

// The form of a list of functions, which FORMAT.md describes.
const (
	listMagic    = "SONDEFN\x01" // its last byte is the version
	maxListFile  = 4 << 20       // bytes, compressed
	maxListBytes = 64 << 20      // bytes, unpacked
	maxListNames = 1_000_000
)

// MaxList is the most bytes that a list of functions may have as it comes.
const MaxList = maxListFile

// ErrBadList says that a file is no list of functions, or a damaged one.
var ErrBadList = errors.New("not a list of functions")

// LimitError says that a list of functions, or the program that one is made of, passes a limit.
type LimitError struct {
	Limit string // its name
	Max   int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("list of functions too large: more than %d (%s)", e.Max, e.Limit)
}

var (
	errListFile  = &LimitError{"max_functions_bytes", maxListFile}
	errListBytes = &LimitError{"max_functions_unpacked_bytes", maxListBytes}
	errListNames = &LimitError{"max_functions", maxListNames}
	errListName  = &LimitError{"max_function_name_bytes", pclntab.MaxName}
)

// errNoNames says so: every program has functions, and of one without names all would be missing.
var errNoNames = fmt.Errorf("%w: it has no names", ErrBadList)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bounded counts what passes and fails with err beyond max.
type bounded struct {
	left int64
	err  error
}

func (b *bounded) take(n int) error {
	if b.left -= int64(n); b.left < 0 {
		return b.err
	}
	return nil
}

type boundedWriter struct {
	bounded
	w      io.Writer
	failed error // of w
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if err := b.take(len(p)); err != nil {
		return 0, err
	}
	n, err := b.w.Write(p)
	if err != nil {
		b.failed = err
	}
	return n, err
}

type boundedReader struct {
	bounded
	r io.Reader
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if over := b.take(n); over != nil {
		return 0, over
	}
	return n, err
}

// writeList writes the names that each yields, which are in ascending order and distinct, and come alike each time that it is called.
func writeList(w io.Writer, each func(func(name []byte) error) error) error {
	count := 0
	err := each(func([]byte) error {
		if count++; count > maxListNames {
			return errListNames
		}
		return nil
	})
	if err != nil {
		return err
	}
	if count == 0 {
		return errNoNames
	}
	packed := gzip.NewWriter(&boundedWriter{bounded: bounded{maxListFile, errListFile}, w: w})
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(&boundedWriter{bounded: bounded{maxListBytes - crc32.Size, errListBytes}, w: packed}, sum), 16<<10)
	entry := binary.AppendUvarint([]byte(listMagic), uint64(count))
	if _, err := out.Write(entry); err != nil {
		return err
	}
	var before []byte
	err = each(func(name []byte) error {
		entry = appendEntry(entry[:0], before, name)
		before = append(before[:0], name...)
		_, err := out.Write(entry)
		return err
	})
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if _, err := packed.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32())); err != nil {
		return err
	}
	return packed.Close()
}

// appendEntry appends a name by what it has more than the one before it.
func appendEntry(dst, before, name []byte) []byte {
	shared := 0
	for shared < min(len(before), len(name)) && before[shared] == name[shared] {
		shared++
	}
	dst = binary.AppendUvarint(dst, uint64(shared))
	dst = binary.AppendUvarint(dst, uint64(len(name)-shared))
	return append(dst, name[shared:]...)
}

// entries reads names as appendEntry writes them.
type entries struct {
	r            *bufio.Reader
	sum          hash.Hash32 // of what was read
	before, name []byte
	one          [1]byte
}

// ReadByte implements io.ByteReader for the lengths.
func (e *entries) ReadByte() (byte, error) {
	b, err := e.r.ReadByte()
	if err == nil {
		e.one[0] = b
		_, _ = e.sum.Write(e.one[:]) // a hash does not fail
	}
	return b, err
}

// next makes e.name the next name. It never holds more than a name may have, whatever length is read.
func (e *entries) next() error {
	shared, err := binary.ReadUvarint(e)
	if err != nil {
		return err
	}
	rest, err := binary.ReadUvarint(e)
	if err != nil {
		return err
	}
	switch {
	case shared > uint64(len(e.name)):
		return fmt.Errorf("%w: a name shares %d bytes with one of %d", ErrBadList, shared, len(e.name))
	case rest == 0:
		return fmt.Errorf("%w: a name has nothing of its own", ErrBadList)
	case rest > pclntab.MaxName || shared+rest > pclntab.MaxName:
		return errListName
	}
	e.before, e.name = e.name, append(e.before[:0], e.name[:shared]...)
	for left := rest; left > 0; {
		have, n := len(e.name), min(left, 1<<10) // piece by piece, as they come
		e.name = append(e.name, make([]byte, n)...)
		if _, err := io.ReadFull(e.r, e.name[have:]); err != nil {
			return err
		}
		left -= n
	}
	_, _ = e.sum.Write(e.name[shared:])
	if bytes.Compare(e.before[shared:], e.name[shared:]) >= 0 {
		return fmt.Errorf("%w: names are not in order", ErrBadList)
	}
	return nil
}

// readList reads a list to its end and calls fn with each name, which is valid until fn returns, until fn returns false. Names are only good once it has returned true.
func readList(r io.Reader, fn func(name []byte) bool) (whole bool, err error) {
	defer func() {
		if _, limit := errors.AsType[*LimitError](err); err != nil && !limit && !errors.Is(err, ErrBadList) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			err = fmt.Errorf("%w: %w", ErrBadList, err)
		}
	}()
	unpacked, err := gzip.NewReader(&boundedReader{bounded{maxListFile, errListFile}, r})
	if err != nil {
		return false, err
	}
	e := &entries{r: bufio.NewReaderSize(&boundedReader{bounded{maxListBytes, errListBytes}, unpacked}, 16<<10), sum: crc32.New(castagnoli)}
	magic := make([]byte, len(listMagic))
	if _, err := io.ReadFull(e.r, magic); err != nil {
		return false, err
	}
	if string(magic[:len(magic)-1]) != listMagic[:len(magic)-1] {
		return false, fmt.Errorf("%w: it does not begin like one", ErrBadList)
	}
	if magic[len(magic)-1] != listMagic[len(magic)-1] {
		return false, fmt.Errorf("%w: version %d, known is %d", ErrBadList, magic[len(magic)-1], listMagic[len(magic)-1])
	}
	_, _ = e.sum.Write(magic)
	count, err := binary.ReadUvarint(e)
	if err != nil {
		return false, err
	}
	if count > maxListNames {
		return false, errListNames
	}
	if count == 0 {
		return false, errNoNames
	}
	for range count {
		if err := e.next(); err != nil {
			return false, err
		}
		if !fn(e.name) {
			return false, nil
		}
	}
	return true, e.end()
}

// end checks the checksum, and that nothing follows.
func (e *entries) end() error {
	want := e.sum.Sum32()
	var sum [crc32.Size]byte
	if _, err := io.ReadFull(e.r, sum[:]); err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint32(sum[:]); got != want {
		return fmt.Errorf("%w: checksum %08x, that of its content is %08x", ErrBadList, got, want)
	}
	switch _, err := e.r.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: something follows the checksum", ErrBadList)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}
