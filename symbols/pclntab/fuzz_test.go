package pclntab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/sonde-io/sonde/internal/testgo"
)

func bytesReader(b []byte) io.ReaderAt { return bytes.NewReader(b) }

const tiny = "package main\n\nfunc main() { println(f(3)) }\n\nfunc f(n int) int { return n + g(n) }\n\nfunc g(n int) int { return n * n }\n"

// FuzzTable damages a real binary: at each position that the input names it puts the input's word. Whatever comes of it is asked everything.
func FuzzTable(f *testing.F) {
	var files [][]byte
	for _, build := range [][]string{{"go1.18.10", "-ldflags=-s -w"}, {testgo.Local(), "-ldflags=-s -w"}, {testgo.Local(), "-buildmode=pie"}} {
		b, err := os.ReadFile(testgo.BuildSource(f, build[0], build[1:], tiny))
		if err != nil {
			f.Fatal(err)
		}
		files = append(files, b)
	}
	patch := func(kind byte, at uint32, word uint64) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32([]byte{kind}, at), word)
	}
	// The ELF header, the program headers, the header of the table, the table of functions, the moduledata.
	for which, b := range files {
		table, err := New(bytesReader(b), int64(len(b)))
		if err != nil {
			f.Fatal(err)
		}
		for _, at := range []uint64{24, 40, 56, 64, 72, 80, table.functions, table.functions + 4, table.functions + 8*table.nfunc/2, table.names, table.pcs, table.cus, table.gofunc} {
			for _, word := range []uint64{0, 1, 1 << 31, 1<<32 - 1, 1 << 40, 1 << 63, 1<<64 - 1} {
				f.Add(byte(which), patch(0, uint32(at), word))
			}
		}
		off, _, _ := table.im.offset(table.moduledata)
		for i := range uint64(mdWords) {
			f.Add(byte(which), patch(0, uint32(off+8*i), 1<<64-1))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, patches []byte) {
		b := files[int(which)%len(files)]
		r := &patched{b: b}
		var pcs []uint64
		for ; len(patches) >= 13; patches = patches[13:] {
			r.patches = append(r.patches, patches[:13])
			pcs = append(pcs, binary.LittleEndian.Uint64(patches[5:]))
		}
		exercise(t, r, int64(len(b)), pcs)
	})
}

// FuzzFile opens anything.
func FuzzFile(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	head := make([]byte, 4096)
	copy(head, "\x7fELF\x02\x01\x01")
	f.Add(head)
	f.Fuzz(func(t *testing.T, b []byte) { exercise(t, bytesReader(b), int64(len(b)), []uint64{0, 0x401000}) })
}

// patched is a file with some words changed: 4 bytes of place and 8 of word, from the second byte of each patch.
type patched struct {
	b       []byte
	patches [][]byte
}

func (p *patched) ReadAt(dst []byte, off int64) (int, error) {
	n, err := bytes.NewReader(p.b).ReadAt(dst, off)
	for _, patch := range p.patches {
		at := int64(binary.LittleEndian.Uint32(patch[1:]))
		for i, c := range patch[5:] {
			if k := at + int64(i) - off; k >= 0 && k < int64(n) {
				dst[k] = c
			}
		}
	}
	return n, err
}

func exercise(t *testing.T, r io.ReaderAt, size int64, pcs []uint64) {
	table, err := New(r, size)
	if err != nil {
		if !errors.Is(err, ErrNotGo) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && err.Error() == "" {
			t.Errorf("an error without words: %v", err)
		}
		return
	}
	pcs = append(pcs, table.minpc, table.maxpc-1, table.maxpc, table.text-1)
	for i := range uint64(64) {
		pcs = append(pcs, table.minpc+(table.maxpc-table.minpc)/64*i+i)
	}
	for _, pc := range pcs {
		frames := table.Frames(nil, pc)
		if len(frames) > maxInlined+1 {
			t.Errorf("%d frames", len(frames))
		}
		for _, fr := range frames {
			if len(fr.Func) > maxName || len(fr.File) > maxName {
				t.Errorf("a name of %d and a file of %d bytes", len(fr.Func), len(fr.File))
			}
		}
		table.Func(pc)
		table.SPDelta(pc)
	}
	table.FuncByName("main.main")
	table.EachName(func(name string) bool {
		if name == "" || len(name) > maxName {
			t.Errorf("a name of %d bytes", len(name))
		}
		return true
	})
	table.Trim()
	if err := table.Close(); err != nil {
		t.Error(err)
	}
	if frames := table.Frames(nil, table.minpc); frames != nil {
		t.Error("a closed table answers")
	}
}

// BenchmarkFrames is what one address costs that was not asked for before.
func BenchmarkFrames(b *testing.B) {
	table, err := Open(testgo.Build(b, testgo.Local(), []string{"-ldflags=-s -w"}, "testdata/frames"))
	if err != nil {
		b.Fatal(err)
	}
	defer table.Close()
	var dst []Frame
	for i := 0; b.Loop(); i++ {
		dst = table.Frames(dst[:0], table.minpc+uint64(i)*7919%(table.maxpc-table.minpc))
	}
}
