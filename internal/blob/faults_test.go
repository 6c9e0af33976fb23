package blob_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/fsys/faultfs"
)

// outcome is what a script of puts and deletes was told about each name.
type outcome struct {
	acked   map[string]bool // Put returned nil and no Delete was tried
	deleted map[string]bool // Delete returned nil
	failed  map[string]bool // Put returned an error
}

// script puts blobs in old and new folders and deletes one; it goes on after errors, as a server does.
func script(t *testing.T, m *faultfs.FS) outcome {
	o := outcome{acked: map[string]bool{}, deleted: map[string]bool{}, failed: map[string]bool{}}
	s, err := blob.OpenFiles(m, "/var/lib/sonde/blobs")
	if err != nil {
		return o
	}
	put := func(name string) {
		if err := s.Put(t.Context(), name, content(name)); err != nil {
			o.failed[name] = true
			return
		}
		o.acked[name] = true
	}
	put("segments/1")
	put("segments/2")
	put("blocks/2026/11/3")
	delete(o.acked, "segments/1")
	if err := s.Delete(t.Context(), "segments/1"); err == nil {
		o.deleted["segments/1"] = true
	}
	put("blocks/2026/12/4")
	put("segments/5")
	return o
}

// TestDirectoryMadeByTheCaller: the caller made the data directory and did not sync it; what is acked in it has to survive all the same.
func TestDirectoryMadeByTheCaller(t *testing.T) {
	for seed := range uint64(16) {
		m := faultfs.New()
		must(t, m.MkdirAll("/var/lib/sonde"))
		s, err := blob.OpenFiles(m, "/var/lib/sonde/blobs")
		must(t, err)
		must(t, s.Put(t.Context(), "a", []byte("1")))
		m.PowerLoss(seed)
		s, err = blob.OpenFiles(m, "/var/lib/sonde/blobs")
		must(t, err)
		if got := read(t, s, "a"); got != "1" {
			t.Fatalf("seed %d: acked blob holds %q", seed, got)
		}
	}
}

func content(name string) []byte { return []byte("content of " + name) }

// TestEveryFaultInTurn fails each operation of the script in each way, then kills the process or takes the power away, opens again and
// compares with what the script was told.
func TestEveryFaultInTurn(t *testing.T) {
	probe := faultfs.New()
	script(t, probe)
	ops := probe.Count(faultfs.Mutations)
	if ops < 30 {
		t.Fatalf("the script has %d operations, expected more", ops)
	}
	runs := 0
	for n := 0; n <= ops+2; n++ { // 0: no fault
		for _, kind := range []faultfs.Fault{{}, {Short: true}, {Late: true}, {Crash: true}, {Crash: true, Short: true}, {Crash: true, Late: true}} {
			for seed := range 8 {
				m := faultfs.New()
				fault := kind
				fault.N = n
				if n > 0 {
					m.Inject(fault)
				}
				o := script(t, m)
				desc := fmt.Sprintf("fault %+v, restart %d", fault, seed)
				if !fault.Crash {
					verifyLive(t, desc, m, o)
				}
				if seed == 0 {
					m.Kill()
				} else {
					m.PowerLoss(uint64(seed))
				}
				verifyReopened(t, desc, m, o, !fault.Crash)
				runs++
			}
		}
	}
	t.Logf("%d operations, %d runs", ops, runs)
}

// verifyLive checks, without a restart, that a failed put is not visible.
func verifyLive(t *testing.T, desc string, m *faultfs.FS, o outcome) {
	t.Helper()
	m.Inject()
	s, err := blob.ReadFiles(m, "/var/lib/sonde/blobs")
	if err != nil {
		return // the fault was in opening
	}
	compare(t, desc+", live", s, o, true)
}

func verifyReopened(t *testing.T, desc string, m *faultfs.FS, o outcome, failedIsGone bool) {
	t.Helper()
	s, err := blob.OpenFiles(m, "/var/lib/sonde/blobs")
	if err != nil {
		t.Fatalf("%s: reopen: %v", desc, err)
	}
	compare(t, desc, s, o, failedIsGone)
	leftovers(t, desc, m, "/var/lib/sonde/blobs")
}

func compare(t *testing.T, desc string, s blob.Store, o outcome, failedIsGone bool) {
	t.Helper()
	for name := range o.acked {
		if got := read(t, s, name); got != string(content(name)) {
			t.Errorf("%s: acked %s holds %q", desc, name, got)
		}
	}
	for name := range o.deleted {
		if _, err := s.Open(t.Context(), name); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: deleted %s is back: %v", desc, name, err)
		}
	}
	for _, name := range list(t, s, "") {
		if got := read(t, s, name); got != string(content(name)) {
			t.Errorf("%s: %s is visible with %q", desc, name, got)
		}
		if o.failed[name] && failedIsGone {
			t.Errorf("%s: %s is visible although its Put failed", desc, name)
		}
	}
}

func leftovers(t *testing.T, desc string, m *faultfs.FS, dir string) {
	t.Helper()
	entries, err := m.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if e.IsDir() {
			leftovers(t, desc, m, dir+"/"+e.Name())
		} else if blob.CheckName(e.Name()) != nil {
			t.Errorf("%s: leftover %s in %s", desc, e.Name(), dir)
		}
	}
}
