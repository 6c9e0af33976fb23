package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// blk makes a block for the tests of the decisions: created age ago, of a service's window that started windowAge ago.
func blk(id string, level int, service string, age, windowAge time.Duration, size int64) catalog.Block {
	start := windowStart(epoch-windowAge.Milliseconds(), blockWindow.Milliseconds())
	return catalog.Block{ID: id, Level: level, Created: epoch - age.Milliseconds(), Size: size,
		Datasets: []catalog.Dataset{{Service: service, MinStart: start, MaxStart: start + 1000, MaxEnd: start + 16_000}}}
}

func many(n, level int, age, windowAge time.Duration, size int64) (out []catalog.Block) {
	for i := range n {
		out = append(out, blk(fmt.Sprintf("%c%02d", 'a'+level, i), level, "cart", age, windowAge, size))
	}
	return out
}

func TestPlan(t *testing.T) {
	for _, test := range []struct {
		name   string
		blocks []catalog.Block
		all    bool
		want   string
	}{
		{name: "nothing", want: ""},
		{name: "young segments wait", blocks: many(3, 0, 5*time.Second, 0, 1000)},
		{name: "few small ones wait longer", blocks: many(63, 0, 9*time.Minute, 0, 1000)},
		{name: "but not for ever", blocks: many(2, 0, 10*time.Minute, 0, 1000), want: "a00 a01 -> 1"},
		{name: "old ones that are worth a block do not wait", blocks: many(2, 0, 61*time.Second, 0, 2<<20), want: "a00 a01 -> 1"},
		{name: "nor do old ones that are some", blocks: many(64, 0, 61*time.Second, 0, 1000), want: "64 blocks -> 1"},
		{name: "nor do many", blocks: many(256, 0, time.Second, 0, 1000), want: "256 blocks -> 1"},
		{name: "nor any when asked for", blocks: many(1, 0, time.Second, 0, 1000), all: true, want: "a00 -> 1"},
		{name: "a compaction has a bounded size", blocks: many(4, 0, time.Minute, 0, 30<<20), want: "a00 a01 -> 1"},
		{name: "one segment is compacted however large it is", blocks: many(1, 0, time.Minute, 0, 1<<40), want: "a00 -> 1"},
		{name: "blocks of an open window wait for more", blocks: many(15, 1, time.Hour, 0, 1000)},
		{name: "sixteen of a level are merged", blocks: many(16, 1, time.Minute, 0, 1000), want: "16 blocks -> 2"},
		{name: "sixteen of a level, others stay", blocks: append(many(16, 1, time.Minute, 0, 1000), many(2, 2, time.Minute, 0, 1000)...), want: "16 blocks -> 2"},
		{name: "a closed window is merged into one", blocks: append(many(2, 1, time.Hour, 6*time.Hour, 1000), many(1, 2, time.Hour, 6*time.Hour, 1000)...), want: "b00 b01 c00 -> 3"},
		{name: "late data waits for more of it", blocks: append(many(1, 1, time.Minute, 6*time.Hour, 1000), many(1, 3, time.Hour, 6*time.Hour, 1000)...)},
		{name: "a closed window's only block stays", blocks: many(1, 3, time.Hour, 6*time.Hour, 1000), all: true},
		{name: "blocks that are too large together stay", blocks: many(2, 3, time.Hour, 6*time.Hour, 200<<20), all: true},
		{name: "behind two that are too large there may be two that are not", blocks: append(many(2, 3, time.Hour, 6*time.Hour, 60<<20), many(2, 4, time.Hour, 6*time.Hour, 1000)...), all: true, want: "d01 e00 e01 -> 5"},
		{name: "sums are retention's", blocks: resolved(60_000, many(2, 3, time.Hour, 6*time.Hour, 1000)), all: true},
		{name: "what is pinned stays apart", blocks: marked(1, many(2, 3, time.Hour, 6*time.Hour, 1000)), all: true},
		{name: "services are apart", blocks: []catalog.Block{blk("x", 1, "cart", time.Hour, 6*time.Hour, 1), blk("y", 1, "pay", time.Hour, 6*time.Hour, 1)}, all: true},
		{name: "windows are apart", blocks: []catalog.Block{blk("x", 1, "cart", time.Hour, 6*time.Hour, 1), blk("y", 1, "cart", time.Hour, 9*time.Hour, 1)}, all: true},
		{name: "segments come first", blocks: append(many(16, 1, time.Minute, 0, 1), many(1, 0, 10*time.Minute, 0, 1)...), want: "a00 -> 1; 16 blocks -> 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, j := range plan(test.blocks, time.UnixMilli(epoch), test.all) {
				ids := make([]string, len(j.In))
				for i, b := range j.In {
					ids[i] = b.ID
				}
				in := strings.Join(ids, " ")
				if len(ids) > 4 {
					in = fmt.Sprintf("%d blocks", len(ids))
				}
				got = append(got, fmt.Sprintf("%s -> %d", in, j.Level))
			}
			if g := strings.Join(got, "; "); g != test.want {
				t.Errorf("plan is %q, want %q", g, test.want)
			}
		})
	}
}

// resolved and marked set what blocks are by retention.
func resolved(resolution int64, blocks []catalog.Block) []catalog.Block {
	for i := range blocks {
		blocks[i].Resolution = resolution
	}
	return blocks
}

func marked(state int64, blocks []catalog.Block) []catalog.Block {
	for i := range blocks {
		blocks[i].Pinned = state
	}
	return blocks
}
