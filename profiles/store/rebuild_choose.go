package store

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sonde-io/sonde/internal/catalog"
)

// filePart is what one file of a service and window holds: of each ancestor, a compaction puts it into exactly one output.
type filePart struct {
	service string
	window  int64 // start, Unix ms
}

// known is what a rebuild knows of a file from its footer, its ancestors and, where it reaches into several windows, its heads.
type known struct {
	id        blockID
	row       catalog.Block
	number    uint32   // of id in lineage
	ancestors []uint32 // numbers
	share     share
	width     int64 // ms of the windows in parts
	parts     map[filePart]struct{}
	dead      bool // it was live and was deleted, as a tombstone or the garbage says
	gone      bool // it was never live, or was replaced
}

// covers reports whether f holds what an ancestor of it held of p.
func (f *known) covers(p filePart) bool {
	_, ok := f.parts[filePart{p.service, windowStart(p.window, f.width)}]
	return ok
}

// lineage decides which files are live by who descends from whom. Ids are numbered: thousands of blocks name the same segments.
type lineage struct {
	numbers  map[blockID]uint32
	files    []*known // in order of id
	onDisk   map[uint32]*known
	heirs    map[uint32][]*known            // of files on disk: those that name it as an ancestor
	more     func(a, b *known) (int, error) // counts the profiles that a holds and b does not
	unsure   []unsure
	problems []Problem
}

// unsure is a part of a file that was replaced and that is in none of those it was replaced by.
type unsure struct {
	file *known
	part filePart
}

func newLineage(more func(a, b *known) (int, error)) *lineage {
	return &lineage{numbers: map[blockID]uint32{}, onDisk: map[uint32]*known{}, heirs: map[uint32][]*known{}, more: more}
}

func (l *lineage) number(id blockID) uint32 {
	n, ok := l.numbers[id]
	if !ok {
		n = uint32(len(l.numbers))
		l.numbers[id] = n
	}
	return n
}

func (l *lineage) add(f *known, ancestors []blockID) {
	f.number = l.number(f.id)
	for _, id := range ancestors {
		f.ancestors = append(f.ancestors, l.number(id))
	}
	l.files = append(l.files, f)
	l.onDisk[f.number] = f
}

func (l *lineage) report(f *known, format string, args ...any) {
	l.problems = append(l.problems, Problem{f.row.Blob, fmt.Sprintf(format, args...)})
}

// choose marks all files that are not live as gone, but for those that are dead. A file that another one names as its ancestor was replaced by it, but for two cases
// that a crash leaves behind: outputs of a compaction that wrote some and not all, and outputs of one that wrote all and did not come to commit them, after
// which the inputs were compacted again.
func (l *lineage) choose() {
	slices.SortFunc(l.files, func(a, b *known) int { return slices.Compare(a.id[:], b.id[:]) })
	for _, f := range l.files {
		for _, a := range f.ancestors {
			if l.onDisk[a] != nil {
				l.heirs[a] = append(l.heirs[a], f)
			}
		}
	}
	l.dropIncomplete()
	l.dropRepeated()
	for _, f := range l.files {
		f.gone = f.gone || l.replaced(f)
	}
}

// replaced reports whether f has an heir that is not gone.
func (l *lineage) replaced(f *known) bool {
	return slices.ContainsFunc(l.heirs[f.number], func(h *known) bool { return !h.gone })
}

// dropIncomplete drops the outputs of compactions that did not write all of them: something of an input that is still there is in none. Committed
// ones wrote all; what of those is missing was deleted or lost, and the rest is left as it is.
func (l *lineage) dropIncomplete() {
	for again := true; again; {
		again = false
		for _, f := range l.files {
			if f.gone || !l.replaced(f) {
				continue
			}
			missing, ok := l.missing(f)
			if !ok {
				continue
			}
			if slices.ContainsFunc(l.heirs[f.number], func(h *known) bool { return !h.gone && !l.uncommitted(h) }) {
				l.unsure = append(l.unsure, unsure{f, missing})
				f.gone = true // once
				continue
			}
			for _, h := range l.heirs[f.number] {
				h.gone, again = true, true
			}
		}
	}
}

