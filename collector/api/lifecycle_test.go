package api

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/backup"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
)

// keepingFixture has the endpoints that change things too.
func keepingFixture(t *testing.T) (*fixture, *backup.Host) {
	f := newFixture(t, nil)
	dir := t.TempDir()
	blobs, err := blob.OpenFiles(fsys.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	host := &backup.Host{Dir: dir, Catalog: f.cat.(*catalog.DB), Blobs: blobs}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	f.h.RegisterKeeping(f.mux, f.st, host)
	return f, host
}

// ask sends a request and decodes the answer.
func (f *fixture) ask(t *testing.T, method, path string, into any) (status int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil && w.Code == 200 {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, b)
		}
	}
	return w.Code, string(b)
}

func TestPins(t *testing.T) {
	f, _ := keepingFixture(t)
	f.push(t, "cart", "v1", "i1", 30*time.Minute, stack{"main;work", 1})
	var got struct {
		Pin struct {
			ID                      int64
			Query, Type, Note, Link string
			From, To, Created       int64
		}
		Services []string
	}
	status, body := f.ask(t, "POST", "/api/v1/pins?query=cart&type=cpu&from=now-1h&to=now&note=incident+42", &got)
	if status != 200 || got.Pin.ID != 1 || got.Pin.Query != `{service_name="cart"}` || got.Pin.Type != "cpu" || got.Pin.From != ms(time.Hour) || got.Pin.To != ms(0) || got.Pin.Note != "incident 42" ||
		strings.Join(got.Services, ",") != "cart" {
		t.Errorf("pin: %d %s", status, body)
	}
	u, err := url.Parse(got.Pin.Link)
	if err != nil || u.Query().Get("query") != got.Pin.Query || u.Query().Get("from") != "1795258800000" || u.Query().Get("to") != "1795262400000" || u.Query().Get("type") != "cpu" {
		t.Errorf("link %q: %v, want absolute times", got.Pin.Link, err)
	}
	if status, body := f.ask(t, "GET", "/api/v1/pins", nil); status != 200 || !strings.Contains(body, `"note":"incident 42"`) || !strings.Contains(body, `"link":"/?`) {
		t.Errorf("pins: %d %s", status, body)
	}
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"DELETE", "/api/v1/profiles?service=cart", 409, "sonde pin rm 1"},
		{"DELETE", "/api/v1/profiles", 400, "service or instance"},
		{"DELETE", "/api/v1/profiles?service=cart&from=now&to=now-1h", 400, "not after"},
		{"DELETE", "/api/v1/profiles?service=cart&force=maybe", 400, "force"},
		{"DELETE", "/api/v1/profiles?service=cart&force=true", 200, `"profiles":1`},
		{"POST", "/api/v1/pins?query=%7B", 400, "query"},
		{"POST", "/api/v1/pins?from=now&to=now", 400, "not after"},
		{"POST", "/api/v1/pins?note=" + strings.Repeat("x", 2000), 400, "note"},
		{"DELETE", "/api/v1/pins/x", 400, "not the id"},
		{"DELETE", "/api/v1/pins/1", 200, "ok"},
		{"DELETE", "/api/v1/pins/1", 404, "no such pin"},
	} {
		if status, body := f.ask(t, tt.method, tt.path, nil); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s %.60s: %d %s, want %d and %s", tt.method, tt.path, status, body, tt.status, tt.want)
		}
	}
	if status, body := f.ask(t, "GET", "/api/v1/services", nil); status != 200 || strings.Contains(body, "cart") {
		t.Errorf("services after the deletion: %d %s", status, body)
	}
	// Nothing is stored there: the pin is taken, and says so.
	if status, body := f.ask(t, "POST", "/api/v1/pins?query=none", nil); status != 200 || !strings.Contains(body, `"services":[]`) {
		t.Errorf("pin of nothing: %d %s", status, body)
	}
}

func TestBackups(t *testing.T) {
	f, host := keepingFixture(t)
	if err := host.Blobs.Put(t.Context(), "tombstones/T1", []byte("gone")); err != nil {
		t.Fatal(err)
	}
	var s backup.Session
	if status, body := f.ask(t, "POST", "/api/v1/backups", &s); status != 200 || len(s.Files) != 2 {
		t.Fatalf("begin: %d %s", status, body)
	}
	if status, body := f.ask(t, "GET", "/api/v1/backups/"+s.ID+"/files/blobs/tombstones/T1", nil); status != 200 || body != "gone" {
		t.Errorf("blob: %d %q", status, body)
	}
	if status, body := f.ask(t, "GET", "/api/v1/backups/"+s.ID+"/files/"+s.Catalog, nil); status != 200 || !strings.HasPrefix(body, "SQLite format 3") || int64(len(body)) != s.Files[0].Size {
		t.Errorf("catalogue: %d, %d bytes", status, len(body))
	}
	if status, _ := f.ask(t, "GET", "/api/v1/backups/"+s.ID+"/files/lock", nil); status != 404 {
		t.Errorf("a file that is not in it: %d, want 404", status)
	}
	if status, _ := f.ask(t, "DELETE", "/api/v1/backups/"+s.ID, nil); status != 200 {
		t.Errorf("end: %d", status)
	}
	if status, body := f.ask(t, "GET", "/api/v1/backups/"+s.ID+"/files/"+s.Catalog, nil); status != 404 || !strings.Contains(body, "hint") {
		t.Errorf("after the end: %d %s, want 404", status, body)
	}
}
