package binaries

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
)

// program is a Go program with a function that is inlined into another.
const program = `package main

import "os"

func inlined(n int) int { return n*3 + len(os.Args) }

//go:noinline
func work(n int) int {
	n += inlined(n)
	return n
}

func main() { println(work(len(os.Args))) }
`

// compile builds the program and returns the binary.
func compile(tb testing.TB, args ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/tiny\n\ngo 1.23\n", "main.go": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	out := filepath.Join(dir, "tiny")
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, args...), ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build %v: %v\n%s", args, err, b)
	}
	return out
}

// open opens a store.
func open(tb testing.TB, cfg Config) *Store {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	s, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// names asks a store for the frames at an address, innermost first.
func names(s *Store, id string, start, limit, offset, address uint64) string {
	var out []string
	s.Symbolize(id, start, limit, offset, address, func(function, file string, line, _ int64) {
		out = append(out, function)
	})
	return strings.Join(out, ";")
}

// address returns where a function begins, as the linker gave it, and the segment that it is in.
func address(tb testing.TB, path, function string) (uint64, *elf.Prog) {
	tb.Helper()
	f, err := elf.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range syms {
		if s.Name == function {
			for _, p := range f.Progs {
				if p.Type == elf.PT_LOAD && s.Value >= p.Vaddr && s.Value < p.Vaddr+p.Filesz {
					return s.Value, p
				}
			}
		}
	}
	tb.Fatalf("%s has no %s", path, function)
	return 0, nil
}

func TestSymbolize(t *testing.T) {
	for _, args := range [][]string{nil, {"-ldflags=-s -w"}, {"-buildmode=pie"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			whole := compile(t, slices.DeleteFunc(slices.Clone(args), func(s string) bool { return strings.HasPrefix(s, "-ldflags") })...)
			at, p := address(t, whole, "main.work")
			path := whole
			if len(args) > 0 && strings.HasPrefix(args[0], "-ldflags") {
				path = compile(t, args...) // laid out alike, but for what is left out at its end
			}
			var told *build.Info
			s := open(t, Config{Told: func(_ context.Context, i *build.Info) error { told = i; return nil }})
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			before := s.Generation()
			ids, err := s.Put(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if s.Generation() == before {
				t.Error("the generation did not grow")
			}
			info, err := build.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if told == nil || told.Key() != info.Key() || told.Size != info.Size || told.Stripped != info.Stripped {
				t.Errorf("told of %+v, the build is %+v", told, info)
			}
			if ids.GNU != info.GNUBuildID || ids.Go != build.Key("", info.GoBuildID) || len(ids.Hash) != 32 {
				t.Errorf("ids %+v, the build is %q, %q", ids, info.GNUBuildID, info.GoBuildID)
			}
			for _, id := range ids.all() {
				if got := names(s, id, 0, 0, 0, at); got != "main.work" {
					t.Errorf("%s: at its beginning %q", id, got)
				}
				// As a process has it that the kernel put elsewhere.
				const base = 0x7f0000000000
				start, limit, offset := base+p.Vaddr&^0xfff, base+p.Vaddr+p.Filesz, p.Off&^0xfff
				if got := names(s, id, start, limit, offset, base+at); got != "main.work" {
					t.Errorf("%s: at its beginning in a process %q", id, got)
				}
			}
			found := false
			for pc := at; pc < at+200 && !found; pc++ {
				found = names(s, ids.GNU, 0, 0, 0, pc) == "main.inlined;main.work"
			}
			if !found {
				t.Error("no address of main.work names the function inlined there")
			}
			if got := names(s, ids.GNU, 0, 0, 0, 1); got != "" {
				t.Errorf("at address 1: %q", got)
			}
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if s.Bytes() >= st.Size() || s.Bytes() < 1<<10 {
				t.Errorf("takes %d bytes of a file of %d", s.Bytes(), st.Size())
			}
			// After a restart it is still there.
			again := open(t, Config{Dir: s.cfg.Dir})
			if got := names(again, ids.Hash, 0, 0, 0, at); got != "main.work" || again.Bytes() != s.Bytes() {
				t.Errorf("after a restart %q, %d bytes", got, again.Bytes())
			}
		})
	}
}

// A binary of another language has its symbol table.
func TestSymbolizeC(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: no C compiler (cc) to make a program without Go")
	}
	dir := t.TempDir()
	src, out := filepath.Join(dir, "x.c"), filepath.Join(dir, "x")
	if err := os.WriteFile(src, []byte("int helper(int n) { return n * 3; }\nint main(int c, char **v) { return helper(c); }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command(cc, "-O0", "-Wl,--build-id", "-o", out, src).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, b)
	}
	at, _ := address(t, out, "helper")
	s := open(t, Config{})
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids, err := s.Put(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if ids.GNU == "" || ids.Go != "" {
		t.Errorf("ids %+v", ids)
	}
	if got := names(s, ids.GNU, 0, 0, 0, at+4); got != "helper" {
		t.Errorf("%q", got)
	}
}

// Binaries of local processes are copied when frames ask for them, in whichever order they come.
func TestAdd(t *testing.T) {
	path := compile(t)
	at, _ := address(t, path, "main.work")
	info, err := build.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range []string{"process", "frame"} {
		t.Run(first+" first", func(t *testing.T) {
			s := open(t, Config{})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			add := func() {
				if err := s.Add(ctx, path); err != nil {
					t.Fatal(err)
				}
			}
			if first == "process" {
				add()
				if known, _ := s.List(); len(known) != 0 {
					t.Fatalf("copied what nobody asked for: %+v", known)
				}
			}
			generation := s.Generation()
			if got := names(s, info.GNUBuildID, 0, 0, 0, at); got != "" {
				t.Fatalf("named %q", got)
			}
			if first == "frame" {
				if _, wanted := s.List(); len(wanted) != 1 || wanted[0].BuildID != info.GNUBuildID || wanted[0].Frames != 1 {
					t.Fatalf("wanted %+v", wanted)
				}
				add()
			}
			for end := time.Now().Add(10 * time.Second); s.Generation() == generation; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("not copied within 10 s")
				}
			}
			if got := names(s, info.GNUBuildID, 0, 0, 0, at); got != "main.work" {
				t.Errorf("named %q", got)
			}
			if known, wanted := s.List(); len(known) != 1 || len(wanted) != 0 {
				t.Errorf("known %+v, wanted %+v", known, wanted)
			}
		})
	}
	s := open(t, Config{})
	if err := s.Add(t.Context(), "/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := s.Add(t.Context(), t.TempDir()); err == nil {
		t.Error("a folder was added")
	}
}