// missing returns a part of f that no heir of it holds. Where f was taken apart both shares are needed.
func (l *lineage) missing(f *known) (filePart, bool) {
	for _, p := range sortedParts(f) {
		var have [shareRest + 1]bool
		for _, h := range l.heirs[f.number] {
			if !h.gone && h.covers(p) {
				have[h.share] = true
			}
		}
		if !have[shareAll] && !(have[sharePinned] && have[shareRest]) {
			return p, true
		}
	}
	return filePart{}, false
}

func sortedParts(f *known) []filePart {
	ps := make([]filePart, 0, len(f.parts))
	for p := range f.parts {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b filePart) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.window, b.window))
	})
	return ps
}

// uncommitted reports whether h may be of a compaction that was not committed: its inputs are live then, so that all that it was made from is there, and
// nothing was made from it.
func (l *lineage) uncommitted(h *known) bool {
	if h.dead || len(l.heirs[h.number]) > 0 {
		return false
	}
	there := map[uint32]struct{}{}
	for _, a := range h.ancestors {
		if f := l.onDisk[a]; f != nil && !f.dead && !f.gone {
			there[a] = struct{}{}
			for _, x := range f.ancestors {
				there[x] = struct{}{}
			}
		}
	}
	return !slices.ContainsFunc(h.ancestors, func(a uint32) bool { _, ok := there[a]; return !ok })
}

// dropRepeated drops, of two files that hold the same part of the same ancestor and of which neither descends from the other, one that the rest makes up for.
// At most one of the two was committed. The older goes first: had it been committed, its input would not have been there to make the newer one of.
func (l *lineage) dropRepeated() {
	for again := true; again; {
		again = false
		for _, group := range l.roots() {
			if a, b := l.clash(group); a != nil {
				l.dropOne(a, b)
				again = true
				break
			}
		}
	}
}

// roots returns the files that nothing replaced, by service and window of a raw block.
func (l *lineage) roots() map[filePart][]*known {
	out := map[filePart][]*known{}
	step := blockWindow.Milliseconds()
	for _, f := range l.files {
		if f.gone || l.replaced(f) {
			continue
		}
		for p := range f.parts {
			for w := p.window; w < p.window+f.width; w += step {
				out[filePart{p.service, w}] = append(out[filePart{p.service, w}], f)
			}
		}
	}
	return out
}

// clash returns two of the files, in order of id, that have an ancestor in common.
func (l *lineage) clash(files []*known) (older, newer *known) {
	if len(files) < 2 {
		return nil, nil
	}
	owner := map[uint32]*known{}
	for _, f := range files {
		for _, a := range f.ancestors {
			if o := owner[a]; o != nil && !(o.dead && f.dead) && (o.share == f.share || o.share == shareAll || f.share == shareAll) {
				return o, f
			}
			owner[a] = f
		}
	}
	return nil, nil
}

func (l *lineage) dropOne(older, newer *known) {
	switch {
	case older.dead: // and so committed
		newer.gone = true
	case newer.dead, l.madeUpFor(older):
		older.gone = true
	case l.madeUpFor(newer):
		newer.gone = true
	default: // an input that is not there any more may have held nothing of theirs
		more, err := l.more(older, newer)
		if err != nil {
			l.report(older, "left out, because %s holds some of the same profiles, and they cannot be compared: %v", newer.row.Blob, err)
		} else if more > 0 {
			l.report(older, "left out, so that nothing counts twice: %s holds some of the same profiles, but not %d of them", newer.row.Blob, more)
		}
		older.gone = true
	}
}

// madeUpFor reports whether all that f was made from is in other files, of the same service and window.
func (l *lineage) madeUpFor(f *known) bool {
	there := map[uint32]struct{}{}
	for _, o := range l.files {
		if o == f || o.gone || !slices.ContainsFunc(sortedParts(f), o.covers) {
			continue
		}
		there[o.number] = struct{}{}
		for _, a := range o.ancestors {
			there[a] = struct{}{}
		}
	}
	return !slices.ContainsFunc(f.ancestors, func(a uint32) bool { _, ok := there[a]; return !ok })
}
