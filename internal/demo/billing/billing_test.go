package billing

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestInvoice(t *testing.T) {
	srv := httptest.NewServer(Handler())
	defer srv.Close()
	resp, err := http.Post(srv.URL+"/invoice", "application/json", strings.NewReader(`{"number":7,"name":"ann","items":[{"text":"pen","amount":120},{"text":"ink","amount":305}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Size  int
		CRC32 uint32
		Total int
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Total != 425 || got.Size == 0 || got.CRC32 == 0 {
		t.Errorf("answer = %+v, want a total of 425, a size and a checksum", got)
	}
}

// TestNothingToScrape is the point of this service.
func TestNothingToScrape(t *testing.T) {
	srv := httptest.NewServer(Handler())
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/debug/pprof/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET /debug/pprof/ = %d, want 404", resp.StatusCode)
	}
}
