package godebug

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// headBytes of a file tell it from another that took its place.
	headBytes = 64
	// maxRead bounds what is read of one file until what it holds is handed over; where it holds much, that is done sooner.
	maxRead = 4 << 20
	// maxLogLine bounds a line of a log; a longer one is passed over.
	maxLogLine = 256 << 10
)

// logFile is a file that is followed.
type logFile struct {
	path   string
	format string // "": not known yet
	f      *os.File
	head   []byte // the first bytes, up to headBytes of them
	offset int64  // read so far
	line   []byte // of a line whose end is not written yet
	long   bool   // it is too long and passed over
	good   int64  // so far everything is in s: reading may begin here anew
	grown  int64  // when it last had something to read, Unix ms; 0: it was not looked at yet
	s      *stream
	tooBig int // lines that were passed over
}

// open opens the file at its path. at is where reading begins, less than 0: at its end.
func (l *logFile) open(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe would wait for whoever writes to it
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	if at < 0 || at > info.Size() {
		at = info.Size()
	}
	l.close()
	l.f, l.offset, l.good, l.grown, l.head, l.line, l.long = f, at, at, 0, nil, l.line[:0], false
	l.head, err = readHead(f)
	return err
}

func (l *logFile) close() {
	if l.f != nil {
		_ = l.f.Close()
		l.f = nil
	}
}

func readHead(f *os.File) ([]byte, error) {
	b := make([]byte, headBytes)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// read reads what is there, up to where much is pending, and returns how much it was; more says that there is more. now is Unix ms.
func (l *logFile) read(now int64) (n int64, more bool, err error) {
	if err := l.checkHead(); err != nil {
		return 0, false, err
	}
	if l.grown == 0 {
		l.grown = now
	}
	buf := make([]byte, 64<<10)
	for n < maxRead && len(l.s.pending) == 0 {
		k, err := l.f.ReadAt(buf, l.offset)
		l.offset += int64(k)
		n += int64(k)
		if k > 0 {
			l.grown = now
		}
		l.take(buf[:k], now)
		if errors.Is(err, io.EOF) {
			return n, false, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, true, nil
}

// checkHead begins anew where the file was emptied, as copytruncate does, or is another.
func (l *logFile) checkHead() error {
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	head, err := readHead(l.f)
	if err != nil {
		return err
	}
	if info.Size() >= l.offset && bytes.HasPrefix(head, l.head) {
		l.head = head
		return nil
	}
	l.s.giveUp()
	l.head, l.offset, l.good, l.line, l.long = head, 0, 0, l.line[:0], false
	return nil
}

// take goes through bytes that were read.
func (l *logFile) take(b []byte, now int64) {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		part := b
		if end >= 0 {
			part = b[:end]
		}
		if l.long = l.long || len(l.line)+len(part) > maxLogLine; !l.long {
			l.line = append(l.line, part...)
		}
		if end < 0 {
			return
		}
		if l.long {
			l.tooBig++
		} else {
			l.entry(bytes.TrimSuffix(l.line, []byte("\r")), now)
		}
		b, l.line, l.long = b[end+1:], l.line[:0], false
		if l.s.clean() {
			l.good = l.offset - int64(len(b))
		}
	}
}

func (l *logFile) entry(line []byte, now int64) {
	if l.format == "" {
		l.format = guess(line)
	}
	e, ok := decoders[l.format](line)
	if !ok {
		e, _ = readPlain(line)
	}
	l.s.add(e, now)
}

func (l *logFile) inode() uint64 {
	info, err := l.f.Stat()
	if err != nil {
		return 0
	}
	return inode(info)
}

// position is where reading can begin anew.
func (l *logFile) position() position {
	p := l.s.position()
	p.ID, p.Head, p.Inode, p.Offset = idOf(l.head), len(l.head), l.inode(), l.good
	return p
}

// over reports whether nothing more comes in this file. Who writes may go on in it after it was renamed, until told to open the new one: so it is over once there is something in the file that has
// its name now, or, where none has, once it has been silent for long. now is Unix ms.
func (l *logFile) over(now int64) bool {
	named, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l.grown != 0 && now-l.grown > goneAfter.Milliseconds()
	}
	return err == nil && named.Size() > 0 && !l.is(named)
}

func (l *logFile) is(other os.FileInfo) bool {
	mine, err := l.f.Stat()
	return err == nil && os.SameFile(mine, other)
}

// renamed returns the path that the file has by now beside the one that it is followed by, "": none is known.
func (l *logFile) renamed() string {
	for _, name := range rotations(l.path) {
		if info, err := os.Stat(name); err == nil && name != l.path && l.is(info) {
			return name
		}
	}
	return ""
}

// rotations returns the files that may be what the one at path was renamed to.
func rotations(path string) []string {
	dir, base := filepath.Split(path)
	stem := base[:len(base)-len(filepath.Ext(base))]
	found, _ := filepath.Glob(filepath.Join(dir, globQuote(stem)+"*")) // the pattern is a good one
	return found[:min(len(found), 100)]
}

// resume opens the file where p says that reading ended, also where it was renamed since. It reports false where it cannot be found.
func (l *logFile) resume(p position) bool {
	names := []string{l.path}
	if target, err := filepath.EvalSymlinks(l.path); err == nil && target != l.path {
		names = append(names, target)
	}
	for _, name := range names[:len(names):len(names)] {
		names = append(names, rotations(name)...)
	}
	for _, name := range names {
		if l.open(name, p.Offset) != nil || l.offset < p.Offset {
			continue
		}
		if p.Head <= len(l.head) && p.ID == idOf(l.head[:p.Head]) && (p.Inode == l.inode() || name != l.path) { // else a file that begins as the other did took its place
			return true
		}
	}
	l.close()
	return false
}

// idOf names a file by what it begins with: names and inodes are used again.
func idOf(head []byte) string {
	sum := sha256.Sum256(head)
	return hex.EncodeToString(sum[:8])
}

func globQuote(s string) string {
	var b []byte
	for i := range len(s) {
		if s[i] == '*' || s[i] == '?' || s[i] == '[' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(b)
}
