package spool

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// run is the writer: the one goroutine that changes files.
func (s *Spool) run() {
	defer s.gone.Done()
	tick := time.NewTicker(cursorEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.wake:
			for s.writeQueue() {
			}
		case <-tick.C:
			s.writeCursor(false)
		case <-s.quit:
			s.end()
			return
		}
	}
}

// end refuses what waits, and closes the file.
func (s *Spool) end() {
	s.mu.Lock()
	queue := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, r := range queue {
		r.done <- ErrClosed
	}
	s.writeCursor(true)
	if s.active != nil {
		s.active.Close() // all that counts is synced
		s.active = nil
	}
}

// writeQueue writes what waits with one write and one sync, and reports whether there was something.
func (s *Spool) writeQueue() bool {
	most := min(maxWrite, s.cfg.MaxBytes/8)
	s.mu.Lock()
	n, bytes := 0, int64(0)
	for n < len(s.queue) {
		need := s.queue[n].bytes + s.queue[n].objectBytes()
		if n > 0 && bytes+need > most {
			break
		}
		bytes += need
		n++
	}
	queue := slices.Clone(s.queue[:n])
	s.queue = slices.Delete(s.queue, 0, n)
	s.mu.Unlock()
	if n == 0 {
		return false
	}
	err := s.write(queue, bytes)
	for _, r := range queue {
		r.done <- err
	}
	return true
}

// objectBytes is what the process objects may take that the pushes need.
func (r *request) objectBytes() (n int64) {
	for _, p := range r.pushes {
		if p.process != nil {
			n += int64(len(p.process.deflated) + len(p.Instance) + len(p.process.Service) + recHeader + 128)
		}
	}
	return n
}

// write makes queue durable.
func (s *Spool) write(queue []*request, bytes int64) error {
	if err := s.makeRoom(bytes); err != nil {
		return err
	}
	f, err := s.activeFile(bytes)
	if err != nil {
		return err
	}
	b := &builder{s: s, f: f, out: s.out[:0], held: map[string]string{}}
	var pushes int64
	for _, r := range queue {
		b.request(r)
		pushes += int64(len(r.pushes))
	}
	b.cursor()
	err = s.commit(f, b, pushes)
	if s.out = b.out; cap(s.out) > 2*maxWrite {
		s.out = nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Appended += pushes
	return nil
}

// builder makes the bytes of one write.
type builder struct {
	s    *Spool
	f    *file
	out  []byte
	held map[string]string // process objects in out
	told [2]uint64         // the cursor in out, zero: none
}

func (b *builder) add(k kind, payload func([]byte) []byte) {
	b.out = appendRecord(b.out, b.f.number, b.f.size+int64(len(b.out)), k, b.s.now().UnixMilli(), payload)
}

// request adds the pushes of r, and the process objects that they need and the file does not hold.
func (b *builder) request(r *request) {
	for _, p := range r.pushes {
		if who := subject(p.Instance, p.Hash); p.process != nil && b.holds(who) != p.Hash {
			b.add(kindProcess, func(dst []byte) []byte { return p.process.append(dst, who) })
			b.held[who] = p.Hash
		}
		b.add(kindPush, p.append)
	}
}

// holds returns the hash of who's process object that stands last in the file, once out is written.
func (b *builder) holds(who string) string {
	if hash, ok := b.held[who]; ok {
		return hash
	}
	return b.f.held[who]
}

// cursor adds what is done, where that was not said yet.
func (b *builder) cursor() {
	s := b.s
	s.mu.Lock()
	file, at := s.doneFile, s.doneAt
	told := s.toldFile == file && s.toldAt == at
	s.mu.Unlock()
	if told {
		return
	}
	b.add(kindCursor, func(dst []byte) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, file), uint64(at))
	})
	b.told = [2]uint64{file, uint64(at)}
}