// elfOf is an ELF file with a build id and so many bytes of padding.
func elfOf(id byte, pad int) []byte {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	note := []byte{4, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0, id, id, id, id}
	le.PutUint32(b[64:], 4)
	le.PutUint64(b[64+8:], uint64(len(b)))
	le.PutUint64(b[64+32:], uint64(len(note)))
	return append(append(b, note...), bytes.Repeat([]byte{id}, pad)...)
}

// Those that named nothing for longest make room.
func TestRoom(t *testing.T) {
	now := time.Now()
	s := open(t, Config{MaxBytes: 10_000, Now: func() time.Time { return now }})
	put := func(id byte, n int) error {
		_, err := s.Put(t.Context(), bytes.NewReader(elfOf(id, n)))
		return err
	}
	for id := byte(1); id <= 3; id++ {
		now = now.Add(2 * time.Hour)
		if err := put(id, 3000); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(2 * time.Hour)
	names(s, "01010101", 0, 0, 0, 1) // used now
	if err := put(4, 3000); err != nil {
		t.Fatal(err)
	}
	known, _ := s.List()
	var have []string
	for _, k := range known {
		have = append(have, k.GNU)
	}
	slices.Sort(have)
	if got, want := strings.Join(have, " "), "01010101 03030303 04040404"; got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	if err := put(5, 20_000); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want ErrTooLarge", err)
	}
	if err := put(4, 3000); err != nil || s.Bytes() > 10_000 {
		t.Errorf("again: %v, %d bytes", err, s.Bytes())
	}
	if entries, err = os.ReadDir(s.cfg.Dir); err != nil || len(entries) != 3 {
		t.Errorf("%d files after what was refused, %v", len(entries), err)
	}
}

// Two files of one build id (one of them stripped) have hashes of their own, by which frames may ask.
func TestOneBuildTwoFiles(t *testing.T) {
	s := open(t, Config{})
	hashes := map[string]bool{}
	for _, pad := range []int{100, 200, 100} {
		ids, err := s.Put(t.Context(), bytes.NewReader(elfOf(9, pad)))
		if err != nil {
			t.Fatal(err)
		}
		hashes[ids.Hash] = true
	}
	names(s, "09090909", 0, 0, 0, 1)
	for h := range hashes {
		names(s, h, 0, 0, 0, 1)
	}
	if known, wanted := s.List(); len(known) != 2 || len(wanted) != 0 {
		t.Errorf("known %+v, wanted %+v", known, wanted)
	}
}

