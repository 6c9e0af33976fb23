package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

//go:embed dist
var dist embed.FS

// csp lets the page load its own script, style sheet and API, and nothing else. There is no inline script or style.
const csp = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// hashed matches the names that hold their content's hash: they never change.
var hashed = regexp.MustCompile(`-[0-9a-f]{12}\.(js|css)$`)

// asset is one file of dist, ready to be sent.
type asset struct {
	plain, zipped []byte // zipped is nil where it would not be smaller
	contentType   string
	etag          string
	cache         string
}

var load = sync.OnceValue(func() map[string]asset {
	assets, err := readAssets(dist, "dist")
	if err != nil {
		panic(err) // the embedded files are part of the binary: only a broken build comes here
	}
	return assets
})

// Handler serves the pages, / (the explorer), /fleet and /runtime, and the embedded files beside them, by GET and HEAD; 404 for every other path. Files with a hash in their name may be kept for ever,
// the others are revalidated by ETag. It is safe for concurrent use and allocates nothing per request but headers.
func Handler() http.Handler {
	return serve(load())
}

func serve(assets map[string]asset) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", csp)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		switch name {
		case "":
			name = "index.html"
		case "fleet", "runtime":
			name += ".html"
		}
		a, ok := assets[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		a.write(w, r)
	})
}

func (a asset) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", a.cache)
	h.Set("ETag", a.etag)
	h.Set("Vary", "Accept-Encoding")
	if matches(r.Header.Get("If-None-Match"), a.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.contentType)
	body := a.plain
	if a.zipped != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body = a.zipped
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		w.Write(body) // an error here is the reader's leaving: nobody to tell
	}
}

// matches reports whether an If-None-Match header names etag, by the weak comparison that RFC 9110 asks for there.
func matches(header, etag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		if t = strings.TrimSpace(t); t == "*" || strings.TrimPrefix(t, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}

func acceptsGzip(header string) bool {
	for coding := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q, isQ := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			f, err := strconv.ParseFloat(q, 64)
			return !isQ || (err == nil && f > 0)
		}
	}
	return false
}

func readAssets(fsys fs.FS, dir string) (map[string]asset, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("read web files: %w", err)
	}
	assets := make(map[string]asset, len(entries))
	for _, e := range entries {
		data, err := fs.ReadFile(fsys, dir+"/"+e.Name())
		if err != nil {
			return nil, fmt.Errorf("read web file %s: %w", e.Name(), err)
		}
		a, err := newAsset(e.Name(), data)
		if err != nil {
			return nil, err
		}
		assets[e.Name()] = a
	}
	if _, ok := assets["index.html"]; !ok {
		return nil, fmt.Errorf("read web files: no index.html")
	}
	return assets, nil
}

// types holds the content types by extension: the machine's own table may say otherwise.
var types = map[string]string{
	"html": "text/html; charset=utf-8",
	"js":   "text/javascript; charset=utf-8",
	"css":  "text/css; charset=utf-8",
	"svg":  "image/svg+xml",
	"txt":  "text/plain; charset=utf-8",
}

func newAsset(name string, data []byte) (asset, error) {
	ext := name[strings.LastIndexByte(name, '.')+1:]
	contentType, ok := types[ext]
	if !ok {
		return asset{}, fmt.Errorf("read web file %s: unknown type of file", name)
	}
	sum := sha256.Sum256(data)
	a := asset{plain: data, contentType: contentType, etag: `W/"` + hex.EncodeToString(sum[:8]) + `"`, cache: "no-cache"}
	if hashed.MatchString(name) {
		a.cache = "public, max-age=31536000, immutable"
	}
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return asset{}, fmt.Errorf("compress web file %s: %w", name, err)
	}
	if _, err := zw.Write(data); err != nil {
		return asset{}, fmt.Errorf("compress web file %s: %w", name, err)
	}
	if err := zw.Close(); err != nil {
		return asset{}, fmt.Errorf("compress web file %s: %w", name, err)
	}
	if buf.Len() < len(data) {
		a.zipped = buf.Bytes()
	}
	return a, nil
}
