package godebug

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"time"
)

// journal follows journald through journalctl, whose export format is documented and stable (systemd.io/JOURNAL_EXPORT_FORMATS).
type journal struct {
	f       *Followers
	set     *File
	cursor  string          // of the last entry that was handed over
	streams map[int]*stream // by pid
	gone    []*stream       // those that made room for another, until what they hold is handed over
}

// journalRetry is how long to wait before journalctl is started again.
const journalRetry = 10 * time.Second

func (j *journal) key() string { return "journald:" + j.set.Path }

// run starts journalctl, again where it ends, until ctx is done.
func (j *journal) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := j.once(ctx); err != nil && ctx.Err() == nil {
			j.f.left.WithLabelValues("failed").Inc()
			j.f.warn(j.key(), "cannot follow the journal; it is tried again", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(journalRetry):
		}
	}
}

func (j *journal) args() []string {
	args := []string{"-o", "export", "-f", "--output-fields=MESSAGE,_PID"}
	if j.set.Path != "" {
		args = append(args, "-u", j.set.Path)
	}
	if j.cursor == "" {
		return append(args, "-n", "0")
	}
	return append(args, "-n", "all", "--after-cursor="+j.cursor)
}

func (j *journal) once(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, j.f.cfg.Journalctl, j.args()...)
	var stderr tail
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	entries := make(chan journalEntry, 1000)
	var readErr error
	go func() {
		defer close(entries)
		readErr = readExport(ctx, bufio.NewReaderSize(out, 64<<10), entries)
	}()
	j.gather(ctx, entries)
	for range entries { // where ctx ended it: until the reader has ended too
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		readErr = fmt.Errorf("%w: %s", err, stderr.b)
	}
	return readErr
}

// gather takes entries and hands over what they say, once a second, and before more is taken where they say much.
func (j *journal) gather(ctx context.Context, entries <-chan journalEntry) {
	t := time.NewTicker(j.f.cfg.Every)
	defer t.Stop()
	last := ""
	for {
		select {
		case e, ok := <-entries:
			if !ok {
				j.deliver(ctx, last, true)
				return
			}
			last = e.cursor
			if !j.add(e) {
				continue
			}
		case <-t.C:
		}
		for !j.deliver(ctx, last, len(entries) == 0) { // meanwhile journalctl waits
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}
}

// add takes an entry, and reports whether it is time to hand over what was gathered.
func (j *journal) add(e journalEntry) bool {
	s := j.streams[e.pid]
	if s == nil {
		if len(j.streams) >= maxJournal {
			pid := sortedPIDs(j.streams)[0]
			j.gone = append(j.gone, j.streams[pid])
			delete(j.streams, pid)
		}
		source := "journald:" + strconv.Itoa(e.pid)
		name := j.set.Path
		if name == "" {
			name = "journal"
		}
		s = newStream(j.set, source, origin{name: name}, j.f.cfg.Redact)
		s.pid = e.pid
		j.streams[e.pid] = s
	}
	s.add(entry{at: e.at, text: append(e.message, '\n')}, e.at)
	j.f.bytes.Add(float64(len(e.message)))
	return len(s.pending) > 0 || len(j.gone) > 0
}

// deliver hands over what was gathered until the entry with the cursor last. flush: no more entries wait.
func (j *journal) deliver(ctx context.Context, last string, flush bool) bool {
	for len(j.gone) > 0 {
		if !j.f.deliver(ctx, j.gone[0], true) {
			return false
		}
		j.gone = j.gone[1:]
	}
	for pid, s := range j.streams {
		if !j.f.deliver(ctx, s, flush) {
			return false
		}
		if s.at < time.Now().Add(-time.Hour).UnixMilli() {
			delete(j.streams, pid)
		}
	}
	if last != "" && last != j.cursor {
		j.cursor = last
		j.f.mu.Lock()
		j.f.positions[j.key()] = position{Cursor: last}
		j.f.mu.Unlock()
		j.f.save()
	}
	return true
}

// journalEntry is what is read of an entry.
type journalEntry struct {
	cursor  string
	at      int64 // Unix ms
	pid     int
	message []byte
}

// maxField bounds a field of an entry; a longer message is passed over.
const maxField = 64 << 10

// readExport reads journald's export format: lines NAME=VALUE, or NAME, the length in 8 bytes and the value; an empty line ends an entry.
func readExport(ctx context.Context, r *bufio.Reader, out chan<- journalEntry) error {
	var e journalEntry
	for {
		line, err := readLine(r)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		if len(line) == 0 {
			if e.message != nil && e.cursor != "" {
				select {
				case out <- e:
				case <-ctx.Done():
					return nil
				}
			}
			e = journalEntry{}
			continue
		}
		name, value, ok := bytes.Cut(line, []byte("="))
		if !ok {
			if value, err = readBinary(r); err != nil {
				return err
			}
		}
		switch string(name) {
		case "__CURSOR":
			e.cursor = string(value)
		case "__REALTIME_TIMESTAMP":
			us, _ := strconv.ParseInt(string(value), 10, 64) // journald's own
			e.at = us / 1000
		case "_PID":
			e.pid, _ = strconv.Atoi(string(value)) // 0: not told
		case "MESSAGE":
			e.message = bytes.Clone(value)
		}
	}
}

// readLine reads a line without its line break; of one that is too long the begin.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line = bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}

// readBinary reads a value that has its length before it, and passes one over that is too long.
func readBinary(r *bufio.Reader) ([]byte, error) {
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, fmt.Errorf("read a field of the journal: %w", err)
	}
	n := binary.LittleEndian.Uint64(size[:])
	if n > 1<<40 {
		return nil, fmt.Errorf("read a field of the journal: a length of %d bytes", n)
	}
	value := make([]byte, min(n, maxField))
	if _, err := io.ReadFull(r, value); err != nil {
		return nil, fmt.Errorf("read a field of the journal: %w", err)
	}
	if _, err := io.CopyN(io.Discard, r, int64(n)-int64(len(value))+1); err != nil { // and the line break
		return nil, fmt.Errorf("read a field of the journal: %w", err)
	}
	return value, nil
}

// tail keeps the first bytes of what a command complains of.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	if room := 500 - len(t.b); room > 0 {
		t.b = append(t.b, b[:min(len(b), room)]...)
	}
	return len(b), nil
}