func TestPutRefuses(t *testing.T) {
	good := elfOf(7, 100)
	patch := func(off int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[off:], b)
		return c
	}
	for name, data := range map[string][]byte{"nothing": nil, "text": []byte(strings.Repeat("hello ", 50)), "a header alone": good[:64], "65,535 program headers": patch(56, 0xff, 0xff),
		"program headers far away": patch(32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), "class 9": patch(4, 9), "byte order 9": patch(5, 9)} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{})
			if _, err := s.Put(t.Context(), bytes.NewReader(data)); !errors.Is(err, ErrNotELF) {
				t.Errorf("error %v, want ErrNotELF", err)
			}
			if entries, err := os.ReadDir(s.cfg.Dir); err != nil || len(entries) != 0 {
				t.Errorf("%d files left, %v", len(entries), err)
			}
		})
	}
}

func TestWantedIsBounded(t *testing.T) {
	s := open(t, Config{})
	id := make([]byte, 8)
	for i := range 3 * maxWanted {
		binary.BigEndian.PutUint64(id, uint64(i))
		names(s, string(id), 0, 0, 0, 1)
	}
	names(s, strings.Repeat("x", maxBuildID+1), 0, 0, 0, 1)
	if _, wanted := s.List(); len(wanted) != maxWanted {
		t.Errorf("%d are wanted, at most %d", len(wanted), maxWanted)
	}
}

// FuzzBinary gives hostile files to all that reads them.
func FuzzBinary(f *testing.F) {
	f.Add(elfOf(1, 10), uint64(0x401000))
	path := compile(f, "-ldflags=-w")
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:4096], uint64(0x401000))
	f.Fuzz(func(t *testing.T, data []byte, address uint64) {
		m, err := readImage(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if _, err := identify(bytes.NewReader(data), int64(len(data))); err != nil && !errors.Is(err, ErrNotELF) {
			t.Error(err)
		}
		for _, s := range needless(m) {
			if s.from < 0 || s.to < s.from || s.to > int64(len(data)) {
				t.Errorf("hole %+v in a file of %d bytes", s, len(data))
			}
		}
		readSymtab(m).find(address)
		m.linked(address, address+10, 0, address+1)
	})
}

// BenchmarkSymbolize names 4,000 places in a Go program again and again, as they come with the requests of a sampler.
func BenchmarkSymbolize(b *testing.B) {
	path := compile(b)
	s := open(b, Config{})
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	ids, err := s.Put(b.Context(), f)
	if err != nil {
		b.Fatal(err)
	}
	at, _ := address(b, path, "runtime.mallocgc")
	n := 0
	for b.Loop() {
		s.Symbolize(ids.GNU, 0, 0, 0, at+uint64(n%4000)*32, func(string, string, int64, int64) {})
		n++
	}
}

// Names are looked up while binaries come and go.
func TestConcurrent(t *testing.T) {
	path := compile(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := address(t, path, "main.work")
	info, err := build.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{MaxBytes: int64(len(whole)) + 20_000})
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			for i := range 30 {
				if got := names(s, info.GNUBuildID, 0, 0, 0, at); got != "" && got != "main.work" {
					t.Errorf("named %q", got)
				}
				names(s, strings.Repeat(hex.EncodeToString([]byte{byte(i)}), 4), 0, 0, 0, 1)
				if i%10 == n {
					if _, err := s.Put(t.Context(), bytes.NewReader(whole)); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Put(t.Context(), bytes.NewReader(elfOf(byte(i), 8000))); err != nil {
					t.Error(err)
				}
				s.List()
			}
		})
	}
	wg.Wait()
	if s.Bytes() > s.cfg.MaxBytes {
		t.Errorf("%d bytes, at most %d", s.Bytes(), s.cfg.MaxBytes)
	}
	sum := int64(0)
	known, _ := s.List()
	for _, k := range known {
		sum += k.Bytes
	}
	if sum != s.Bytes() {
		t.Errorf("%d bytes are counted, the files have %d", s.Bytes(), sum)
	}
}
