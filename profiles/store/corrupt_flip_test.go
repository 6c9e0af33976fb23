package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/profiles"
)

// heldBlobs are blobs in memory, for tests that damage them in thousands of places.
type heldBlobs map[string][]byte

func (h heldBlobs) Open(_ context.Context, name string) (blob.Reader, error) {
	data, ok := h[name]
	if !ok {
		return nil, blob.ErrNotFound
	}
	return memory{data}, nil
}

func (h heldBlobs) Put(_ context.Context, name string, data []byte) error {
	h[name] = slices.Clone(data)
	return nil
}

func (h heldBlobs) Delete(_ context.Context, name string) error {
	delete(h, name)
	return nil
}

func (h heldBlobs) List(_ context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(h)) {
			if strings.HasPrefix(name, prefix) && !yield(blob.Info{Name: name, Size: int64(len(h[name]))}, nil) {
				return
			}
		}
	}
}

// hold reads all blobs of e into memory.
func (e *env) hold() heldBlobs {
	h := heldBlobs{}
	for info, err := range e.cfg.Blobs.List(context.Background(), "") {
		must(e.t, err)
		r, err := e.cfg.Blobs.Open(context.Background(), info.Name)
		must(e.t, err)
		data := make([]byte, r.Size())
		_, err = r.ReadAt(data, 0)
		must(e.t, err)
		must(e.t, r.Close())
		h[info.Name] = data
	}
	return h
}

// TestEveryFlip flips a bit in one byte after the other of each file, all along: Check always finds it and says where, and a merge gives the right answer,
// or an error, or says that it left the blob out, and never a panic.
func TestEveryFlip(t *testing.T) {
	e := filled(t)
	blobs := e.hold()
	cfg := e.cfg
	cfg.Blobs = blobs
	s, err := Open(t.Context(), cfg)
	must(t, err)
	defer s.Close()
	damaged := &env{t: t, cfg: cfg, cat: e.cat, store: s}
	whole := damaged.answers()
	failed := errors.New("flipped")
	for _, b := range e.blobs() {
		step, silent, noted := 97, 0, 0
		s.leaveOut(&unreadableError{b.Blob, failed})
		without := damaged.answers()
		if b.Size < 2000 || !testing.Short() {
			step = 7
		}
		for at := 0; at < int(b.Size); at += step {
			blobs[b.Blob][at] ^= 1 << (at % 8)
			problems := checkBlob(t.Context(), blobs, &b)
			if len(problems) == 0 {
				t.Errorf("%s: a bit of byte %d of %d was flipped, and the check finds nothing", b.Blob, at, b.Size)
			}
			s.forget()
			for q, a := range damaged.answers() {
				switch {
				case a.noted:
					if noted++; a != without[q] {
						t.Errorf("%s: a bit of byte %d of %d was flipped, and the answer to %s is not that without the blob", b.Blob, at, b.Size, q)
					}
				case a.text != whole[q].text:
					t.Errorf("%s: a bit of byte %d of %d was flipped, and the answer to %s is wrong", b.Blob, at, b.Size, q)
				default:
					silent++
				}
			}
			blobs[b.Blob][at] ^= 1 << (at % 8)
		}
		s.forget()
		t.Logf("%s: %d bytes, %d answers with a note, %d that the byte did not matter to", b.Blob, b.Size, noted, silent)
	}
	s.forget()
	if got := damaged.answers(); !maps.Equal(got, whole) {
		t.Error("with all bits flipped back the answers differ")
	}
	_, problems, err := Check(t.Context(), blobs, e.cat, time.Hour)
	must(t, err)
	if len(problems) > 0 {
		t.Errorf("with all bits flipped back there are problems: %v", problems)
	}
}

// forget has the store read everything anew.
func (s *Store) forget() {
	s.cache, s.parts, s.damaged.since = newCache(1<<20), newPartCache(1<<20), nil
}

// answer is what a query said: its result as text, and whether it left something out.
type answer struct {
	text  string
	noted bool
}

// answers asks for all types in ranges that need raw profiles, sums, and both.
func (e *env) answers() map[string]answer {
	out := map[string]answer{}
	for _, typ := range modelTypes {
		for _, r := range [][2]int64{{epoch - 60_000, epoch + 3_600_000}, {epoch + 61_000, epoch + 200_500}} {
			q := Query{Type: typ, From: r[0], To: r[1]}
			name := fmt.Sprintf("%s [%d, %d)", typ, q.From-epoch, q.To-epoch)
			got, err := e.store.Merge(context.Background(), q)
			must(e.t, err)
			all := byStack(e.t, got)
			text := fmt.Sprint(got.Stats.Profiles, got.Stats.First, got.Stats.Last, got.Stats.CoveredMs)
			for _, k := range slices.Sorted(maps.Keys(all)) {
				text += fmt.Sprint("\n", k, all[k])
			}
			out["merge of "+name] = answer{text, got.Stats.Unreadable > 0}
			var stats profiles.MergeStats
			series, err := e.store.Series(context.Background(), SeriesQuery{Query: q, Step: 60_000, By: []string{"service_version"}, Stats: &stats})
			must(e.t, err)
			out["series of "+name] = answer{fmt.Sprint(series), stats.Unreadable > 0}
			text = ""
			err = e.store.EachWindow(context.Background(), q, 60_000, func(w Window) error {
				text += fmt.Sprint(w.Start, w.Profiles, w.CoveredMs, len(w.Stacks.IDs), w.Stacks.Values)
				stats = w.Stacks.Stats
				return nil
			})
			must(e.t, err)
			out["windows of "+name] = answer{text, stats.Unreadable > 0}
		}
	}
	return out
}
