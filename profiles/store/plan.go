package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// The compactor's constants.
const (
	blockWindow    = 2 * time.Hour    // a block holds the profiles of one service that start in one such window
	maxSegments    = 256              // segments that are compacted at once although they are young
	someSegments   = 64               // segments that are worth a block of each service,
	someBytes      = 4 << 20          // or the bytes that are
	segmentAge     = time.Minute      // age from which those are compacted
	segmentAgeFew  = 10 * time.Minute // age from which segments are compacted although they are few
	fanIn          = 16               // blocks of one level, service and window that are merged into one of the next
	lateAfter      = 30 * time.Minute // how long after its end a window is taken to be closed
	settleAge      = 10 * time.Minute // age that the blocks of a closed window have when they are merged into one, so that late data is merged in gulps
	maxInputBytes  = 64 << 20         // of one compaction: its inputs are held in memory as they are on disk, its output beside them, and their symbols several times as large
	maxInputCounts = 1024
)

// job is one compaction: the blocks In become blocks of level Level.
type job struct {
	In    []catalog.Block
	Level int
}

// plan decides what to compact next, most urgent first; nothing where nothing needs it. With all it does not wait for more or for age. It is a pure function
// of the live blocks and the time.
func plan(blocks []catalog.Block, now time.Time, all bool) []job {
	var jobs []job
	if j, ok := planSegments(blocks, now, all); ok {
		jobs = append(jobs, j)
	}
	return append(jobs, planBlocks(blocks, now, all)...)
}

// planSegments merges the oldest segments, of all services at once, once they are many or old enough.
func planSegments(blocks []catalog.Block, now time.Time, all bool) (job, bool) {
	var in []catalog.Block
	for _, b := range blocks {
		if b.Level == 0 {
			in = append(in, b)
		}
	}
	if len(in) == 0 {
		return job{}, false
	}
	slices.SortFunc(in, func(a, b catalog.Block) int { return cmp.Compare(a.ID, b.ID) })
	old := now.UnixMilli()-in[0].Created >= dueAge(in).Milliseconds()
	if !all && !old && len(in) < maxSegments {
		return job{}, false
	}
	return job{In: in[:fitting(in)], Level: 1}, true
}

// dueAge returns the age of the oldest segment at which these are compacted: each job writes a block with symbols for every service, which few small segments are not worth.
func dueAge(segments []catalog.Block) time.Duration {
	bytes := int64(0)
	for _, b := range segments {
		bytes += b.Size
	}
	if len(segments) >= someSegments || bytes >= someBytes {
		return segmentAge
	}
	return segmentAgeFew
}

// fitting returns how many of in, at least one, one compaction may take.
func fitting(in []catalog.Block) int {
	bytes := int64(0)
	for i, b := range in {
		if bytes += b.Size; i > 0 && (bytes > maxInputBytes || i >= maxInputCounts) {
			return i
		}
	}
	return len(in)
}

type blockGroup struct {
	service string
	window  int64
}

// planBlocks merges blocks of one service and window: fanIn of one level, or all of a closed window.
func planBlocks(blocks []catalog.Block, now time.Time, all bool) []job {
	groups := map[blockGroup][]catalog.Block{}
	var order []blockGroup
	for _, b := range blocks {
		// Sums are merged by retention; what was taken out of a block because it is pinned must not be put back.
		if b.Level == 0 || len(b.Datasets) != 1 || b.Resolution > 0 || b.Pinned > 0 {
			continue
		}
		g := blockGroup{b.Datasets[0].Service, windowStart(b.Datasets[0].MinStart, blockWindow.Milliseconds())}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], b)
	}
	slices.SortFunc(order, func(a, b blockGroup) int {
		return cmp.Or(cmp.Compare(a.window, b.window), cmp.Compare(a.service, b.service))
	})
	var jobs []job
	for _, g := range order {
		if j, ok := planGroup(groups[g], g.window+blockWindow.Milliseconds(), now, all); ok {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

func planGroup(in []catalog.Block, windowEnd int64, now time.Time, all bool) (job, bool) {
	slices.SortFunc(in, func(a, b catalog.Block) int { return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.ID, b.ID)) })
	closed := now.UnixMilli() >= windowEnd+lateAfter.Milliseconds()
	settled := !slices.ContainsFunc(in, func(b catalog.Block) bool { return now.UnixMilli()-b.Created < settleAge.Milliseconds() })
	if all || closed && settled {
		for lo := range in { // behind two that are too large together there may be two that are not
			if n := fitting(in[lo:]); n > 1 {
				return job{In: in[lo : lo+n], Level: nextLevel(in[lo : lo+n])}, true
			}
		}
		return job{}, false
	}
	for lo := 0; lo < len(in); {
		hi := lo
		for hi < len(in) && in[hi].Level == in[lo].Level {
			hi++
		}
		if hi-lo >= fanIn {
			if same := in[lo:hi]; fitting(same) > 1 {
				same = same[:fitting(same)]
				return job{In: same, Level: nextLevel(same)}, true
			}
		}
		lo = hi
	}
	return job{}, false
}

// nextLevel returns the level of what in is merged into.
func nextLevel(in []catalog.Block) int {
	level := 0
	for _, b := range in {
		level = max(level, b.Level)
	}
	return min(level+1, 255)
}
