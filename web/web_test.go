package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestIndexNamesFilesThatAreServed(t *testing.T) {
	h := Handler()
	res := get(t, h, "GET", "/")
	page := body(t, res)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/html; charset=utf-8" || res.Header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("GET /: %d %v", res.StatusCode, res.Header)
	}
	names := regexp.MustCompile(`(?:src|href)="(/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(names) < 3 {
		t.Fatalf("index.html names %d files, want the script, the style sheet and the icon", len(names))
	}
	for _, m := range names {
		res := get(t, h, "GET", m[1])
		if res.StatusCode != 200 || len(body(t, res)) == 0 {
			t.Errorf("GET %s: %d", m[1], res.StatusCode)
		}
		if want := "public, max-age=31536000, immutable"; hashed.MatchString(m[1]) && res.Header.Get("Cache-Control") != want {
			t.Errorf("GET %s: Cache-Control %q, want %q", m[1], res.Header.Get("Cache-Control"), want)
		}
	}
}

func TestEveryAnswerHasThePolicy(t *testing.T) {
	h := Handler()
	for _, path := range []string{"/", "/fleet", "/runtime", "/favicon.svg", "/nothing"} {
		res := get(t, h, "GET", path)
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'self'") || strings.Contains(policy, "unsafe") {
			t.Errorf("GET %s: Content-Security-Policy %q", path, policy)
		}
		if res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("GET %s: no nosniff", path)
		}
	}
	// The policy forbids inline script and style: the page must have none.
	page := body(t, get(t, h, "GET", "/")) + body(t, get(t, h, "GET", "/fleet")) + body(t, get(t, h, "GET", "/runtime"))
	if m := regexp.MustCompile(`<script(?: [^>]*)?>[^<]|<style| style=| on\w+=`).FindString(page); m != "" {
		t.Errorf("index.html holds %q, which the policy forbids", m)
	}
}

func TestPathsAndMethods(t *testing.T) {
	h := Handler()
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 200},
		{"HEAD", "/", 200},
		{"GET", "/index.html", 200},
		{"GET", "/fleet", 200},
		{"GET", "/fleet.html", 200},
		{"GET", "/fleet/", 404},
		{"GET", "/runtime", 200},
		{"GET", "/runtime/", 404},
		{"GET", "/licenses.txt", 200},
		{"GET", "/nothing", 404},
		{"GET", "/../web.go", 404},
		{"GET", "/dist/index.html", 404},
		{"GET", "//", 404},
		{"POST", "/", 405},
		{"DELETE", "/favicon.svg", 405},
	} {
		res := get(t, h, c.method, c.path)
		if res.StatusCode != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, res.StatusCode, c.want)
		}
		if c.method == "HEAD" && body(t, res) != "" {
			t.Errorf("HEAD %s has a body", c.path)
		}
	}
}

func TestRevalidation(t *testing.T) {
	h := Handler()
	etag := get(t, h, "GET", "/").Header.Get("ETag")
	for _, c := range []struct {
		header string
		want   int
	}{
		{etag, 304},
		{strings.TrimPrefix(etag, "W/"), 304},
		{`"other", ` + etag, 304},
		{"*", 304},
		{`"other"`, 200},
		{"", 200},
	} {
		if res := get(t, h, "GET", "/", "If-None-Match", c.header); res.StatusCode != c.want {
			t.Errorf("If-None-Match %q: %d, want %d", c.header, res.StatusCode, c.want)
		}
	}
}

func TestCompression(t *testing.T) {
	h := Handler()
	plain := body(t, get(t, h, "GET", "/licenses.txt"))
	for _, c := range []struct {
		accept string
		want   bool
	}{
		{"gzip", true},
		{"br, GZIP;q=0.5", true},
		{"deflate, gzip ; q=1", true},
		{"gzip;q=0", false},
		{"gzip;q=x", false},
		{"identity", false},
		{"", false},
	} {
		res := get(t, h, "GET", "/licenses.txt", "Accept-Encoding", c.accept)
		if zipped := res.Header.Get("Content-Encoding") == "gzip"; zipped != c.want {
			t.Errorf("Accept-Encoding %q: gzip %v, want %v", c.accept, zipped, c.want)
			continue
		}
		got := body(t, res)
		if c.want {
			zr, err := gzip.NewReader(strings.NewReader(got))
			if err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			if _, err := io.Copy(&buf, zr); err != nil {
				t.Fatal(err)
			}
			got = buf.String()
		}
		if got != plain {
			t.Errorf("Accept-Encoding %q: another body", c.accept)
		}
		if res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: no Vary", c.accept)
		}
	}
}

// TestScriptSize holds each page to its promise: so much JavaScript as it goes over the wire, and no more.
func TestScriptSize(t *testing.T) {
	for page, most := range map[string]int{"/": 60 * 1024, "/fleet": 40 * 1024, "/runtime": 40 * 1024} {
		total := 0
		for _, m := range regexp.MustCompile(`src="/([^"]+\.js)"`).FindAllStringSubmatch(body(t, get(t, Handler(), "GET", page)), -1) {
			total += len(load()[m[1]].zipped)
		}
		if total == 0 || total > most {
			t.Errorf("%s loads %d bytes of gzipped JavaScript, want 1 to %d", page, total, most)
		}
	}
}

func TestReadAssetsRefusesWhatItCannotServe(t *testing.T) {
	index := &fstest.MapFile{Data: []byte("<!doctype html>")}
	for _, c := range []struct {
		name, want string
		fs         fstest.MapFS
	}{
		{"no folder", "read web files", fstest.MapFS{}},
		{"no index", "no index.html", fstest.MapFS{"dist/a.js": {Data: []byte("1")}}},
		{"unknown type", "unknown type of file", fstest.MapFS{"dist/index.html": index, "dist/a.wasm": {Data: []byte("1")}}},
		{"a folder", "read web file sub", fstest.MapFS{"dist/index.html": index, "dist/sub/a.js": {Data: []byte("1")}}},
	} {
		if _, err := readAssets(c.fs, "dist"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}
