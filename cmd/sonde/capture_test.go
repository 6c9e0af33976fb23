package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// captureServer answers as a collector does whose captures are done at the second look; those of process bad fail.
func captureServer(asked *url.Values) http.HandlerFunc {
	var looks atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		row := func(id, state, more string) string {
			return fmt.Sprintf(`{"id":%q,"request":"r1","kind":"trace","service":"cart","instance":"p-%s","state":%q,"created":1795262400000,"duration":5000,"file":"cart-trace-%s.trace","size":11%s}`, id, id, state, id, more)
		}
		switch r.Method + " " + r.URL.Path {
		case "POST /api/v1/captures":
			looks.Store(0)
			*asked = r.URL.Query()
			fmt.Fprintf(w, `{"request":"r1","known":3,"reached":2,"captures":[%s]}`, row("c1", "asked", ""))
		case "GET /api/v1/captures":
			switch {
			case r.URL.Query().Get("request") == "":
				fmt.Fprintf(w, `{"captures":[%s,%s]}`, row("c1", "done", ""), row("c2", "failed", `,"error":"someone else is taking a CPU profile"`))
			case looks.Add(1) < 2:
				fmt.Fprintf(w, `{"captures":[%s]}`, row("c1", "running", ""))
			case asked.Get("instance") == "bad":
				fmt.Fprintf(w, `{"captures":[%s]}`, row("c1", "failed", `,"error":"its server does not answer"`))
			default:
				fmt.Fprintf(w, `{"captures":[%s]}`, row("c1", "done", ""))
			}
		case "GET /api/v1/captures/c1":
			io.WriteString(w, row("c1", "done", ""))
		case "GET /api/v1/captures/c1/result":
			io.WriteString(w, "trace bytes")
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"error":"there is no such capture"}`)
		}
	}
}

func TestCapture(t *testing.T) {
	t.Chdir(t.TempDir())
	var asked url.Values
	h := captureServer(&asked)
	r := sonde(t, h, "", "capture", "trace", "--service", "cart", "--duration", "5s", "--note", "slow")
	if r.code != 0 || !strings.Contains(r.stderr, "capturing trace of cart for 5s") || !strings.Contains(r.stdout, "\ngo tool trace cart-trace-c1.trace\n") {
		t.Errorf("%+v", r)
	}
	if asked.Get("kind") != "trace" || asked.Get("service") != "cart" || asked.Get("duration") != "5s" || asked.Get("note") != "slow" || asked.Has("spread") {
		t.Errorf("asked for %v", asked)
	}
	if b, err := os.ReadFile("cart-trace-c1.trace"); err != nil || string(b) != "trace bytes" {
		t.Errorf("the file: %q, %v", b, err)
	}
	if r := sonde(t, h, "", "capture", "trace", "-s", "cart", "--all", "-o", "out"); r.code != 0 || asked.Get("spread") != "all" {
		t.Errorf("%+v, asked %v", r, asked)
	}
	if _, err := os.Stat(filepath.Join("out", "cart-trace-c1.trace")); err != nil {
		t.Error(err)
	}
	if r := sonde(t, h, "", "capture", "trace", "-s", "cart", "-o", "-"); r.code != 0 || r.stdout != "trace bytes" {
		t.Errorf("to standard output: %+v", r)
	}
	if r := sonde(t, h, "", "capture", "trace", "--instance", "bad"); r.code != 1 || !strings.Contains(r.stderr, "its server does not answer") {
		t.Errorf("one that fails: %+v", r)
	}
	if r := sonde(t, h, "", "capture", "trace", "-s", "cart", "--detach"); r.code != 0 || r.stdout != "c1\n" {
		t.Errorf("detached: %+v", r)
	}
	if r := sonde(t, h, "", "capture", "trace", "-s", "cart", "--shadow"); r.code != 0 || asked.Get("shadow") != "true" || !strings.Contains(r.stdout, "would capture trace of 1 process for 5s; 2 of 3") {
		t.Errorf("shadow: %+v", r)
	}
	if r := sonde(t, h, "", "capture", "list", "--service", "cart"); r.code != 0 || !strings.Contains(r.stdout, "c2") || !strings.Contains(r.stdout, "someone else") {
		t.Errorf("list: %+v", r)
	}
	if r := sonde(t, h, "", "capture", "get", "c1", "-o", "mine.trace"); r.code != 0 || !strings.Contains(r.stdout, "go tool trace mine.trace") {
		t.Errorf("get: %+v", r)
	}
	if r := sonde(t, h, "", "capture", "get", "none"); r.code != 1 || !strings.Contains(r.stderr, "sonde capture list") {
		t.Errorf("get of none: %+v", r)
	}
	for _, args := range [][]string{{"capture"}, {"capture", "everything", "-s", "cart"}, {"capture", "cpu"}, {"capture", "cpu", "-s", "a", "--one", "--all"}, {"capture", "cpu", "-s", "a", "-d", "x"},
		{"capture", "cpu", "-s", "a", "-d", "1ms"}, {"capture", "heap", "-s", "a", "--all", "-o", "-"}, {"capture", "get"}} {
		if r := sonde(t, h, "", args...); r.code != exitUsage {
			t.Errorf("sonde %q: exit %d, %s, want 2", args, r.code, r.stderr)
		}
	}
}
