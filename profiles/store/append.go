package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// maxWriters is the number of segments written at the same time, which happens only where a write takes longer than GatherDelay or
// more than GatherBytes arrive during one.
const maxWriters = 4

// Append stores p. When it returns nil, p survives kill -9 and power loss and every query sees it. A p whose Key was stored before yields
// an error that wraps catalog.ErrDuplicate, and nothing is stored. Other errors: one that wraps ErrInvalid, *LimitError, ErrClosed, or the store
// could not write. If ctx ends while the segment is being written p may be stored all the same; a retry with the same Key finds out.
func (s *Store) Append(ctx context.Context, p Push) error {
	if err := p.validate(); err != nil {
		return err
	}
	keys, byService := make([]string, len(p.Profiles)), map[string][]seriesRef{}
	for i := range p.Profiles {
		pr := &p.Profiles[i]
		keys[i] = seriesKey(pr.Labels, pr.Type, columnsOf(pr.Type, pr.Data.SampleTypes))
		service := pr.Labels.Get(serviceLabel)
		byService[service] = append(byService[service], seriesRef{key: keys[i], instance: pr.Labels.Get(instanceLabel), end: pr.End, length: pr.End - pr.Start})
	}
	if p.Key != (catalog.Key{}) {
		seen, err := s.cfg.Catalog.Seen(ctx, []catalog.Key{p.Key})
		if err != nil {
			return fmt.Errorf("append push: look for its key: %w", err)
		}
		if seen[0] {
			return s.duplicate()
		}
	}
	if err := s.disk.check(); err != nil {
		s.metrics.failures.Inc()
		return fmt.Errorf("append push: %w", err)
	}
	if err := s.learnSeries(ctx, byService); err != nil {
		return fmt.Errorf("append push: read the series of its services: %w", err)
	}
	b, index, err := s.enqueue(ctx, &p, keys, byService)
	if err != nil {
		return err
	}
	if p.Taken != nil {
		p.Taken()
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return fmt.Errorf("append push: wait for its segment: %w", ctx.Err())
	}
	switch {
	case b.pushes[index].duplicate:
		return s.duplicate()
	case b.err != nil:
		s.metrics.failures.Inc()
		return fmt.Errorf("append push: %w", b.err)
	}
	s.metrics.pushes.Inc()
	return nil
}

func (s *Store) duplicate() error {
	s.metrics.duplicates.Inc()
	return fmt.Errorf("append push: %w", catalog.ErrDuplicate)
}

// enqueue puts p into the pending batch, waiting first for a push with the same key that is on its way, and for room.
func (s *Store) enqueue(ctx context.Context, p *Push, keys []string, byService map[string][]seriesRef) (*batch, int, error) {
	keyed := p.Key != (catalog.Key{})
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, 0, fmt.Errorf("append push: %w", ErrClosed)
		}
		var wait <-chan struct{}
		twin := s.inFlight[p.Key]
		switch {
		case keyed && twin != nil:
			wait = twin.done
		case s.pending != nil && s.pending.bytes >= 2*s.cfg.GatherBytes:
			wait = s.space
		}
		if wait == nil {
			b, index, err := s.addLocked(p, keys, byService)
			s.mu.Unlock()
			return b, index, err
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("append push: %w", ctx.Err())
		}
		if keyed && twin != nil && twin.stored(p.Key) {
			return nil, 0, s.duplicate()
		}
	}
}

// stored reports whether the push with key is in the store now that b is done.
func (b *batch) stored(key catalog.Key) bool {
	i := slices.IndexFunc(b.pushes, func(p batchPush) bool { return p.key == key })
	return i >= 0 && (b.err == nil || b.pushes[i].duplicate)
}

func (s *Store) addLocked(p *Push, keys []string, byService map[string][]seriesRef) (*batch, int, error) {
	if err := s.limiter.allow(s.cfg.Now().UnixMilli(), byService); err != nil {
		s.metrics.limited.Inc()
		return nil, 0, err
	}
	b := s.pending
	if b == nil {
		b = s.newBatchLocked()
	}
	b.add(p, keys, s.cfg.Staleness, &s.recorder, s.dictionaries)
	if b.quiet != nil {
		b.quiet.Reset(s.cfg.GatherQuiet)
	}
	if p.Key != (catalog.Key{}) {
		s.inFlight[p.Key] = b
	}
	s.scheduleLocked()
	return b, len(b.pushes) - 1, nil
}

// newBatchLocked makes the pending batch. The first push after a pause is written at once, those that follow closely wait for each other: a
// segment costs a file, two syncs and a transaction, whether it holds one push or a hundred. They wait no longer than pushes keep coming: a
// few senders that each wait for their answer before they send again are not made to wait for anybody else.
func (s *Store) newBatchLocked() *batch {
	b := newBatch()
	s.pending = b
	after := func(d time.Duration, flag *bool) *time.Timer {
		t := time.AfterFunc(d, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			*flag = true
			s.scheduleLocked()
		})
		b.timers = append(b.timers, t)
		return t
	}
	after(s.cfg.GatherDelay, &b.due)
	if rest := s.cfg.GatherPause - time.Since(s.lastCut); rest > 0 {
		after(rest, &b.rested)
		b.quiet = after(s.cfg.GatherQuiet, &b.rested)
	} else {
		b.rested = true
	}
	return b
}

