package store

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// windowSums adds up the reference by series, column, window of size ms and stack, exactly.
func (r *reference) windowSums(size int64) map[string]int128 {
	out := map[string]int128{}
	for _, p := range r.all {
		columns := columnsOf(p.typ, p.types)
		for c, col := range columns {
			for _, s := range p.samples {
				v := profiles.Int128From(s.values[c])
				if col.Kind == profiles.Gauge {
					v = v.Mul(p.covered)
				}
				key := fmt.Sprint(p.labels, p.typ, col.Sample, windowStart(p.start, size), strings.Join(s.stack, ";"), "|", s.label)
				out[key] = out[key].Add(v)
			}
		}
	}
	maps.DeleteFunc(out, func(_ string, v int128) bool { return v.IsZero() })
	return out
}

// storedSums reads all downsampled blocks, which must be of resolution.
func (e *env) storedSums(resolution int64) map[string]int128 {
	out := map[string]int128{}
	for _, b := range e.blobs() {
		if b.Resolution != resolution {
			e.t.Fatalf("block %s has resolution %d, want %d", b.ID, b.Resolution, resolution)
		}
		f, err := openFile(context.Background(), e.cfg.Blobs, b.Blob, nil)
		must(e.t, err)
		for _, info := range b.Datasets {
			ds, err := f.dataset(info.Service)
			must(e.t, err)
			syms, err := f.loadSymbols(ds)
			must(e.t, err)
			for i := range ds.series {
				si := &ds.series[i]
				u := newRollup(rollupInfo{Columns: si.Columns})
				must(e.t, f.addSums(&chunkReader{}, u, si.sums.size, si.sums, si.Columns, len(syms.Stacks), nil, nil))
				l := u.finest(si.sums.size)
				for k, cols := range groupsOf(si.Columns) {
					r := &l.rows[k]
					for j, stack := range r.stack {
						for c, col := range cols {
							key := fmt.Sprint(si.Labels, si.Type, si.Columns[col].Sample, l.head.start[r.window[j]], stackText(syms, stack))
							out[key] = out[key].Add(r.values[j*r.columns+c])
						}
					}
				}
			}
		}
		f.close()
	}
	maps.DeleteFunc(out, func(_ string, v int128) bool { return v.IsZero() })
	return out
}

func stackText(s *profiles.Symbols, id uint32) string {
	var names []string
	st := s.Stacks[id]
	for n := st.Node; n != 0; n = s.Nodes[n].Parent {
		l := s.Locations[s.Nodes[n].Location].Lines
		for _, line := range s.Lines[l.Lo:l.Hi] {
			names = append(names, s.Strings[s.Functions[line.Function].Name])
		}
	}
	label := ""
	set := s.LabelSets[st.LabelSet]
	for _, l := range s.Labels[set.Lo:set.Hi] {
		label = s.Strings[l.Str]
	}
	return strings.Join(names, ";") + "|" + label
}

func (e *env) verifySums(r *reference, resolution int64) {
	e.t.Helper()
	want, got := r.windowSums(resolution), e.storedSums(resolution)
	if len(want) == 0 || !maps.Equal(want, got) {
		n := 0
		for key := range want {
			if got[key] != want[key] && n < 3 {
				n++
				e.t.Errorf("sum of %s is %v, want %v", key, got[key], want[key])
			}
		}
		e.t.Fatalf("%d sums of %d ms, want %d", len(got), resolution, len(want))
	}
	e.check()
}

// TestDownsample makes minutes of raw blocks, adds late data to them, and makes hours of the minutes: every sum is exact at every step, and nothing is in two
// blocks.
func TestDownsample(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(11, 3))
	r := &reference{}
	window := map[string]uint64{}
	push := func(n int, from, width int64) {
		for range n {
			service, name := []string{"cart", "pay"}[rng.IntN(2)], fmt.Sprint("i", rng.IntN(3))
			start := from + rng.Int64N(width)
			end := start + 1 + rng.Int64N(40_000)
			if rng.IntN(10) == 0 {
				end = start + 700_000 // beyond the staleness
			}
			window[name]++
			p, s := randomPush(rng, service, name, window[name], start, end)
			must(t, e.store.Append(t.Context(), p))
			r.add(p, s, 300_000)
		}
	}
	down := func(in []catalog.Block, resolution int64, window time.Duration) {
		e.store.compacting.Lock()
		defer e.store.compacting.Unlock()
		must(t, e.store.downsample(t.Context(), in, resolution, window))
	}
	const day = 24 * time.Hour
	push(150, epoch, 30*3_600_000)
	must(t, e.store.Compact(t.Context(), true))
	down(e.blobs(), 60_000, day)
	e.verifySums(r, 60_000)
	if n := len(e.blobs()); n != 4 {
		t.Errorf("two services on two days are %d blocks", n)
	}
	push(20, epoch+3_600_000, 3_600_000) // late, into minutes that have sums
	must(t, e.store.Compact(t.Context(), true))
	if !slices.ContainsFunc(e.blobs(), func(b catalog.Block) bool { return b.Resolution == 0 }) {
		t.Fatal("late data went into sums without being asked to")
	}
	down(e.blobs(), 60_000, day)
	e.verifySums(r, 60_000)
	down(e.blobs(), 3_600_000, 10*day)
	e.verifySums(r, 3_600_000)
	e.reopen()
	e.verifySums(r, 3_600_000)
	for _, ds := range e.blobs()[0].Datasets {
		if ds.MinStart%3_600_000 != 0 || ds.MaxStart%3_600_000 != 0 || ds.MaxEnd <= ds.MaxStart {
			t.Errorf("dataset %+v does not start with its first window", ds)
		}
	}
}

// TestDownsampleKeeps takes one instance out of sums, as a deletion does.
func TestDownsampleKeeps(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(12, 3))
	r := &reference{}
	for i := range 60 {
		name := fmt.Sprint("i", i%3)
		start := epoch + int64(i)*20_000
		p, s := randomPush(rng, "cart", name, uint64(i+1), start, start+20_000)
		must(t, e.store.Append(t.Context(), p))
		if name != "i1" {
			r.add(p, s, 300_000)
		}
	}
	must(t, e.store.Compact(t.Context(), true))
	e.store.compacting.Lock()
	defer e.store.compacting.Unlock()
	must(t, e.store.downsample(t.Context(), e.blobs(), 60_000, 24*time.Hour))
	in := e.blobs()
	c := &compaction{store: e.store, level: 3, w: &fileWriter{}, keep: func(si *seriesInfo, _ int64) bool { return si.Labels.Get("service_instance_id") != "i1" }}
	must(t, e.store.replace(t.Context(), in, c))
	e.verifySums(r, 60_000)
}