// commit writes and syncs b, in which there are so many pushes. After an error the file is not written on: what it holds beyond its end is unknown.
func (s *Spool) commit(f *file, b *builder, pushes int64) error {
	began := time.Now()
	_, err := s.active.Write(b.out)
	if err == nil {
		err = s.active.Sync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Writes++
	s.stats.SyncSeconds += time.Since(began).Seconds()
	f.size += int64(len(b.out))
	if err != nil {
		s.stats.Failures++
		s.sealLocked(f)
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	f.end = f.size
	f.waiting += pushes
	for instance, hash := range b.held {
		f.held[instance] = hash
	}
	if b.told != [2]uint64{} {
		s.toldFile, s.toldAt = b.told[0], int64(b.told[1])
	}
	close(s.readable)
	s.readable = make(chan struct{})
	return nil
}

// sealLocked ends the writing of f. Of a file in which nothing can be read nothing stays.
func (s *Spool) sealLocked(f *file) {
	f.sealed, f.held = true, nil
	if s.active != nil {
		s.active.Close() // what is synced is there, and nothing else counts
		s.active = nil
	}
	if f.end <= int64(fileHeader) && s.cfg.FS.Remove(f.path) == nil {
		s.files = slices.DeleteFunc(s.files, func(x *file) bool { return x == f })
	}
}

// activeFile returns the file to write n bytes to: the active one, or a new one.
func (s *Spool) activeFile(n int64) (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.files) - 1; last >= 0 && !s.files[last].sealed {
		f := s.files[last]
		if f.size+n <= s.cfg.SegmentBytes || f.end <= int64(fileHeader) {
			return f, nil
		}
		s.sealLocked(f)
		s.advanceLocked()
	}
	f := &file{number: s.next, path: filepath.Join(s.cfg.Dir, fileName(s.next)), begun: s.now().UnixMilli(), held: map[string]string{}}
	active, err := s.cfg.FS.Create(f.path)
	if err != nil {
		s.stats.Failures++
		return nil, fmt.Errorf("create segment: %w", err)
	}
	s.next++
	s.active = active
	header := appendFileHeader(nil, f.number)
	f.size, f.end = int64(len(header)), int64(len(header))
	// The name is durable before anything in the file counts.
	if _, err = active.Write(header); err == nil {
		err = s.cfg.FS.SyncDir(s.cfg.Dir)
	}
	s.files = append(s.files, f)
	if err != nil {
		s.stats.Failures++
		s.sealLocked(f)
		return nil, fmt.Errorf("begin segment: %w", err)
	}
	return f, nil
}

// makeRoom drops the oldest files until n bytes more fit. Who lost what is durable before a file goes.
func (s *Spool) makeRoom(n int64) error {
	if n+2*reserve > s.cfg.MaxBytes {
		return fmt.Errorf("%w: %d bytes with process objects", ErrTooLarge, n)
	}
	for {
		s.mu.Lock()
		total := n + reserve
		for _, f := range s.files {
			total += f.size
		}
		if total <= s.cfg.MaxBytes || len(s.files) == 0 {
			s.mu.Unlock()
			return nil
		}
		f := s.files[0]
		if !f.sealed {
			s.sealLocked(f)
			if len(s.files) == 0 {
				s.mu.Unlock()
				continue
			}
		}
		s.mu.Unlock()
		if err := s.drop(f); err != nil {
			return err
		}
	}
}

// reserve is kept free for the account of what was dropped.
const reserve = 128 << 10

// drop counts what of f is not done and removes it.
func (s *Spool) drop(f *file) error {
	account := s.settle(f)
	if account.Pushes() > 0 {
		p, err := s.cfg.Gaps(account)
		if err != nil {
			return fmt.Errorf("drop the oldest segment: account for it: %w", err)
		}
		raw, err := json.Marshal(account)
		if err != nil {
			return fmt.Errorf("drop the oldest segment: account for it: %w", err)
		}
		if err := s.writeGaps(&p, raw); err != nil {
			return fmt.Errorf("drop the oldest segment: account for it: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = Account{}
	s.files = slices.DeleteFunc(s.files, func(x *file) bool { return x == f })
	if s.reader != nil && s.reader.file == f {
		s.closeReader()
	}
	if err := s.cfg.FS.Remove(f.path); err != nil {
		// The account names it: the next open removes it.
		s.log.Warn("cannot remove a dropped segment of the spool", "file", f.path, "error", err)
	}
	return nil
}

// writeGaps makes an account durable.
func (s *Spool) writeGaps(p *Push, account []byte) error {
	f, err := s.activeFile(0)
	if err != nil {
		return err
	}
	b := &builder{s: s, f: f}
	b.add(kindGaps, func(dst []byte) []byte { return appendSection(p.append(dst), account) })
	return s.commit(f, b, 1)
}

// writeCursor writes down what is done. Without sync it survives the end of the process, which is enough: what is sent once more is a duplicate.
func (s *Spool) writeCursor(sync bool) {
	s.mu.Lock()
	nothing := s.toldFile == s.doneFile && s.toldAt == s.doneAt || !slices.ContainsFunc(s.files, func(f *file) bool { return f.waiting > 0 || !f.sealed })
	s.mu.Unlock()
	if nothing {
		return
	}
	f, err := s.activeFile(0)
	if err != nil {
		s.log.Warn("cannot write down what of the spool is sent; some of it may be sent again", "error", err)
		return
	}
	b := &builder{s: s, f: f, out: s.out[:0]}
	if b.cursor(); len(b.out) == 0 {
		return
	}
	_, err = s.active.Write(b.out)
	if err == nil && sync {
		err = s.active.Sync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.size += int64(len(b.out))
	if err != nil {
		s.stats.Failures++
		s.sealLocked(f)
		s.log.Warn("cannot write down what of the spool is sent; some of it may be sent again", "error", err)
		return
	}
	f.end = f.size
	s.toldFile, s.toldAt = b.told[0], int64(b.told[1])
}
