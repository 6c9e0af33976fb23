package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// compile builds a small module with the go command and returns the binary.
func compile(tb testing.TB, env []string, args ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	write("go.mod", "module example.com/tiny\n\ngo 1.23\n")
	write("main.go", "package main\n\nfunc main() { println(\"tiny\") }\n")
	out := filepath.Join(dir, "tiny")
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, args...), ".")...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0"), env...)
	if b, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build %v: %v\n%s", args, err, b)
	}
	return out
}

// goBuildID asks the go command.
func goBuildID(t *testing.T, file string) string {
	t.Helper()
	b, err := exec.Command("go", "tool", "buildid", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestReadRealBinaries(t *testing.T) {
	for _, tt := range []struct {
		name   string
		env    []string
		args   []string
		noGNU  bool
		noGo   bool
		notELF bool
	}{
		{name: "plain"},
		{name: "stripped", args: []string{"-ldflags=-s -w"}},
		{name: "pie", args: []string{"-buildmode=pie"}},
		{name: "trimpath", args: []string{"-trimpath"}},
		{name: "no GNU build ID", args: []string{"-ldflags=-B none"}, noGNU: true},
		{name: "no Go build ID", args: []string{"-ldflags=-buildid= -B 0xabcdef0123"}, noGo: true},
		{name: "32 bits", env: []string{"GOOS=linux", "GOARCH=386"}},
		{name: "big endian", env: []string{"GOOS=linux", "GOARCH=s390x"}},
		{name: "mach-o", env: []string{"GOOS=darwin", "GOARCH=arm64"}, notELF: true},
		{name: "pe", env: []string{"GOOS=windows", "GOARCH=amd64"}, notELF: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS != "linux" && tt.env == nil {
				tt.env = []string{"GOOS=linux"}
			}
			file := compile(t, tt.env, tt.args...)
			info, err := ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if info.Module() != "example.com/tiny" || info.GoVersion != runtime.Version() || info.Version() != "" {
				t.Errorf("module %q version %q go %q", info.Module(), info.Version(), info.GoVersion)
			}
			if !tt.noGo {
				if want := goBuildID(t, file); info.GoBuildID != want {
					t.Errorf("Go build ID %q, the go command says %q", info.GoBuildID, want)
				}
			} else if info.GoBuildID != "" {
				t.Errorf("Go build ID %q, want none", info.GoBuildID)
			}
			switch {
			case tt.notELF, tt.noGNU:
				if info.GNUBuildID != "" {
					t.Errorf("GNU build ID %q, want none", info.GNUBuildID)
				}
			case tt.noGo:
				if info.Key() != "abcdef0123" {
					t.Errorf("key %q", info.Key())
				}
			case info.GNUBuildID == "":
				t.Error("no GNU build ID")
			}
			sum := sha256.Sum256([]byte(info.GoBuildID))
			if want := hex.EncodeToString(sum[:20]); tt.noGNU && info.Key() != want {
				t.Errorf("key %q, want %q", info.Key(), want)
			}
			if !tt.noGNU && !tt.notELF && info.Key() != info.GNUBuildID {
				t.Errorf("key %q, want the GNU build ID %q", info.Key(), info.GNUBuildID)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	good, err := os.ReadFile(compile(t, []string{"GOOS=linux", "GOARCH=amd64"}))
	if err != nil {
		t.Fatal(err)
	}
	patch := func(off int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[off:], b)
		return c
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "shorter than any executable"},
		{"a script", []byte("#!/bin/sh\nexit 0\n"), "unrecognized file format"},
		{"header cut", good[:40], "read ELF header"},
		{"program headers cut", good[:70], "read program headers"},
		{"65535 program headers", patch(56, 0xff, 0xff), "program headers, at most"},
		{"65535 sections", patch(60, 0xff, 0xff), "sections, at most"},
		{"sections counted in section 0", patch(60, 0, 0), "more than 65,279 sections"},
		{"program headers of 1 byte", patch(54, 1, 0), "program headers of 1 bytes"},
		{"program headers far away", patch(32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "beyond the end of any file"},
		{"class 9", patch(4, 9), "ELF class 9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(tt.data))
			if !errors.Is(err, ErrNotGo) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want ErrNotGo with %q", err, tt.want)
			}
		})
	}
}

func TestReadNotAGoProgram(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh on this machine to read")
	}
	if _, err := ReadFile(sh); !errors.Is(err, ErrNotGo) {
		t.Errorf("error %v, want ErrNotGo", err)
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want not exist", err)
	}
	if _, err := ReadFile(t.TempDir()); err == nil || errors.Is(err, ErrNotGo) {
		t.Errorf("error %v of a directory, want one that is not ErrNotGo", err)
	}
}

// endless is a file without an end, all of one byte.
type endless struct{ read int64 }

func (e *endless) ReadAt(p []byte, off int64) (int, error) {
	e.read += int64(len(p))
	clear(p)
	if head := elf64(1 << 50); off < int64(len(head)) {
		copy(p, head[off:])
	}
	return len(p), nil
}

// elf64 is the header of a program without sections whose one writable segment has size bytes.
func elf64(size uint64) []byte {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)  // ET_EXEC
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint16(b[58:], 64)
	le.PutUint32(b[64:], 1) // PT_LOAD
	le.PutUint32(b[68:], 6) // RW
	le.PutUint64(b[80:], 0x400000)
	le.PutUint64(b[96:], size)
	le.PutUint64(b[104:], size)
	return b
}

