package store

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// filled is a store with a block that has sums, and a segment of two services.
func filled(t testing.TB) *env {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(9, 9))
	push := func(service string, i int) {
		p, _ := randomPush(rng, service, service+"-1", uint64(i+1), epoch+int64(i)*5_000, epoch+int64(i+1)*5_000)
		must(t, e.store.Append(context.Background(), p))
	}
	for i := range 60 {
		push("cart", i)
	}
	must(t, e.store.Compact(context.Background(), true))
	push("cart", 60)
	push("pay", 61)
	return e
}

func (e *env) blobs() (out []catalog.Block) {
	out, err := e.cat.Blocks(context.Background(), catalog.BlockFilter{})
	must(e.t, err)
	return out
}

// mergeAll runs a merge of each type, for the panics that it must not have, and returns the first error, or one that says that something was left out.
func (e *env) mergeAll() (first error) {
	for _, use := range []sumUse{sumsNever, sumsAlways} {
		e.store.sumUse = use
		for _, typ := range modelTypes {
			r, err := e.store.Merge(context.Background(), Query{Type: typ, From: epoch, To: epoch + 3_600_000})
			if err == nil && r.Stats.Unreadable > 0 {
				err = fmt.Errorf("%d left out", r.Stats.Unreadable)
			}
			if first == nil {
				first = err
			}
		}
	}
	return first
}

// TestFlippedBytes flips a byte of each section in turn: Check names the blob and the section, a merge that reads it fails and does not panic.
func TestFlippedBytes(t *testing.T) {
	e := filled(t)
	e.check()
	for _, b := range e.blobs() {
		f, err := openFile(t.Context(), e.cfg.Blobs, b.Blob, nil)
		must(t, err)
		f.close()
		type place struct {
			name string
			span
		}
		places := []place{{"header", span{0, headerSize}}, {"ancestors", span{f.opened.foot.ancestors.at, uint64(f.opened.foot.ancestors.stored)}},
			{"cut short", span{uint64(b.Size) - 4, 4}}, {"footer", span{uint64(b.Size) - trailerSize - 20, 8}}}
		for _, ds := range f.opened.foot.datasets {
			for i, s := range ds.sections {
				if s.stored == 0 {
					continue
				}
				places = append(places, place{sectionNames[i], span{s.at, uint64(s.stored)}})
			}
			for i, r := range ds.regions {
				if r.length > 0 {
					places = append(places, place{regionNames[i], r})
				}
			}
		}
		for _, p := range places {
			e.flip(b.Blob, int64(p.at+p.length/2))
			_, problems, err := Check(t.Context(), e.cfg.Blobs, e.cat, time.Hour)
			must(t, err)
			if !slices.ContainsFunc(problems, func(x Problem) bool { return x.Blob == b.Blob && strings.Contains(x.What, p.name) }) {
				t.Errorf("a flipped byte of %s in %s is reported as %v", p.name, b.Blob, problems)
			}
			e.store.forget()
			if err := e.mergeAll(); err == nil && p.name != "header" && p.name != "ancestors" {
				t.Errorf("with a flipped byte of %s in %s merges succeed", p.name, b.Blob)
			} else if err != nil && err.Error() != "1 left out" {
				t.Errorf("with a flipped byte of %s: %v", p.name, err)
			}
			e.flip(b.Blob, int64(p.at+p.length/2))
		}
	}
	e.store.forget()
	must(t, e.mergeAll())
	e.check()
}

func (e *env) path(name string) string {
	return filepath.Join(e.dir, "blobs", filepath.FromSlash(name))
}

func (e *env) flip(name string, at int64) {
	data, err := os.ReadFile(e.path(name))
	must(e.t, err)
	data[at] ^= 0x40
	must(e.t, os.WriteFile(e.path(name), data, 0o600))
}

