package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
)

// TestCheckKnowsCaptures: a capture is no orphan, one that is damaged is a problem, and a lost catalogue finds those that are whole again.
func TestCheckKnowsCaptures(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, dir := t.Context(), t.TempDir()
	path := filepath.Join(dir, collector.CatalogFile)
	cat, err := catalog.OpenSQLite(ctx, path)
	must(err)
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, collector.BlobDir))
	must(err)
	must(cat.PutProcesses(ctx, []catalog.Process{{Instance: "i", Service: "cart"}}))
	b, err := capture.New(ctx, capture.Config{Catalog: cat, Blobs: blobs})
	must(err)
	var heap bytes.Buffer
	must(pprof.Lookup("heap").WriteTo(&heap, 0))
	var ids []string
	for range 2 {
		_, err = b.Next(ctx, []string{"i"}, 0)
		must(err)
		asked, err := b.Ask(ctx, capture.Request{Service: "cart", Kind: capture.Heap})
		must(err)
		_, err = b.Next(ctx, []string{"i"}, 0)
		must(err)
		ids = append(ids, asked.Captures[0].ID)
		must(b.Deliver(ctx, capture.Result{ID: ids[len(ids)-1], Instance: "i", Body: bytes.NewReader(heap.Bytes())}))
	}
	must(cat.Close())
	if r := sonde(t, nil, "", "check", "--grace", "0s", dir); r.code != 0 || !strings.Contains(r.stdout, "2 blobs checked, 0 problems") {
		t.Errorf("check: %+v", r)
	}
	file := filepath.Join(dir, collector.BlobDir, "captures", ids[0])
	data, err := os.ReadFile(file)
	must(err)
	data[10] ^= 1
	must(os.WriteFile(file, data, 0o600))
	if r := sonde(t, nil, "", "check", dir); r.code != 1 || !strings.Contains(r.stdout, "captures/"+ids[0]) || !strings.Contains(r.stdout, "checksum") {
		t.Errorf("check of a damaged one: %+v", r)
	}
	must(os.Remove(path))
	if r := sonde(t, nil, "", "check", "--rebuild", dir); !strings.Contains(r.stdout, "2 captures taken up") {
		t.Errorf("rebuild: %+v", r)
	}
	again, err := catalog.ReadSQLite(ctx, path)
	must(err)
	defer again.Close()
	c, err := again.Capture(ctx, ids[1])
	must(err)
	if c.State != catalog.CaptureDone || c.Service != "cart" || c.Size != int64(heap.Len()) {
		t.Errorf("found again as %+v", c)
	}
}