func TestReadIsBounded(t *testing.T) {
	e := &endless{}
	_, err := Read(e)
	if err == nil || !strings.Contains(err.Error(), "more than 67108864 bytes") {
		t.Errorf("error %v, want that the limit was reached", err)
	}
	if e.read > maxRead {
		t.Errorf("read %d bytes, at most %d allowed", e.read, int64(maxRead))
	}
}

// smallCore is a core with one mapping: an image with both build IDs and build information.
func smallCore() []byte {
	const at = 64 + 56
	le := binary.LittleEndian
	b := make([]byte, at)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], typeCore)
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	image := make([]byte, 64)
	copy(image, "\x7fELF\x02\x01\x01")
	note := func(name string, kind uint32, desc string) {
		image = le.AppendUint32(le.AppendUint32(le.AppendUint32(image, uint32(len(name))), uint32(len(desc))), kind)
		image = append(append(image, name...), desc...)
	}
	note("Go\x00\x00", noteGoBuildID, "abcd/efgh")
	image = append(image, 0, 0, 0) // to the alignment of the next
	note("GNU\x00", noteGNUBuild, "\x01\x02\x03\x04")
	for len(image)%infoAlign != 0 {
		image = append(image, 0)
	}
	head := make([]byte, infoHead)
	copy(head, infoMagic)
	head[14], head[15] = 8, infoInline
	image = append(image, head...)
	mod := strings.Repeat("s", 16) + "path\texample.com/tiny\n" + strings.Repeat("e", 16)
	for _, text := range []string{"go1.26.8", mod} {
		image = append(binary.AppendUvarint(image, uint64(len(text))), text...)
	}
	p := b[64:]
	le.PutUint32(p, ptLoad)
	le.PutUint64(p[8:], at)
	le.PutUint64(p[32:], uint64(len(image)))
	return append(b, image...)
}

func TestReadSmallCore(t *testing.T) {
	core := smallCore()
	info, err := Read(bytes.NewReader(core))
	if err != nil || !info.Core || info.GoBuildID != "abcd/efgh" || info.GNUBuildID != "01020304" || info.GoVersion != "go1.26.8" || info.Mod.Path != "example.com/tiny" {
		t.Fatalf("%+v, %v", info, err)
	}
	for n := range len(core) {
		if info, err := Read(bytes.NewReader(core[:n])); err == nil {
			t.Fatalf("%d of %d bytes are read as %+v", n, len(core), info)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(elf64(4096))
	f.Add(smallCore())
	f.Add([]byte("MZ\x00\x00"))
	f.Add([]byte("\xcf\xfa\xed\xfe\x07\x00\x00\x01"))
	whole, err := os.ReadFile(compile(f, []string{"GOOS=linux", "GOARCH=amd64"}, "-ldflags=-s -w"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:4096]) // headers and notes; the whole is too large to be mutated well
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Read(bytes.NewReader(data))
		if err == nil && (info.Mod == nil || len(info.GNUBuildID) > 2*maxBuildID || len(info.GoBuildID) > maxBuildID) {
			t.Errorf("%+v of a file of %d bytes", info, len(data))
		}
	})
}

func TestModuleOf(t *testing.T) {
	for _, tt := range []struct{ module, path, want string }{
		{"example.com/app", "example.com/app/cmd/x", "example.com/app"},
		{"", "github.com/prometheus/prometheus/cmd/prometheus", "github.com/prometheus/prometheus"}, // Debian's
		{"", "github.com/a/cmd/b/cmd/c", "github.com/a/cmd/b"},
		{"", "github.com/a/b", "github.com/a/b"},
		{"", "github.com/a/cmdline", "github.com/a/cmdline"},
		{"", "cmd/compile", "cmd/compile"},
		{"", "command-line-arguments", ""},
		{"", "", ""},
	} {
		if got := ModuleOf(&debug.BuildInfo{Path: tt.path, Main: debug.Module{Path: tt.module}}); got != tt.want {
			t.Errorf("module %q, path %q: %q, want %q", tt.module, tt.path, got, tt.want)
		}
	}
}
