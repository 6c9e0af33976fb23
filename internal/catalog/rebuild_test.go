package catalog

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestSalvage copies what is not about blocks into a new catalogue, from one whose blocks cannot be read.
func TestSalvage(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	path := filepath.Join(dir, "old.db")
	old, err := OpenSQLite(ctx, path)
	must(t, err)
	must(t, old.Register(ctx, Registration{
		Block: &Block{ID: "a", Blob: "segments/a", Datasets: []Dataset{{Service: "cart", Types: []string{"cpu"}}}},
		Keys:  []Key{{Instance: "i", Window: 1}, {Idempotency: "once"}}, Processes: []Process{{Instance: "i", Service: "cart", State: "running"}},
		Events: []Event{{Time: 5, Kind: "deploy", Service: "cart", Text: "x"}},
	}))
	must(t, old.Swap(ctx, []string{"a"}, []Block{{ID: "b", Level: 1, Blob: "blocks/b"}}, time.Now()))
	must(t, old.Close())

	fresh, err := OpenSQLite(ctx, filepath.Join(dir, "new.db"))
	must(t, err)
	defer fresh.Close()
	s, err := fresh.Salvage(ctx, path)
	must(t, err)
	if !slices.Equal(s.Garbage, []string{"segments/a"}) || len(s.Lost) > 0 || s.Rows["processes"] != 1 || s.Rows["windows"] != 1 {
		t.Errorf("salvaged %+v", s)
	}
	must(t, fresh.Fill(ctx, []Block{{ID: "b", Level: 1, Blob: "blocks/b"}}, s.Garbage, nil, time.Now().Add(-time.Second)))
	blocks, err := fresh.Blocks(ctx, BlockFilter{})
	must(t, err)
	if len(blocks) != 1 || blocks[0].ID != "b" {
		t.Errorf("blocks are %v, want b", blocks)
	}
	garbage, err := fresh.Garbage(ctx, 0)
	must(t, err)
	if !slices.Equal(garbage, []string{"segments/a"}) {
		t.Errorf("garbage is %v", garbage)
	}
	for _, k := range []Key{{Instance: "i", Window: 1}, {Idempotency: "once"}} {
		if err := fresh.Register(ctx, Registration{Keys: []Key{k}}); !errors.Is(err, ErrDuplicate) {
			t.Errorf("key %+v again: got %v, want ErrDuplicate", k, err)
		}
	}
	must(t, fresh.AddEvents(ctx, []Event{{Time: 6, Kind: "deploy", Service: "cart", Text: "y"}})) // its number is one more, not the same
	events, err := fresh.Events(ctx, EventFilter{})
	must(t, err)
	if len(events) != 2 || events[0].ID == events[1].ID {
		t.Errorf("events are %+v", events)
	}
}

// TestSalvageOfADamagedFile overwrites each page in turn: what can be read is copied, and what cannot is named.
func TestSalvageOfADamagedFile(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	path := filepath.Join(dir, "old.db")
	old, err := OpenSQLite(ctx, path)
	must(t, err)
	var ps []Process
	for i := range 200 {
		ps = append(ps, Process{Instance: string(rune('a'+i%26)) + time.UnixMilli(int64(i)).String(), Service: "cart", State: "running", Started: int64(i)})
	}
	must(t, old.PutProcesses(ctx, ps))
	must(t, old.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	complete, partial, nothing := 0, 0, 0
	size := int(binary.BigEndian.Uint16(whole[16:])) // of a page
	for page := 0; page < len(whole)/size; page++ {
		damaged := slices.Clone(whole)
		for i := range size {
			damaged[page*size+i] = byte(i * 7)
		}
		bad := filepath.Join(dir, "bad.db")
		must(t, os.WriteFile(bad, damaged, 0o600))
		fresh, err := OpenSQLite(ctx, filepath.Join(t.TempDir(), "new.db"))
		must(t, err)
		s, err := fresh.Salvage(ctx, bad)
		switch {
		case err != nil:
			nothing++
		case s.Rows["processes"] == 200 && len(s.Lost) == 0:
			complete++
		default:
			partial++
			if len(s.Lost) == 0 {
				t.Errorf("page %d: %d processes of 200, and nothing is said to be lost", page, s.Rows["processes"])
			}
		}
		must(t, fresh.Close())
		for _, suffix := range []string{"", "-wal", "-shm"} {
			os.Remove(bad + suffix)
		}
	}
	t.Logf("of %d pages: %d times all was there, %d times a part, %d times nothing", len(whole)/size, complete, partial, nothing)
	if complete == 0 || partial == 0 || nothing == 0 {
		t.Error("want each of the three")
	}
}

func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	must(t, os.WriteFile(text, []byte("this is no database, whatever its name says, and it is long enough to be one\n"), 0o600))
	empty := filepath.Join(dir, "empty.db")
	must(t, os.WriteFile(empty, nil, 0o600))
	other := filepath.Join(dir, "other.db")
	db, err := connect(other, "")
	must(t, err)
	_, err = db.w.ExecContext(t.Context(), `CREATE TABLE t (a TEXT)`)
	must(t, err)
	must(t, db.Close())
	for _, path := range []string{text, empty, other} {
		if _, err := ReadSQLite(t.Context(), path); !errors.Is(err, ErrNotCatalogue) {
			t.Errorf("%s: got %v, want ErrNotCatalogue", path, err)
		}
	}
}
