package agent

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
	"github.com/sonde-io/sonde/agent/internal/pprofenc"
)

func gunzip(t *testing.T, p []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func gzipped(t *testing.T, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var mappingForTest = pprofenc.Mapping{File: "/bin/test"}

// discardLogger logs nothing.
var discardLogger = slog.New(slog.NewTextHandler(io.Discard, nil))

// kept keeps what tests allocate alive.
var kept [][]byte

// gcTwice makes the heap profile one of now.
func gcTwice() { runtime.GC(); runtime.GC() }

// burnCPU burns until the process has used d more CPU: on a busy machine that takes its time, and a profile sees it all the same.
func burnCPU(d time.Duration) {
	for end := cputime.Process() + d; cputime.Process() < end; {
		burn(time.Now().Add(5 * time.Millisecond))
	}
}
