package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// instanceLabel is the label that names the process of a series.
const instanceLabel = "service_instance_id"

// tombstoneFolder holds a blob for each deletion, so that a catalogue that is made anew from the blobs does not bring back what was deleted: of blocks with
// an id less than the tombstone's, what it names is gone.
const tombstoneFolder = "tombstones/"

// tombstoneAge is for how long tombstones stay: far longer than any blob of before the deletion can be found on the disk.
const tombstoneAge = 30 * day

// running is how recently a process must have been seen to be taken for running: its row and its keys stay when its profiles are deleted. The row would be
// back with the next push, and without the keys a window that is sent twice would be stored anew.
const running = 10 * time.Minute

// Deletion selects what Delete deletes: the profiles of a service or of an instance, or of an instance of a service, that start in [From, To).
type Deletion struct {
	Service, Instance string
	From, To          int64 // Unix ms
	Force             bool  // also what is pinned
}

// Deleted says what a deletion removed.
type Deleted struct {
	ID        string // of its tombstone
	Profiles  int64
	Blocks    int // segments and blocks that are gone
	Rewritten int // blocks that were written in their place, without what was deleted
	Bytes     int64
	catalog.Removed
}

// PinnedError says that what was to be deleted is pinned.
type PinnedError struct{ Pin catalog.Pin }

func (e *PinnedError) Error() string {
	return fmt.Sprintf("pin %d (%s) keeps profiles of the selection", e.Pin.ID, e.Pin.Selector)
}

// ErrBusy says that another collector on the same catalogue holds the lease that is needed.
var ErrBusy = errors.New("another collector compacts this store")

// tombstone is the content of a blob in tombstoneFolder.
type tombstone struct {
	Version  int    `json:"v"`
	ID       string `json:"id"`
	Service  string `json:"service,omitempty"`
	Instance string `json:"instance,omitempty"`
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Created  int64  `json:"created"`
}

// Delete deletes what d selects of all that was acknowledged before it was called. Queries that start after it returned do not see it; its bytes are gone from the disk after the
// grace. Profiles that are pushed meanwhile may stay. Where it fails in the middle (or ctx ends) Run carries it to its end.
func (s *Store) Delete(ctx context.Context, d Deletion) (Deleted, error) {
	if d.Service == "" && d.Instance == "" {
		return Deleted{}, errors.New("delete profiles: neither a service nor an instance is named")
	}
	if d.To <= d.From {
		return Deleted{}, fmt.Errorf("delete profiles: range [%d, %d) is empty", d.From, d.To)
	}
	s.compacting.Lock()
	defer s.compacting.Unlock()
	if held, err := s.lease(ctx); err != nil {
		return Deleted{}, fmt.Errorf("delete profiles: %w", err)
	} else if !held {
		return Deleted{}, fmt.Errorf("delete profiles: %w", ErrBusy)
	}
	t, err := s.bury(ctx, d)
	if err != nil {
		return Deleted{}, fmt.Errorf("delete profiles: %w", err)
	}
	out, err := s.carryOut(ctx, t)
	if err != nil {
		return out, fmt.Errorf("delete profiles: %w", err)
	}
	s.log.Info("deleted profiles", "service", d.Service, "instance", d.Instance, "from", d.From, "to", d.To, "profiles", out.Profiles, "tombstone", out.ID)
	return out, nil
}

// bury looks for pins and registers the deletion: from here on it is carried out, by Run if not by who asked for it.
func (s *Store) bury(ctx context.Context, d Deletion) (catalog.Deletion, error) {
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{From: d.From, To: d.To})
	if err != nil {
		return catalog.Deletion{}, err
	}
	at := s.cfg.Now().UnixMilli()
	for _, b := range blocks { // a clock that went back must not make it older than what it is about
		at = max(at, b.Created+1)
	}
	t := catalog.Deletion{ID: s.ids.next(time.UnixMilli(at)).String(), Service: d.Service, Instance: d.Instance, Start: d.From, End: d.To, Created: at}
	if !d.Force {
		if err := s.unpinned(ctx, t, blocks); err != nil {
			return t, err
		}
	}
	return t, s.cfg.Catalog.PutDeletion(ctx, t)
}

// putTombstone writes t's blob, or writes it again.
func (s *Store) putTombstone(ctx context.Context, t catalog.Deletion) error {
	data, err := json.Marshal(tombstone{1, t.ID, t.Service, t.Instance, t.Start, t.End, t.Created})
	if err != nil {
		return err
	}
	return s.cfg.Blobs.Put(ctx, tombstoneFolder+t.ID, append(data, '\n'))
}