// scheduleLocked starts to write the pending batch if nothing is being written and there was a pause, or if it has gathered enough.
func (s *Store) scheduleLocked() {
	b := s.pending
	if b == nil || s.writing >= maxWriters {
		return
	}
	enough := b.due || b.bytes >= s.cfg.GatherBytes || s.closed
	if !enough && (s.writing > 0 || !b.rested) {
		return
	}
	b.cut()
	s.lastCut = time.Now()
	s.pending = nil
	s.writing++
	close(s.space)
	s.space = make(chan struct{})
	s.writers.Go(func() { s.write(b) })
}

// write stores b, tells those who wait, and starts the next one.
func (s *Store) write(b *batch) {
	began := time.Now()
	err := s.store(b)
	s.metrics.segmentSeconds.Observe(time.Since(began).Seconds())
	s.mu.Lock()
	defer s.mu.Unlock()
	b.err = err
	for i := range b.pushes {
		delete(s.inFlight, b.pushes[i].key)
	}
	s.writing--
	s.scheduleLocked()
	close(b.done)
}

// store writes b's segment and registers it, without the pushes that turn out to be duplicates. No context ends it: the pushes of many callers
// are in it.
func (s *Store) store(b *batch) error {
	ctx := context.Background()
	for {
		reg, owners := b.registration()
		var blobName string
		began := time.Now()
		if b.profiles > 0 {
			row, opened, err := s.putSegment(ctx, b)
			if err != nil {
				return err
			}
			reg.Block, blobName = &row, row.Blob
			defer s.underway.Delete(blobName)
			s.cache.put(blobName, opened) // queries and the compactor want it soon
		}
		err := s.register(ctx, reg, began)
		if err == nil {
			break
		}
		var dup *catalog.DuplicateError
		if !errors.As(err, &dup) || len(dup.Keys) == 0 {
			if s.registered(ctx, b, &reg, owners) {
				break
			}
			s.cache.drop(blobName)
			return fmt.Errorf("register segment: %w", err)
		}
		s.cache.drop(blobName)
		for _, i := range dup.Keys {
			b.pushes[owners[i]].duplicate = true
		}
		if blobName != "" {
			if err := s.cfg.Blobs.Delete(ctx, blobName); err != nil { // it stays as an orphan
				s.log.Warn("cannot delete the segment of a duplicate push", "blob", blobName, "err", err)
			}
		}
		b.dropDuplicates()
		if !slices.ContainsFunc(b.pushes, func(p batchPush) bool { return !p.duplicate }) {
			return nil
		}
	}
	s.metrics.profiles.Add(float64(b.profiles))
	s.metrics.samples.Add(float64(b.samples))
	return nil
}

// register registers what was written since began.
func (s *Store) register(ctx context.Context, reg catalog.Registration, began time.Time) error {
	if err := inTime(began); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, registerWithin)
	defer cancel()
	return s.cfg.Catalog.Register(ctx, reg)
}

func (s *Store) putSegment(ctx context.Context, b *batch) (catalog.Block, *openedFile, error) {
	w := s.fileWriter()
	defer s.release(w)
	now := s.cfg.Now()
	data, row, err := b.encode(w, s.ids.next(now), now)
	if err == nil {
		s.underway.Store(row.Blob, struct{}{})
		if err = s.cfg.Blobs.Put(ctx, row.Blob, data); err != nil {
			s.underway.Delete(row.Blob)
		}
	}
	if err != nil {
		return row, nil, fmt.Errorf("write segment: %w", err)
	}
	s.metrics.segmentBytes.Add(float64(len(data)))
	return row, w.opened, nil
}

// registered finds out whether a registration that failed was committed all the same: the error may have come after the commit. Pushes whose keys are
// there become duplicates where others are not. The blob is left alone: if the commit is still to come it is needed, else it is an orphan.
func (s *Store) registered(ctx context.Context, b *batch, reg *catalog.Registration, owners []int) bool {
	if reg.Block != nil {
		blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{Levels: []int{0}})
		if err == nil && slices.ContainsFunc(blocks, func(x catalog.Block) bool { return x.ID == reg.Block.ID }) {
			return true
		}
	}
	if len(reg.Keys) == 0 {
		return false
	}
	seen, err := s.cfg.Catalog.Seen(ctx, reg.Keys)
	if err != nil {
		return false
	}
	if !slices.Contains(seen, false) {
		return true
	}
	for i, v := range seen {
		if v {
			b.pushes[owners[i]].duplicate = true
		}
	}
	return false
}

func (s *Store) fileWriter() *fileWriter {
	select {
	case w := <-s.idle:
		return w
	default:
		return &fileWriter{}
	}
}

func (s *Store) release(w *fileWriter) {
	select {
	case s.idle <- w:
	default:
	}
}
