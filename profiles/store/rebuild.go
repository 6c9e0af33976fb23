package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// Rebuilt is what Rebuild found out about a blob store.
type Rebuilt struct {
	Live     []catalog.Block // what a catalogue has to list, in order of id
	Garbage  []string        // blobs that were replaced or deleted, or that never were live
	Problems []Problem       // blobs that cannot be read, and what cannot be told from the blobs alone

	deletions []catalog.Deletion
	blobs     blob.Store
	now       func() time.Time // nil: time.Now
}

// Rebuild finds out from the blobs alone which segments and blocks are live: those that can be read, that no other was made from, and that were
// not deleted. dead names blobs that are known to have been deleted or replaced (the garbage of the catalogue that is rebuilt, if it can be read).
// It may write segments: of one that holds pushes that were stored again in another, because its registration failed, what only it holds is written
// anew. The store must not be open.
//
// What cannot be rebuilt are the keys of pushes: one whose answer was lost before the catalogue was, and that is sent again after it was rebuilt,
// is stored twice.
func Rebuild(ctx context.Context, blobs blob.Store, dead []string) (*Rebuilt, error) {
	r := &rebuild{blobs: blobs, dead: map[string]bool{}, out: &Rebuilt{blobs: blobs}}
	r.lineage = newLineage(func(a, b *known) (int, error) { return r.more(ctx, a, b) })
	for _, name := range dead {
		r.dead[name] = true
	}
	if err := r.survey(ctx); err != nil {
		return nil, fmt.Errorf("rebuild catalogue: %w", err)
	}
	if err := r.tombstones(ctx); err != nil {
		return nil, fmt.Errorf("rebuild catalogue: %w", err)
	}
	r.lineage.choose()
	if err := r.missed(ctx); err != nil {
		return nil, fmt.Errorf("rebuild catalogue: %w", err)
	}
	if err := r.dropRepeats(ctx); err != nil {
		return nil, fmt.Errorf("rebuild catalogue: %w", err)
	}
	for _, f := range r.lineage.files {
		if f.gone || f.dead {
			r.out.Garbage = append(r.out.Garbage, f.row.Blob)
		} else {
			r.out.Live = append(r.out.Live, f.row)
		}
	}
	slices.SortFunc(r.out.Live, func(a, b catalog.Block) int { return strings.Compare(a.ID, b.ID) })
	r.out.Problems = append(r.out.Problems, r.lineage.problems...)
	return r.out, nil
}

// newCatalog is the catalogue that a rebuild fills.
type newCatalog interface {
	catalog.Catalog
	Fill(ctx context.Context, blocks []catalog.Block, garbage []string, deletions []catalog.Deletion, deleteAfter time.Time) error
}

// rebuiltGrace is how long what a rebuild found to be garbage is kept for those who look at what it did.
const rebuiltGrace = time.Hour

// Fill writes what was found into cat, which lists no blocks yet, and takes what was deleted on request out of what still holds it.
func (r *Rebuilt) Fill(ctx context.Context, cat newCatalog) error {
	now, err := cat.Now(ctx)
	if err != nil {
		return err
	}
	if err := cat.Fill(ctx, r.Live, r.Garbage, r.deletions, now.Add(rebuiltGrace)); err != nil {
		return err
	}
	s, err := Open(ctx, Config{Blobs: r.blobs, Catalog: cat, Grace: rebuiltGrace, Now: r.now})
	if err != nil {
		return err
	}
	return errors.Join(s.bringBackNothing(ctx), s.Close())
}

// bringBackNothing carries out all deletions that the catalogue knows, again where they were finished.
func (s *Store) bringBackNothing(ctx context.Context) error {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	if err := s.waitForLease(ctx); err != nil {
		return err
	}
	s.adopted = true // those that can be read are in the catalogue
	err := s.resumeDeletions(ctx)
	if input := (*inputError)(nil); errors.As(err, &input) { // it is among the problems, and the deletion stays unfinished
		return nil
	}
	return err
}

// rebuild is one Rebuild.
type rebuild struct {
	blobs   blob.Store
	lineage *lineage
	dead    map[string]bool
	out     *Rebuilt
}