// unpinned returns a *PinnedError if a pin keeps a profile that t is about.
func (s *Store) unpinned(ctx context.Context, t catalog.Deletion, blocks []catalog.Block) error {
	ps, err := readPins(ctx, s.cfg.Catalog)
	if err != nil {
		return err
	}
	for i := range ps.all {
		p := &ps.all[i]
		if p.Start >= t.End || p.End <= t.Start {
			continue
		}
		for _, b := range blocks {
			found := false
			err := s.eachDataset(ctx, &b, func(ds *dataset) {
				found = found || slices.ContainsFunc(ds.series, func(si seriesInfo) bool {
					return deletes(t, si.Labels) && si.minStart < min(p.End, t.End) && si.maxStart >= max(p.Start, t.Start) &&
						(p.Type == "" || p.Type == si.Type) && matchLabels(p.matchers, si.Labels)
				})
			})
			if found || err != nil { // what cannot be read may be pinned
				return &PinnedError{p.Pin}
			}
		}
	}
	return nil
}

// deletes reports whether t is about the series.
func deletes(t catalog.Deletion, ls labels.Labels) bool {
	return (t.Service == "" || ls.Get(serviceLabel) == t.Service) && (t.Instance == "" || ls.Get(instanceLabel) == t.Instance)
}

// eachDataset calls fn for the datasets of a block, with their series.
func (s *Store) eachDataset(ctx context.Context, b *catalog.Block, fn func(*dataset)) error {
	f, err := openFile(ctx, s.cfg.Blobs, b.Blob, s.cache.get(b.Blob))
	if err != nil {
		return &inputError{b.Blob, err}
	}
	defer f.close()
	for _, info := range b.Datasets {
		ds, err := f.dataset(info.Service)
		if err == nil && ds == nil {
			err = fmt.Errorf("dataset %s is in the catalogue and not in the file", info.Service)
		}
		if err != nil {
			return &inputError{b.Blob, err}
		}
		fn(ds)
	}
	return nil
}

// carryOut takes what t is about out of all blocks that are older than it. A block that cannot be read is left, and the deletion unfinished.
func (s *Store) carryOut(ctx context.Context, t catalog.Deletion) (Deleted, error) {
	out := Deleted{ID: t.ID}
	if err := s.putTombstone(ctx, t); err != nil { // before anything is gone
		return out, err
	}
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{From: t.Start, To: t.End})
	if err != nil {
		return out, err
	}
	var bad error
	var segments []catalog.Block // written anew together, so that they do not become as many blocks
	for _, b := range blocks {
		if b.ID >= t.ID {
			continue
		}
		whole, some, err := s.concerned(ctx, t, b)
		switch {
		case err == nil && whole:
			err = s.swapped(ctx, &out, []catalog.Block{b}, &rewritten{began: time.Now()})
		case err == nil && some && b.Level == 0:
			segments = append(segments, b)
		case err == nil && some:
			err = s.cut(ctx, t, &out, []catalog.Block{b})
		}
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("block %s: %w", b.ID, err))
		}
		if ctx.Err() != nil {
			return out, bad
		}
	}
	for len(segments) > 0 {
		n := fitting(segments)
		if err := s.cut(ctx, t, &out, segments[:n]); err != nil {
			bad = errors.Join(bad, fmt.Errorf("%d segments from %s on: %w", n, segments[0].ID, err))
		}
		segments = segments[n:]
	}
	if bad != nil {
		return out, bad
	}
	seenBefore := int64(0)
	if t.End > t.Created && t.Start <= 0 {
		seenBefore = t.Created - running.Milliseconds() // all that there ever was of them
	}
	t.End = min(t.End, t.Created) // what happened since the deletion was asked for is none of its business
	out.Removed, err = s.cfg.Catalog.FinishDeletion(ctx, t, seenBefore)
	return out, err
}

// concerned reports whether t is about all or some of a block.
func (s *Store) concerned(ctx context.Context, t catalog.Deletion, b catalog.Block) (whole, some bool, err error) {
	whole = t.Instance == ""
	named := false
	for _, ds := range b.Datasets {
		named = named || t.Service == "" || ds.Service == t.Service
		whole = whole && ds.Service == t.Service && ds.MinStart >= t.Start && ds.MaxStart < t.End
	}
	if whole || !named {
		return whole, whole, nil
	}
	err = s.eachDataset(ctx, &b, func(ds *dataset) {
		some = some || slices.ContainsFunc(ds.series, func(si seriesInfo) bool {
			return deletes(t, si.Labels) && si.minStart < t.End && si.maxStart >= t.Start
		})
	})
	return false, some, err
}

