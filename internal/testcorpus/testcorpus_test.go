package testcorpus

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFilesAreOrderedAndTyped(t *testing.T) {
	files := Files(t)
	for i, f := range files {
		if f.Service == "" || f.Type == "" || f.Type == "other" || f.Seconds < 1e9 {
			t.Errorf("file %d: %+v", i, f)
		}
		if i > 0 && files[i-1].Service == f.Service && files[i-1].Type == f.Type && files[i-1].Seconds >= f.Seconds {
			t.Errorf("file %d is not after its predecessor: %+v", i, f)
		}
	}
}

func TestFilesReadsTheFolderNamedByTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"cart/cpu/1700000002.pb.gz", "cart/cpu/1700000001.pb.gz", "cart/other/threadcreate.pb.gz"} {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(Env, dir)
	files := Files(t)
	if len(files) != 2 || files[0].Seconds != 1700000001 || files[1].Seconds != 1700000002 || files[0].Service != "cart" || files[0].Type != "cpu" {
		t.Errorf("Files() = %+v", files)
	}
}
