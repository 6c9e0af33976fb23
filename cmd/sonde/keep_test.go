package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector"
)

func TestPin(t *testing.T) {
	time.Local = time.UTC
	var q url.Values
	var method string
	h := func(w http.ResponseWriter, r *http.Request) {
		q, method = r.URL.Query(), r.Method+" "+r.URL.Path
		switch method {
		case "POST /api/v1/pins":
			io.WriteString(w, `{"pin":{"id":3,"query":"{service_name=\"cart\"}","type":"cpu","from":1795258800000,"to":1795260600000,"link":"/?query=cart&from=1795258800000&to=1795260600000"},"services":[]}`)
		case "GET /api/v1/pins":
			io.WriteString(w, `{"pins":[{"id":3,"query":"{service_name=\"cart\"}","type":"","from":1795258800000,"to":1795260600000,"created":1795262400000,"note":"incident 42"}]}`)
		default:
			io.WriteString(w, `{"status":"ok"}`)
		}
	}
	r := sonde(t, h, "", "pin", `{service_name="cart"}`, "--from", "now-1h", "--to", "now-30m", "--note", "incident 42", "--type", "cpu")
	if r.code != 0 || !strings.Contains(r.stdout, "pin 3 keeps") || !strings.Contains(r.stdout, "\nhttp://127.0.0.1:") || !strings.Contains(r.stdout, "/?query=cart&from=1795258800000&to=1795260600000\n") ||
		!strings.Contains(r.stderr, "nothing is stored there") {
		t.Errorf("pin: %+v", r)
	}
	if method != "POST /api/v1/pins" || q.Get("query") != `{service_name="cart"}` || q.Get("from") != "1795258800000" || q.Get("to") != "1795260600000" || q.Get("note") != "incident 42" || q.Get("type") != "cpu" {
		t.Errorf("asked %s %v", method, q)
	}
	if r := sonde(t, h, "", "pin", "ls"); r.code != 0 || !strings.Contains(r.stdout, "incident 42") || !strings.Contains(r.stdout, "2026-11-21 11:00:00") {
		t.Errorf("pin ls: %+v", r)
	}
	if r := sonde(t, h, "", "pin", "rm", "3"); r.code != 0 || method != "DELETE /api/v1/pins/3" {
		t.Errorf("pin rm: %+v, %s", r, method)
	}
	if r := sonde(t, h, "", "delete", "--service", "cart", "--from", "now-1h", "--force"); r.code != 0 || method != "DELETE /api/v1/profiles" || q.Get("service") != "cart" ||
		q.Get("from") != "1795258800000" || q.Has("to") || q.Get("force") != "true" {
		t.Errorf("delete: %+v, %s %v", r, method, q)
	}
	for _, args := range [][]string{{"pin"}, {"pin", "{"}, {"pin", "cart", "--since", "x"}, {"pin", "rm", "x"}, {"pin", "rm"}, {"delete"}, {"delete", "--service", "a", "--to", "x"}, {"backup"}, {"restore", "x"}} {
		if r := sonde(t, h, "", args...); r.code != exitUsage {
			t.Errorf("sonde %q: exit %d, %s, want 2", args, r.code, r.stderr)
		}
	}
}

// TestBackupAndRestore of a collector that runs, and of its directory when it is stopped.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	cfg := collector.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Discover = filepath.Join(dir, "data"), "127.0.0.1:0", false
	ctx, cancel := context.WithCancel(t.Context())
	addr, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- collector.Run(ctx, cfg, collector.Options{Ready: func(a string) { addr <- a }, Stderr: io.Discard})
	}()
	var server string
	select {
	case a := <-addr:
		server = "http://" + a
	case err := <-done:
		t.Fatal(err)
	}
	must := func(r result, want string) {
		t.Helper()
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Fatalf("exit %d, %s%s, want %s", r.code, r.stdout, r.stderr, want)
		}
	}
	profile, at := writeProfile(t, "heap.pb.gz", 1<<20), strconv.FormatInt(time.Now().Add(-time.Minute).Unix(), 10)
	for _, service := range []string{"cart", "pay"} {
		must(sonde(t, nil, "", "push", "--server", server, "--service", service, "--type", "heap", "--start", at, "--end", at+".5", profile), "ok")
	}
	for _, to := range []string{"backup", "backup.tar"} {
		must(sonde(t, nil, "", "backup", "--server", server, filepath.Join(dir, to)), "files")
	}
	must(sonde(t, nil, "", "delete", "--server", server, "--service", "cart"), "deleted 1 profile")
	must(sonde(t, nil, "", "backup", "--server", server, filepath.Join(dir, "later")), "files")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	must(sonde(t, nil, "", "backup", "--data", cfg.Data, filepath.Join(dir, "stopped")), "files")
	for from, want := range map[string]int{"backup": 2, "backup.tar": 2, "later": 1, "stopped": 1} {
		to := filepath.Join(dir, "restored-"+from)
		must(sonde(t, nil, "", "restore", filepath.Join(dir, from), "--data", to), "0 problems")
		r := sonde(t, nil, "", "check", "-o", "json", to)
		var c checked
		if err := json.Unmarshal([]byte(r.stdout), &c); err != nil || r.code != 0 || c.Checked != want {
			t.Errorf("%s: check: %+v, %v, want %d blobs", from, r, err, want)
		}
		if r := sonde(t, nil, "", "restore", filepath.Join(dir, from), "--data", to); r.code != exitFailed || !strings.Contains(r.stderr, "not empty") {
			t.Errorf("%s over data: %+v", from, r)
		}
	}
	if r := sonde(t, nil, "", "backup", "--data", dir, filepath.Join(dir, "none")); r.code != exitFailed || !strings.Contains(r.stderr, "hint") {
		t.Errorf("backup of no data directory: %+v", r)
	}
}
