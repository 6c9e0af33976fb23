package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func write(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPlaces(t *testing.T) {
	m := Mounts{Proc: "/p", Cgroup: "/c"}
	var got []string
	for _, at := range m.Places(7, "memory", "/a/b", "/u") {
		got = append(got, at.Dir())
	}
	if want := []string{"/c/memory/a/b", "/p/7/root/sys/fs/cgroup/memory", "/c/u", "/c/unified/u", "/p/7/root/sys/fs/cgroup"}; !slices.Equal(got, want) {
		t.Errorf("places %q, want %q", got, want)
	}
	if got := m.Places(7, "cpu", "", ""); len(got) != 0 {
		t.Errorf("places of nothing: %v", got)
	}
	if got := (Place{Root: "/c", Path: "/../../etc", V2: true}).Dir(); got != "/c/etc" {
		t.Errorf("a path out of the mount: %s", got)
	}
	if got, want := (Place{Root: "/c", Path: "/a/b"}).Parents(), []string{"/c/a", "/c"}; !slices.Equal(got, want) {
		t.Errorf("above /c/a/b: %q, want %q", got, want)
	}
	if got := (Place{Root: "/c", Path: "/"}).Parents(); len(got) != 0 {
		t.Errorf("above the root: %q", got)
	}
}

// TestTop tells the machine's own cgroup from what a container sees as its root.
func TestTop(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "v1/release_agent"))
	write(t, filepath.Join(dir, "v1/a/memory.usage_in_bytes"))
	write(t, filepath.Join(dir, "v2/cpu.stat"))
	write(t, filepath.Join(dir, "container/cgroup.events"))
	for _, tt := range []struct {
		at   Place
		want bool
	}{
		{Place{Root: filepath.Join(dir, "v1"), Path: "/"}, true},
		{Place{Root: filepath.Join(dir, "v1"), Path: "/a"}, false},
		{Place{Root: filepath.Join(dir, "v2"), Path: "/", V2: true}, true},
		{Place{Root: filepath.Join(dir, "v2"), Path: "/a", V2: true}, false},
		{Place{Root: filepath.Join(dir, "container"), Path: "/", V2: true}, false},
		{Place{Root: filepath.Join(dir, "container"), Path: "/", V2: false}, false},
	} {
		if got := tt.at.Top(); got != tt.want {
			t.Errorf("%+v: %v", tt.at, got)
		}
	}
	if (Place{Root: filepath.Join(dir, "v2"), Path: "/", V2: true, Inside: true}).Real() {
		t.Error("files of a process's making pass for a cgroup")
	}
}

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, 10*MaxFile), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := Read(make([]byte, 5, 16), name)
	if err != nil || len(b) != MaxFile {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := Read(nil, name+"x"); err == nil {
		t.Error("a file that is not there was read")
	}
}
