package buildid

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestEverySystem builds a program for each object format and compares with go tool buildid.
func TestEverySystem(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"linux/amd64", "linux/386", "linux/s390x", "darwin/arm64", "windows/amd64"} {
		t.Run(target, func(t *testing.T) {
			goos, goarch, _ := strings.Cut(target, "/")
			bin := filepath.Join(dir, "prog-"+goos+goarch)
			cmd := exec.Command("go", "build", "-o", bin, src)
			cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GO111MODULE=off")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			want, err := exec.Command("go", "tool", "buildid", bin).Output()
			if err != nil {
				t.Fatal(err)
			}
			head, err := os.ReadFile(bin)
			if err != nil {
				t.Fatal(err)
			}
			if got := Parse(head[:min(len(head), readLimit)]); got.Go != strings.TrimSpace(string(want)) {
				t.Errorf("Go build id %q, want %q", got.Go, want)
			}
		})
	}
}

func TestGNU(t *testing.T) {
	dir := t.TempDir()
	src, bin := filepath.Join(dir, "main.go"), filepath.Join(dir, "prog")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-ldflags=-B 0x0123456789abcdef", "-o", bin, src)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GO111MODULE=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	head, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if got := Parse(head).GNU; got != "0123456789abcdef" {
		t.Errorf("GNU build id %q", got)
	}
}

func TestSelf(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("go test strips the build id of test binaries on other systems")
	}
	want, err := exec.Command("go", "tool", "buildid", fmt.Sprintf("/proc/%d/exe", os.Getpid())).Output()
	if err != nil {
		t.Skipf("go tool buildid cannot read the test binary: %v", err)
	}
	if got := Self().Go; got != strings.TrimSpace(string(want)) {
		t.Errorf("own id %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	if exe, err := os.Executable(); err == nil {
		if b, err := os.ReadFile(exe); err == nil {
			f.Add(b[:min(len(b), 8192)])
		}
	}
	f.Add([]byte("\x7fELF\x02\x01"))
	f.Add([]byte("MZ\xff Go build ID: \"a/b\"\n \xff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if ids := Parse(p); len(ids.Go) > 512 || len(ids.GNU) > 128 {
			t.Errorf("ids of %d and %d bytes", len(ids.Go), len(ids.GNU))
		}
	})
}