// TestCheckFindsWhatIsMissing covers what no checksum finds.
func TestCheckFindsWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(e *env, b catalog.Block)
		want string
	}{
		{"blob gone", func(e *env, b catalog.Block) { must(e.t, os.Remove(e.path(b.Blob))) }, "missing"},
		{"blob cut", func(e *env, b catalog.Block) { must(e.t, os.Truncate(e.path(b.Blob), b.Size-100)) }, "cut short"},
		{"blob empty", func(e *env, b catalog.Block) { must(e.t, os.Truncate(e.path(b.Blob), 0)) }, "cut short"},
		{"another blob in its place", func(e *env, b catalog.Block) {
			data, err := os.ReadFile(e.path(e.blobs()[1].Blob))
			must(e.t, err)
			must(e.t, os.WriteFile(e.path(b.Blob), data, 0o600))
		}, "the catalogue says"},
		{"orphan", func(e *env, b catalog.Block) {
			path := e.path(segmentFolder + "00000000000000000000000000")
			must(e.t, os.WriteFile(path, []byte("x"), 0o600))
			must(e.t, os.Chtimes(path, time.Now(), time.Now().Add(-2*time.Hour)))
		}, "orphan"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := filled(t)
			test.do(e, e.blobs()[0])
			_, problems, err := Check(t.Context(), e.cfg.Blobs, e.cat, time.Hour)
			must(t, err)
			if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.What, test.want) }) {
				t.Errorf("problems are %v, want one with %q", problems, test.want)
			}
		})
	}
}

// TestCompactionGoesAround has one segment that cannot be read: the others are compacted, it stays, and the error names it.
func TestCompactionGoesAround(t *testing.T) {
	e := filled(t)
	bad := e.blobs()[1].Blob
	e.flip(bad, 40)
	e.reopen() // what was written is in the cache
	if err := e.store.Compact(t.Context(), true); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("compaction with a broken segment: got %v, want an error that names %s", err, bad)
	}
	u, err := e.store.Usage(t.Context())
	must(t, err)
	if u.Segments != 1 || u.Blocks != 2 {
		t.Errorf("there are %d segments and %d blocks, want the broken one and one for each service", u.Segments, u.Blocks)
	}
}

// memory is a blob of a fuzz test.
type memory struct{ data []byte }

func (m memory) Size() int64  { return int64(len(m.data)) }
func (m memory) Close() error { return nil }
func (m memory) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m.data)) {
		return 0, fmt.Errorf("read of %d bytes at %d of %d", len(b), at, len(m.data))
	}
	return copy(b, m.data[at:]), nil
}

var update = flag.Bool("update", false, "write the files of testdata")

// goldenFiles are a segment and a block with sums or rollups, as the versions of the format have them. Those of version 1 were written when it was the newest.
var goldenFiles = []string{"testdata/v1-segment", "testdata/v1-block", "testdata/v2-segment", "testdata/v2-block"}

// TestVersions reads files that an earlier build wrote: what is on users' disks must stay readable, to the last value.
func TestVersions(t *testing.T) {
	if *update {
		e := filled(t)
		for _, b := range e.blobs() {
			data, err := os.ReadFile(e.path(b.Blob))
			must(t, err)
			must(t, os.WriteFile(goldenFiles[2+min(b.Level, 1)], data, 0o600)) // of the segments the last
		}
	}
	segment, block := "pay: 1 series, 1 profiles, 9 stacks, values of 620000062", "cart: 4 series, 95 profiles, 305 stacks, values of 153530708839888"
	for i, want := range []string{segment, block, segment, block} {
		data, err := os.ReadFile(goldenFiles[i])
		must(t, err)
		c := &checker{f: &file{name: goldenFiles[i], r: memory{data}, size: int64(len(data))}}
		must(t, c.f.readFooter())
		c.header()
		c.tiles()
		c.ancestors()
		var got []string
		for _, ds := range c.f.opened.foot.datasets {
			c.dataset(t.Context(), ds.Service)
			got = append(got, describeDataset(t, c.f, ds.Service))
		}
		if len(c.problems) > 0 {
			t.Errorf("%s: %v", goldenFiles[i], c.problems)
		}
		if g := strings.Join(got, "; "); g != want {
			t.Errorf("%s holds %q, want %q", goldenFiles[i], g, want)
		}
	}
}

// describeDataset adds up what a dataset holds.
func describeDataset(t *testing.T, f *file, service string) string {
	ds, err := f.dataset(service)
	must(t, err)
	syms, err := f.loadSymbols(ds)
	must(t, err)
	var sel []selected
	for i := range ds.series {
		sel = append(sel, selected{info: &ds.series[i]})
	}
	heads, err := f.readHeads(t.Context(), sel, true)
	must(t, err)
	n, total := 0, 0.0
	for _, h := range heads {
		n += h.len()
		for _, column := range h.totals {
			for _, v := range column {
				total += v.Float()
			}
		}
	}
	return fmt.Sprintf("%s: %d series, %d profiles, %d stacks, values of %.0f", service, len(ds.series), n, len(syms.Stacks), total)
}
