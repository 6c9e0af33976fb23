package cart

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func post(t *testing.T, h http.Handler, path, body string) (int, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return rec.Code, rec.Body.String()
}

func TestCartAddsUp(t *testing.T) {
	c := New()
	post(t, c, "/cart/a", `[{"sku":"book-1","quantity":1,"price":500},{"sku":"toy-2","quantity":1,"price":900}]`)
	code, body := post(t, c, "/cart/a", `[{"sku":"book-1","quantity":2,"price":500}]`)
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	var got struct {
		Items      []Item
		AlsoBought []string `json:"also_bought"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := []Item{{"book-1", 3, 500}, {"toy-2", 1, 900}}
	if fmt.Sprint(got.Items) != fmt.Sprint(want) || len(got.AlsoBought) != 2 {
		t.Errorf("cart = %+v, want %v and two recommendations", got, want)
	}
	if code, _ := post(t, c, "/cart/a", `{`); code != http.StatusBadRequest {
		t.Errorf("a broken body = %d, want 400", code)
	}
}

func TestCartsAreBounded(t *testing.T) {
	c := New()
	for i := range maxCarts + 50 {
		post(t, c, fmt.Sprintf("/cart/c%d", i), `[{"sku":"book-1","quantity":1,"price":5}]`)
	}
	if len(c.carts) != maxCarts || len(c.order) != maxCarts {
		t.Errorf("%d carts, %d ids, want %d of each", len(c.carts), len(c.order), maxCarts)
	}
}

func TestLeakIsBounded(t *testing.T) {
	c := New()
	c.leaked = MaxLeaked - 2 // so that the test leaks no more goroutines than it needs
	for range 5 {
		post(t, c, "/cart/a?coupon=spring", `[]`)
	}
	post(t, c, "/cart/a", `[]`)
	if got := c.Leaked(); got != MaxLeaked {
		t.Errorf("leaked %d goroutines, want %d", got, MaxLeaked)
	}
}
