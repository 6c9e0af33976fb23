package checkout

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestOrder holds for both versions: go test -tags checkout_v2 runs it on the second.
func TestOrder(t *testing.T) {
	srv := httptest.NewServer(Handler())
	defer srv.Close()
	order := `{"customer":"a","lines":[{"sku":"book-1","quantity":2,"price":1000},{"sku":"lamp-7","quantity":1,"price":5000},{"sku":"none-1","quantity":1,"price":10}]}`
	resp, err := http.Post(srv.URL+"/order", "application/json", strings.NewReader(order))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got Receipt
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if want := 2*950 + 4000 + 10; got.Total != want {
		t.Errorf("total = %d, want %d", got.Total, want)
	}
	if got.Version != version || got.ID == "" || got.Lines[0].SKU != "lamp-7" {
		t.Errorf("receipt = %+v, want version %s, an id, and the lamp first", got, version)
	}
}

func TestOrderRefused(t *testing.T) {
	srv := httptest.NewServer(Handler())
	defer srv.Close()
	resp, err := http.Post(srv.URL+"/order", "application/json", strings.NewReader(`{"lines":`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status = %d, want 400", resp.StatusCode)
	}
}

func TestServesProfiles(t *testing.T) {
	srv := httptest.NewServer(Handler())
	defer srv.Close()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap"} {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("GET %s = %d, want 200", path, resp.StatusCode)
		}
	}
}