// survey reads what every file says of itself.
func (r *rebuild) survey(ctx context.Context) error {
	for _, folder := range [...]string{segmentFolder, blockFolder} {
		for info, err := range r.blobs.List(ctx, folder) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			if err := r.file(ctx, info.Name); err != nil {
				r.out.Problems = append(r.out.Problems, Problem{info.Name, "left out: " + err.Error()})
			}
		}
	}
	return nil
}

// tombstones reads what was deleted on request. One that cannot be read is a problem: what it stands for may be back.
func (r *rebuild) tombstones(ctx context.Context) error {
	for info, err := range r.blobs.List(ctx, tombstoneFolder) {
		if err != nil {
			return err
		}
		t, err := readTombstone(ctx, r.blobs, info)
		if err != nil {
			r.out.Problems = append(r.out.Problems, Problem{info.Name, "what this tombstone says was deleted may be back: " + err.Error()})
			continue
		}
		r.out.deletions = append(r.out.deletions, catalog.Deletion{ID: t.ID, Service: t.Service, Instance: t.Instance, Start: t.From, End: t.To, Created: t.Created})
	}
	return nil
}

func (r *rebuild) file(ctx context.Context, name string) error {
	f, err := openFile(ctx, r.blobs, name, nil)
	if err != nil {
		return err
	}
	defer f.close()
	foot := f.opened.foot
	k := &known{id: foot.id, row: foot.block(f.size), dead: r.dead[name], share: foot.share}
	if k.row.Blob != name {
		return fmt.Errorf("it is %s by what it says itself", k.row.Blob)
	}
	raw, err := f.section(foot.ancestors)
	if err != nil {
		return fmt.Errorf("ancestors: %w", err)
	}
	ancestors, err := decodeAncestors(raw)
	if err != nil {
		return fmt.Errorf("ancestors: %w", err)
	}
	k.width = windowWidth(k.row.Resolution)
	if k.parts, err = f.fileParts(ctx, k.width); err != nil {
		return err
	}
	r.lineage.add(k, ancestors)
	return nil
}