// cut writes blocks anew without what t is about, nor what any other deletion is about that is not finished and concerns all of them: that would pass over what is
// newer than it.
func (s *Store) cut(ctx context.Context, t catalog.Deletion, out *Deleted, in []catalog.Block) error {
	all, err := s.cfg.Catalog.Deletions(ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		older := slices.ContainsFunc(in, func(b catalog.Block) bool { return b.ID < o.ID })
		newer := slices.ContainsFunc(in, func(b catalog.Block) bool { return b.ID >= o.ID })
		if !o.Finished && older && newer { // it is about some of them: one by one
			for i := range in {
				if err := s.cut(ctx, t, out, in[i:i+1]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	all = slices.DeleteFunc(all, func(o catalog.Deletion) bool { return o.ID == t.ID || o.Finished || in[0].ID >= o.ID })
	all = append(all, t)
	r, err := s.rewrite(ctx, in, shareAll, func(si *seriesInfo, start int64) bool {
		return !slices.ContainsFunc(all, func(t catalog.Deletion) bool { return deletes(t, si.Labels) && start >= t.Start && start < t.End })
	})
	if err != nil {
		return err
	}
	return s.swapped(ctx, out, in, r)
}

// swapped swaps blocks for what is left of them and counts.
func (s *Store) swapped(ctx context.Context, out *Deleted, in []catalog.Block, r *rewritten) error {
	if err := s.exchange(ctx, in, r); err != nil {
		return err
	}
	count := func(blocks []catalog.Block) (n, bytes int64) {
		for _, b := range blocks {
			bytes += b.Size
			for _, ds := range b.Datasets {
				n += ds.Profiles
			}
		}
		return n, bytes
	}
	before, bytesBefore := count(in)
	after, bytesAfter := count(r.rows)
	out.Profiles, out.Bytes = out.Profiles+before-after, out.Bytes+bytesBefore-bytesAfter
	out.Blocks, out.Rewritten = out.Blocks+len(in), out.Rewritten+len(r.rows)
	return nil
}

// adoptTombstones registers the deletions that only blobs tell of: the catalogue was made anew from them.
func (s *Store) adoptTombstones(ctx context.Context) error {
	stones, err := readTombstones(ctx, s.cfg.Blobs)
	for _, t := range stones {
		if err == nil {
			err = s.cfg.Catalog.PutDeletion(ctx, t) // leaves one that is there as it is
		}
	}
	s.adopted = err == nil
	return err
}

// resumeDeletions carries out what was begun and not finished, and forgets tombstones whose time is over. The caller holds compacting.
func (s *Store) resumeDeletions(ctx context.Context) error {
	if !s.adopted {
		if err := s.adoptTombstones(ctx); err != nil {
			return fmt.Errorf("look for deletions: %w", err)
		}
	}
	all, err := s.cfg.Catalog.Deletions(ctx)
	if err != nil {
		return fmt.Errorf("list deletions: %w", err)
	}
	var bad error
	for _, t := range all {
		switch {
		case !t.Finished:
			_, err = s.carryOut(ctx, t)
		case s.cfg.Now().Sub(time.UnixMilli(t.Created)) > tombstoneAge:
			if err = s.cfg.Blobs.Delete(ctx, tombstoneFolder+t.ID); err == nil {
				err = s.cfg.Catalog.ForgetDeletion(ctx, t.ID)
			}
		}
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("carry on deletion %s: %w", t.ID, err))
		}
	}
	return bad
}

// withoutDoomed returns blocks without those that hold what a deletion that is not finished is to take out. Nothing else may write them anew: what is made of them has a newer
// id than the deletion, which would pass it over. The caller holds compacting.
func (s *Store) withoutDoomed(ctx context.Context, blocks []catalog.Block) ([]catalog.Block, error) {
	all, err := s.cfg.Catalog.Deletions(ctx)
	if err != nil {
		return nil, fmt.Errorf("list deletions: %w", err)
	}
	doomed := func(b catalog.Block) bool {
		return slices.ContainsFunc(all, func(t catalog.Deletion) bool {
			return !t.Finished && b.ID < t.ID && slices.ContainsFunc(b.Datasets, func(ds catalog.Dataset) bool {
				return (t.Service == "" || ds.Service == t.Service) && ds.MinStart < t.End && ds.MaxStart >= t.Start
			})
		})
	}
	return slices.DeleteFunc(blocks, doomed), nil
}

// readTombstones returns the deletions that blobs tell of, by id. They are what a catalogue that is made anew starts with.
func readTombstones(ctx context.Context, blobs blob.Store) ([]catalog.Deletion, error) {
	var out []catalog.Deletion
	for info, err := range blobs.List(ctx, tombstoneFolder) {
		if err != nil {
			return nil, fmt.Errorf("list tombstones: %w", err)
		}
		t, err := readTombstone(ctx, blobs, info)
		if err != nil {
			return nil, fmt.Errorf("read tombstone %s: %w", info.Name, err)
		}
		out = append(out, catalog.Deletion{ID: t.ID, Service: t.Service, Instance: t.Instance, Start: t.From, End: t.To, Created: t.Created})
	}
	return out, nil
}

// maxTombstone bounds what is read of one: two names of labels' length and four numbers.
const maxTombstone = 64 << 10

func readTombstone(ctx context.Context, blobs blob.Store, info blob.Info) (t tombstone, err error) {
	if info.Size > maxTombstone {
		return t, fmt.Errorf("it has %d bytes, at most %d", info.Size, maxTombstone)
	}
	r, err := blobs.Open(ctx, info.Name)
	if err != nil {
		return t, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, err
	}
	if t.Version != 1 || tombstoneFolder+t.ID != info.Name || t.Service == "" && t.Instance == "" {
		return t, errors.New("it is not a tombstone of version 1 with its own name")
	}
	return t, nil
}
