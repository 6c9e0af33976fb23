package catalog

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	ctx, db := t.Context(), open(t)
	chunk := func(key, service, instance string, from, to int64, size int) LineChunk {
		return LineChunk{Key: key, Service: service, Instance: instance, Source: "stderr", From: from, To: to, Count: 2, Bytes: 100, Data: bytes.Repeat([]byte("x"), size)}
	}
	all := []LineChunk{chunk("a", "cart", "i1", 100, 200, 10), chunk("b", "cart", "i2", 150, 300, 20), chunk("c", "billing", "i3", 400, 500, 30)}
	must(t, db.PutLines(ctx, all))
	must(t, db.PutLines(ctx, all[:2])) // again: kept once
	keys := func(f LineFilter) string {
		t.Helper()
		var out []string
		must(t, db.EachLines(ctx, f, func(c LineChunk) error {
			i := slices.IndexFunc(all, func(w LineChunk) bool { return w.Key == c.Key })
			if w := all[i]; c.Service != w.Service || c.From != w.From || c.To != w.To || c.Count != 2 || c.Bytes != 100 || !bytes.Equal(c.Data, w.Data) {
				t.Errorf("got %+v, want %+v", c, w)
			}
			out = append(out, c.Key)
			return nil
		}))
		return strings.Join(out, " ")
	}
	for _, tc := range []struct {
		f    LineFilter
		want string
	}{
		{LineFilter{}, "a b c"}, {LineFilter{Service: "cart"}, "a b"}, {LineFilter{Instance: "i2"}, "b"}, {LineFilter{From: 201}, "b c"}, {LineFilter{From: 200, To: 400}, "a b"},
		{LineFilter{Limit: 1}, "a"}, {LineFilter{Newest: true}, "c b a"}, {LineFilter{Newest: true, To: 400, Limit: 1}, "b"}, {LineFilter{Service: "none"}, ""},
	} {
		if got := keys(tc.f); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.f, got, tc.want)
		}
	}
	if n, size, err := db.LineBytes(ctx); err != nil || n != 3 || size != 60 {
		t.Errorf("%d chunks of %d bytes, %v", n, size, err)
	}
	if err := db.PutLines(ctx, []LineChunk{chunk("d", "cart", "", 1, 1, MaxLineChunk+1)}); err == nil {
		t.Error("a chunk that is too long was kept")
	}
	for _, tc := range []struct {
		before, maxBytes, removed int64
		want                      string
	}{{250, 0, 1, "b c"}, {0, 45, 1, "c"}, {0, 0, 0, "c"}} {
		if n, err := db.ExpireLines(ctx, tc.before, tc.maxBytes); err != nil || n != tc.removed || keys(LineFilter{}) != tc.want {
			t.Errorf("expire %d, %d: removed %d, %v, left %q", tc.before, tc.maxBytes, n, err, keys(LineFilter{}))
		}
	}
	must(t, db.PutDeletion(ctx, Deletion{ID: "d1", Service: "billing", Start: 450, End: 600}))
	if _, err := db.FinishDeletion(ctx, Deletion{ID: "d1", Service: "billing", Start: 450, End: 600}, 0); err != nil || keys(LineFilter{}) != "" {
		t.Errorf("after a deletion: %v, left %q", err, keys(LineFilter{}))
	}
}
