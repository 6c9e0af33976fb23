package binaries

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

const someBuild = "0123456789abcdef"

// fixed are names in an order.
type fixed []string

func (f fixed) EachName(fn func(name string) bool) {
	for _, name := range f {
		if !fn(name) {
			return
		}
	}
}

func (fixed) Close() error { return nil }

// listed writes a list.
func listed(tb testing.TB, names ...string) []byte {
	tb.Helper()
	var out bytes.Buffer
	if err := listOf(tb.Context(), tb.TempDir(), fixed(names), &out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// read reads a list.
func read(data []byte) (names []string, whole bool, err error) {
	whole, err = readList(bytes.NewReader(data), func(name []byte) bool { names = append(names, string(name)); return true })
	return names, whole, err
}

// raw makes a list of what stands between its version and its checksum.
func raw(tb testing.TB, content []byte) []byte {
	tb.Helper()
	content = append([]byte(listMagic), content...)
	return zipped(tb, binary.LittleEndian.AppendUint32(content, crc32.Checksum(content, castagnoli)))
}

func zipped(tb testing.TB, content []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func sortedNames(tb testing.TB, path string) []string {
	tb.Helper()
	t, err := pclntab.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer t.Close()
	set := map[string]bool{}
	t.EachName(func(name string) bool { set[name] = true; return true })
	return slices.Sorted(maps.Keys(set))
}

// TestListOfPrograms lists what real programs have: a small one, and this test itself.
func TestListOfPrograms(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{compile(t, "-ldflags=-s -w"), self} {
		want := sortedNames(t, path)
		table, err := pclntab.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := errors.Join(listOf(t.Context(), t.TempDir(), table, &out), table.Close()); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d names in %d bytes", len(want), out.Len())
		got, whole, err := read(out.Bytes())
		if err != nil || !whole || !slices.Equal(got, want) {
			t.Errorf("%s: read %d names, whole %v, %v; its table has %d", path, len(got), whole, err, len(want))
		}
	}
}

// TestSorter sorts more than fits into memory at once, with names that come again in other runs.
func TestSorter(t *testing.T) {
	dir := t.TempDir()
	s := &sorter{dir: dir}
	want := map[string]bool{}
	for i := range 60_000 {
		name := fmt.Sprintf("example.com/%d/%s.f%d", i%7, strings.Repeat("long", 30), (i*7919)%50_000)
		want[name] = true
		if err := s.add(name); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.runs) < 2 || cap(s.bytes) > 2*runBytes {
		t.Errorf("%d runs, %d bytes of memory", len(s.runs), cap(s.bytes))
	}
	for range 2 {
		var got []string
		if err := s.each(func(name []byte) error { got = append(got, string(name)); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
			t.Errorf("%d names, want %d in order", len(got), len(want))
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%d files left, %v", len(left), err)
	}
}

func TestListRefuses(t *testing.T) {
	good := listed(t, "main.a", "main.b")
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 4
	many := binary.AppendUvarint(nil, maxListNames+1)
	huge := func(n uint64) []byte { return binary.AppendUvarint([]byte{1, 0}, n) }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                  {nil, "unexpected EOF"},
		"no gzip":                  {[]byte("hello, this is no list"), "gzip"},
		"half of one":              {good[:len(good)/2], "EOF"},
		"a bit is another":         {flipped, "not a list of functions"},
		"something behind it":      {append(bytes.Clone(good), "more"...), "unexpected EOF"},
		"another format":           {zipped(t, []byte("SONDEXX\x01\x00abcd")), "does not begin like one"},
		"another version":          {zipped(t, []byte("SONDEFN\x02\x00abcd")), "version 2"},
		"no names":                 {raw(t, []byte{0}), "no names"},
		"too many names":           {raw(t, many), "max_functions"},
		"more names than there":    {raw(t, []byte{2, 0, 1, 'a'}), "not a list"},
		"something behind names":   {raw(t, []byte{1, 0, 1, 'a', 'b'}), "checksum"},
		"shares more than there":   {raw(t, []byte{1, 1, 1, 'a'}), "shares 1 bytes with one of 0"},
		"an empty name":            {raw(t, []byte{1, 0, 0}), "nothing of its own"},
		"a name twice":             {raw(t, []byte{2, 0, 1, 'a', 0, 1, 'a'}), "order"},
		"a name out of order":      {raw(t, []byte{2, 0, 2, 'a', 'b', 1, 1, 'a'}), "order"},
		"a prefix after it":        {raw(t, []byte{2, 0, 2, 'a', 'b', 0, 1, 'a'}), "order"},
		"a name that is too long":  {raw(t, huge(pclntab.MaxName+1)), "max_function_name_bytes"},
		"a name of 2^63":           {raw(t, huge(1<<63)), "max_function_name_bytes"},
		"a length of eleven bytes": {raw(t, append([]byte{1}, bytes.Repeat([]byte{0xff}, 11)...)), "overflow"},
		"a wrong checksum":         {zipped(t, append([]byte(listMagic), 1, 0, 1, 'a', 1, 2, 3, 4)), "checksum"},
	} {
		_, whole, err := read(c.data)
		if whole && err == nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: whole %v, %v, want %q", name, whole, err, c.want)
		}
	}
	// More compressed bytes than there may be.
	if _, _, err := read(append(bytes.Clone(good), make([]byte, maxListFile)...)); err == nil {
		t.Error("4 MiB of zeros behind a list are taken")
	}
}

// TestListLimits makes lists that are too large.
func TestListLimits(t *testing.T) {
	each := func(n int, name func(i int) string) func(func([]byte) error) error {
		return func(fn func([]byte) error) error {
			for i := range n {
				if err := fn([]byte(name(i))); err != nil {
					return err
				}
			}
			return nil
		}
	}
	noise := func(i int) string { // what does not compress
		b := make([]byte, 0, 8000)
		x := uint64(i)*0x9e3779b97f4a7c15 + 1
		for len(b) < 8000 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			b = binary.LittleEndian.AppendUint64(b, x)
		}
		return fmt.Sprintf("%08d", i) + string(b)
	}
	for _, c := range []struct {
		limit string
		each  func(func([]byte) error) error
	}{
		{"max_functions", each(maxListNames+1, func(i int) string { return fmt.Sprintf("%08d", i) })},
		{"max_functions_bytes", each(600, noise)},
		{"max_functions_unpacked_bytes", each(5000, func(i int) string { return fmt.Sprintf("%08d", i) + strings.Repeat("x", 16_000) })},
	} {
		e, ok := errors.AsType[*LimitError](writeList(io.Discard, c.each))
		if !ok || e.Limit != c.limit {
			t.Errorf("%v, want %s", e, c.limit)
		}
	}
	if !testing.Short() { // a reader that unpacks for ever
		content := binary.AppendUvarint(nil, maxListNames)
		for i := range maxListBytes/16_000 + 1 {
			content = append(binary.AppendUvarint(append(content, 0), 16_008), fmt.Sprintf("%08d", i)+strings.Repeat("x", 16_000)...)
		}
		_, _, err := read(raw(t, content))
		if e, ok := errors.AsType[*LimitError](err); !ok || e.Limit != "max_functions_unpacked_bytes" {
			t.Errorf("of 64 MiB: %v", err)
		}
	}
	if err := writeList(io.Discard, each(0, nil)); !errors.Is(err, errNoNames) {
		t.Errorf("of no names: %v", err)
	}
}

// has opens the functions of a build and returns their names.
func has(tb testing.TB, s *Store, id string) []string {
	tb.Helper()
	f, err := s.Functions(id)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var names []string
	f.EachName(func(name string) bool { names = append(names, name); return true })
	return names
}

func TestPutFunctions(t *testing.T) {
	s := open(t, Config{})
	if missing := s.MissingFunctions([]string{someBuild}); !slices.Equal(missing, []string{someBuild}) {
		t.Errorf("missing %v", missing)
	}
	if _, err := s.Functions(someBuild); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a build that nobody knows: %v", err)
	}
	for _, want := range [][]string{{"main.b"}, {"main.a", "main.b"}} { // the second replaces the first
		if err := s.PutFunctions(t.Context(), someBuild, bytes.NewReader(listed(t, want...))); err != nil {
			t.Fatal(err)
		}
		if got := has(t, s, someBuild); !slices.Equal(got, want) || s.Bytes() != listBlock {
			t.Errorf("%v in %d bytes, want %v", got, s.Bytes(), want)
		}
	}
	if missing := s.MissingFunctions([]string{someBuild}); len(missing) != 0 || missing == nil {
		t.Errorf("missing %#v", missing)
	}
	if known, _ := s.List(); len(known) != 0 {
		t.Errorf("a list is among binaries: %+v", known)
	}
	again := open(t, Config{Dir: s.cfg.Dir})
	if got := has(t, again, someBuild); len(got) != 2 || again.Bytes() != listBlock {
		t.Errorf("after a restart %v in %d bytes", got, again.Bytes())
	}

	// Nothing is left of what was refused, and what was there stays.
	for id, body := range map[string]string{"../../../etc": "x", "0123": "x", someBuild: "no list"} {
		err := s.PutFunctions(t.Context(), id, strings.NewReader(body))
		if !errors.Is(err, ErrBuildID) && !errors.Is(err, ErrBadList) {
			t.Errorf("%s: %v", id, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.PutFunctions(ctx, someBuild, bytes.NewReader(listed(t, "main.c"))); !errors.Is(err, context.Canceled) {
		t.Errorf("of a request that was given up: %v", err)
	}
	if entries, err := os.ReadDir(s.cfg.Dir); err != nil || len(entries) != 1 || len(has(t, s, someBuild)) != 2 {
		t.Errorf("%d files, %v", len(entries), err)
	}

	// One that is damaged on disk answers nothing, and comes again.
	path := filepath.Join(s.cfg.Dir, someBuild+listSuffix)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-10] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Functions(someBuild); err == nil {
		f.Close()
		t.Error("a damaged list answers")
	}
	if len(s.MissingFunctions([]string{someBuild})) != 1 || s.Bytes() != 0 {
		t.Errorf("a damaged list stays, %d bytes", s.Bytes())
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
}

// TestFunctionList makes a list of a local process's binary once, and a binary says more than a list.
func TestFunctionList(t *testing.T) {
	path := compile(t)
	info, err := build.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{})
	if _, err := s.FunctionList(t.Context(), info.Key()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a binary that is not here: %v", err)
	}
	if err := s.Add(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	var lists [2]*os.File
	for i := range lists {
		if lists[i], err = s.FunctionList(t.Context(), info.Key()); err != nil {
			t.Fatal(err)
		}
		defer lists[i].Close()
	}
	a, err1 := lists[0].Stat()
	b, err2 := lists[1].Stat()
	if err1 != nil || err2 != nil || !os.SameFile(a, b) {
		t.Error("it was made twice")
	}
	data, err := io.ReadAll(lists[0])
	if err != nil {
		t.Fatal(err)
	}
	names, whole, err := read(data)
	if err != nil || !whole || !slices.Equal(names, sortedNames(t, path)) {
		t.Errorf("%d names, %v, %v", len(names), whole, err)
	}

	// One that is damaged on disk is made again.
	if err := os.WriteFile(filepath.Join(s.cfg.Dir, info.Key()+listSuffix), data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := s.FunctionList(t.Context(), info.Key())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if whole, err := io.ReadAll(again); err != nil || !bytes.Equal(whole, data) {
		t.Errorf("made again it has %d bytes of %d, %v", len(whole), len(data), err)
	}

	other := open(t, Config{})
	if err := other.PutFunctions(t.Context(), info.Key(), bytes.NewReader(listed(t, "not.there"))); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := other.Put(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got := has(t, other, info.Key()); !slices.Contains(got, "main.inlined") || slices.Contains(got, "not.there") {
		t.Errorf("with both %d names, of the list", len(got))
	}
}

// TestListsMakeRoom has lists and binaries go in one order.
func TestListsMakeRoom(t *testing.T) {
	now := time.Now()
	s := open(t, Config{MaxBytes: 3 * listBlock, Now: func() time.Time { return now }})
	id := func(i int) string { return fmt.Sprintf("%016x", i) }
	put := func(i int) {
		t.Helper()
		now = now.Add(2 * time.Hour)
		if err := s.PutFunctions(t.Context(), id(i), bytes.NewReader(listed(t, "main.main"))); err != nil {
			t.Fatal(err)
		}
	}
	put(1)
	put(2)
	put(3)
	now = now.Add(2 * time.Hour)
	s.MissingFunctions([]string{id(1)}) // somebody runs it
	put(4)
	if got := s.MissingFunctions([]string{id(1), id(2), id(3), id(4)}); !slices.Equal(got, []string{id(2)}) {
		t.Errorf("went: %v, want 2", got)
	}
	now = now.Add(2 * time.Hour)
	if _, err := s.Put(t.Context(), bytes.NewReader(elfOf(1, 2*listBlock-500))); err != nil {
		t.Fatal(err)
	}
	if known, _ := s.List(); len(known) != 1 || s.Bytes() > 3*listBlock || len(s.lists) != 1 {
		t.Errorf("binaries %+v, %d lists, %d bytes", known, len(s.lists), s.Bytes())
	}
	if entries, err := os.ReadDir(s.cfg.Dir); err != nil || len(entries) != 2 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// FuzzList gives hostile content to the reader: what it takes is in order, and written again it is the same names.
func FuzzList(f *testing.F) {
	for _, names := range [][]string{{"main.main"}, {"a", "ab", "abc", "b"}} {
		var content bytes.Buffer
		r, err := gzip.NewReader(bytes.NewReader(listed(f, names...)))
		if err != nil {
			f.Fatal(err)
		}
		if _, err := content.ReadFrom(r); err != nil {
			f.Fatal(err)
		}
		b := content.Bytes()
		f.Add(b[len(listMagic):len(b)-crc32.Size], false)
	}
	f.Add([]byte("hello"), true)
	f.Add(listed(f, "main.main"), true)
	f.Add([]byte{0xff, 0xff, 0x3f, 0, 0xff, 0xff, 0xff, 0xff, 0xf}, false)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		if !whole { // else hardly any content would have its checksum
			data = raw(t, data)
		}
		names, all, err := read(data)
		if err != nil {
			if _, limit := errors.AsType[*LimitError](err); !limit && !errors.Is(err, ErrBadList) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !all || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) || len(names) == 0 {
			t.Fatalf("all %v: %q", all, names)
		}
		again, _, err := read(listed(t, names...))
		if err != nil || !slices.Equal(again, names) {
			t.Errorf("%q became %q, %v", names, again, err)
		}
	})
}