// fileParts lists the services and windows of width ms that f has profiles of.
func (f *file) fileParts(ctx context.Context, width int64) (map[filePart]struct{}, error) {
	out := map[filePart]struct{}{}
	for _, info := range f.opened.foot.datasets {
		first := windowStart(info.MinStart, width)
		out[filePart{info.Service, first}] = struct{}{}
		if info.MaxStart < first+width {
			continue
		}
		err := f.eachHead(ctx, info.Service, func(_ *seriesInfo, h *head) {
			for _, t := range h.start {
				out[filePart{info.Service, windowStart(t, width)}] = struct{}{}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// eachHead calls fn for each series of raw profiles of a service.
func (f *file) eachHead(ctx context.Context, service string, fn func(*seriesInfo, *head)) error {
	ds, err := f.dataset(service)
	if err != nil || ds == nil {
		return err
	}
	sel := make([]selected, len(ds.series))
	for i := range ds.series {
		sel[i].info = &ds.series[i]
	}
	heads, err := f.readHeads(ctx, sel, true)
	if err != nil {
		return fmt.Errorf("dataset %s: %w", service, err)
	}
	for i, h := range heads {
		fn(sel[i].info, h)
	}
	return nil
}

// profileKey identifies a profile by its series, its interval and its totals: the same one in two files was pushed twice.
type profileKey [16]byte

func (h *head) key(series string, i int) (k profileKey) {
	b := append([]byte(series), 0xff)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.start[i]))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.end[i]))
	for _, column := range h.totals {
		b = binary.LittleEndian.AppendUint64(b, column[i].Lo)
		b = binary.LittleEndian.AppendUint64(b, uint64(column[i].Hi))
	}
	sum := sha256.Sum256(b)
	copy(k[:], sum[:])
	return k
}

// deleted tells which profiles of f were deleted on request.
func (r *rebuild) deleted(f *known) func(si *seriesInfo, start int64) bool {
	return func(si *seriesInfo, start int64) bool {
		return slices.ContainsFunc(r.out.deletions, func(t catalog.Deletion) bool {
			return f.row.ID < t.ID && deletes(t, si.Labels) && start >= t.Start && start < t.End
		})
	}
}

// keysOf returns the keys of f's raw profiles that start in the parts wanted, but for those that skip, if not nil, selects.
func (r *rebuild) keysOf(ctx context.Context, f *known, wanted map[filePart]struct{}, skip func(si *seriesInfo, start int64) bool) (map[profileKey]struct{}, error) {
	out := map[profileKey]struct{}{}
	file, err := openFile(ctx, r.blobs, f.row.Blob, nil)
	if err != nil {
		return nil, err
	}
	defer file.close()
	services := map[string]struct{}{}
	for p := range wanted {
		services[p.service] = struct{}{}
	}
	for service := range services {
		err := file.eachHead(ctx, service, func(si *seriesInfo, h *head) {
			series := seriesKey(si.Labels, si.Type, si.Columns)
			for i, t := range h.start {
				if _, ok := wanted[filePart{service, windowStart(t, blockWindow.Milliseconds())}]; ok && (skip == nil || !skip(si, t)) {
					out[h.key(series, i)] = struct{}{}
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// missed says of the parts of replaced files that nothing seems to hold which profiles of theirs indeed nothing does. Where a push was stored again it is elsewhere.
func (r *rebuild) missed(ctx context.Context) error {
	for _, u := range r.lineage.unsure {
		if u.file.row.Resolution != 0 {
			r.lineage.report(u.file, "was replaced, and its sums of service %s from %d on are in no other: they were deleted or lost", u.part.service, u.part.window)
			continue
		}
		wanted := map[filePart]struct{}{u.part: {}}
		keys, err := r.keysOf(ctx, u.file, wanted, r.deleted(u.file))
		if err != nil {
			r.lineage.report(u.file, "was replaced, and what replaced it is not all there; it cannot be read: %v", err)
			continue
		}
		for _, f := range r.lineage.files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if f.gone || f.dead || f.row.Resolution != 0 || !f.overlaps(wanted) {
				continue
			}
			found, err := r.keysOf(ctx, f, wanted, nil)
			if err != nil {
				continue // it is among the problems
			}
			for k := range found {
				delete(keys, k)
			}
		}
		if len(keys) > 0 {
			r.lineage.report(u.file, "was replaced, and %d of its profiles of service %s from %d on are in no other: they were deleted or lost", len(keys), u.part.service, u.part.window)
		}
	}
	return nil
}

// more counts the profiles that a holds and b does not. Windows of downsampled blocks cannot be told apart: none counts.
func (r *rebuild) more(ctx context.Context, a, b *known) (int, error) {
	if a.row.Resolution != 0 || b.row.Resolution != 0 {
		return 0, nil
	}
	inA, err := r.keysOf(ctx, a, a.parts, r.deleted(a))
	if err != nil {
		return 0, err
	}
	inB, err := r.keysOf(ctx, b, a.parts, nil)
	if err != nil {
		return 0, err
	}
	n := 0
	for k := range inA {
		if _, ok := inB[k]; !ok {
			n++
		}
	}
	return n, nil
}

// dropRepeats looks for segments whose registration failed and whose pushes were sent again: nothing names those, but their profiles are in other files
// too. A segment all of whose profiles are elsewhere goes, of another one what is not elsewhere is written anew. An earlier rebuild may have dropped such a segment, and
// what a deletion or a compaction had made of it alone may still be on the disk: that is looked at too.
func (r *rebuild) dropRepeats(ctx context.Context) error {
	var segments []*known
	wanted := map[filePart]struct{}{}
	for _, f := range r.lineage.files {
		if f.ofOneSegment() && !f.gone && !f.dead {
			segments = append(segments, f)
			for p := range f.parts {
				wanted[p] = struct{}{}
			}
		}
	}
	count := map[profileKey]int{} // files that hold it
	keys := map[*known]map[profileKey]struct{}{}
	for _, f := range r.lineage.files {
		if f.gone || f.dead || f.row.Resolution != 0 || !f.overlaps(wanted) {
			continue
		}
		ks, err := r.keysOf(ctx, f, wanted, nil)
		if err != nil { // check names what is wrong with it; what can be read of it counts
			r.lineage.report(f, "cannot be compared with others: %v", err)
			continue
		}
		for k := range ks {
			count[k]++
		}
		if f.ofOneSegment() {
			keys[f] = ks
		}
	}
	for _, f := range segments { // the older goes first
		twice := map[profileKey]struct{}{}
		for k := range keys[f] {
			if count[k] > 1 {
				twice[k] = struct{}{}
			}
		}
		if len(twice) == 0 {
			continue
		}
		if err := r.withoutRepeats(ctx, f, twice, len(keys[f])); err != nil {
			return fmt.Errorf("write segment %s without what is stored twice: %w", f.row.Blob, err)
		}
		for k := range twice {
			count[k]--
		}
	}
	return nil
}

// ofOneSegment reports whether f is a segment, or a raw block made of one.
func (f *known) ofOneSegment() bool {
	return f.row.Level == 0 || f.row.Resolution == 0 && len(f.ancestors) == 1
}

func (f *known) overlaps(wanted map[filePart]struct{}) bool {
	for p := range f.parts {
		if _, ok := wanted[p]; ok {
			return true
		}
	}
	return false
}

// withoutRepeats replaces f, which holds n profiles, by a segment without those of twice, or by nothing where none is left.
func (r *rebuild) withoutRepeats(ctx context.Context, f *known, twice map[profileKey]struct{}, n int) error {
	f.gone = true
	if len(twice) == n {
		return nil
	}
	file, err := openFile(ctx, r.blobs, f.row.Blob, nil)
	if err != nil {
		return err
	}
	defer file.close()
	w := &fileWriter{}
	// As old as the original, by its id: a deletion that concerns that concerns this.
	w.reset(newIDSource().next(f.id.time()), 0, file.opened.foot.created, 0)
	for _, info := range file.opened.foot.datasets {
		if err := copyWithout(ctx, file, info.Service, w, twice); err != nil {
			return err
		}
	}
	raw, err := file.section(file.opened.foot.ancestors)
	if err != nil {
		return err
	}
	ancestors, err := decodeAncestors(raw)
	if err != nil {
		return err
	}
	ancestors = append(ancestors, f.id)
	slices.SortFunc(ancestors, func(a, b blockID) int { return slices.Compare(a[:], b[:]) })
	data, row := w.finish(ancestors)
	if err := r.blobs.Put(ctx, row.Blob, data); err != nil {
		return err
	}
	r.out.Live = append(r.out.Live, row)
	return nil
}

// copyWithout writes a service's dataset of file to w, but for the profiles of twice.
func copyWithout(ctx context.Context, file *file, service string, w *fileWriter, twice map[profileKey]struct{}) error {
	ds, err := file.dataset(service)
	if err != nil {
		return err
	}
	syms, err := file.loadSymbols(ds)
	if err != nil {
		return err
	}
	same := make([]uint32, len(syms.Stacks))
	for i := range same {
		same[i] = uint32(i)
	}
	var c compaction
	begun := false
	for _, si := range inWritingOrder(ds.series) {
		heads, err := file.readHeads(ctx, []selected{{info: si}}, true)
		if err != nil {
			return err
		}
		records, err := c.records(ctx, file, si, same, si.minStart, si.maxStart+1)
		if err != nil {
			return err
		}
		s := &series{labels: si.Labels, typ: si.Type, period: si.Period, columns: si.Columns}
		key := seriesKey(si.Labels, si.Type, si.Columns)
		for j, rec := range records {
			if _, ok := twice[heads[0].key(key, j)]; !ok {
				s.records = append(s.records, rec)
			}
		}
		if len(s.records) == 0 {
			continue
		}
		if !begun {
			w.begin(service, nil)
			begun = true
		}
		w.add(s)
	}
	if !begun {
		return nil
	}
	return w.end(syms, nil)
}

// inWritingOrder returns the series in the order in which the newest version of the format has them.
func inWritingOrder(all []seriesInfo) []*seriesInfo {
	out := make([]*seriesInfo, len(all))
	for i := range all {
		out[i] = &all[i]
	}
	slices.SortFunc(out, func(a, b *seriesInfo) int {
		return compareSeries(&series{labels: a.Labels, typ: a.Type, columns: a.Columns}, &series{labels: b.Labels, typ: b.Type, columns: b.Columns}, version2)
	})
	return out
}

// windowWidth is the width in ms of the windows that blocks of a resolution are cut into.
func windowWidth(resolution int64) int64 {
	switch {
	case resolution == 0:
		return blockWindow.Milliseconds()
	case resolution <= 60_000:
		return (24 * time.Hour).Milliseconds()
	default:
		return (240 * time.Hour).Milliseconds()
	}
}
