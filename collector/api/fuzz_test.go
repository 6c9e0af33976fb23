package api

import (
	"net/http/httptest"
	"net/url"
	"testing"
)

// FuzzCursor gives the list of processes cursors that nobody was given.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "e30", "bnVsbA", "eyJzIjoic2VydmljZSIsInIiOlsiYSIsImEiLCJuIiwiaSJdfQ", "x!"} {
		f.Add(seed, "service")
	}
	f.Add("eyJzIjoiLXBpZCIsInIiOlsiMSIsIiIsIiIsIiJdfQ", "-pid")
	h := New(Config{})
	f.Fuzz(func(t *testing.T, cursor, sort string) {
		r := httptest.NewRequest("GET", "/?"+url.Values{"cursor": {cursor}, "sort": {sort}}.Encode(), nil)
		p := h.params(r, "cursor", "sort")
		by := p.order()
		after := p.cursor(by)
		if p.err != nil {
			return
		}
		a, b := &member{}, &member{}
		a.Service, b.Service, a.Instance, b.Instance = "a", "b", "1", "2"
		page, next := by.page([]*member{b, a}, after, 1)
		if len(page) > 1 || next != "" && len(page) == 0 {
			t.Errorf("a page of %d with next %q", len(page), next)
		}
	})
}
