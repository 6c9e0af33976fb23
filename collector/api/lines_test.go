package api

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/internal/catalog"
)

func linesChunk(t *testing.T, key, instance string, from int64, text string) catalog.LineChunk {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return catalog.LineChunk{Key: key, Service: "cart", Instance: instance, Source: "stderr", From: from, To: from + 2000, Count: strings.Count(text, "\n"), Bytes: len(text), Data: b.Bytes()}
}

func TestLines(t *testing.T) {
	f := filled(t, nil)
	f.h.RegisterLines(f.mux, f.cat)
	at := now.UnixMilli() - 60_000
	if err := f.cat.PutLines(t.Context(), []catalog.LineChunk{
		linesChunk(t, "a", "i1", at, fmt.Sprintf("%d\tgc 1 @0.1s\n%d\tSCHED 0ms\n%d\tgc 2 @0.2s\n", at, at+1000, at+2000)),
		linesChunk(t, "b", "i2", at+500, "gc 1 of another\n"+strings.Repeat("x", maxLine+10)+"\nlast"),
	}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		query string
		want  string // texts, cut, and whether there are more
	}{
		{"service=cart", "gc 1 @0.1s|SCHED 0ms|gc 2 @0.2s|gc 1 of another|xxxxxxxxxxxxxxxxxxxx|last|false"},
		{"instance=i1&grep=^gc", "gc 1 @0.1s|gc 2 @0.2s|false"},
		{"instance=i1&grep=^gc&limit=1", "gc 1 @0.1s|true"},
		{fmt.Sprintf("instance=i1&from=%d&to=%d", at+1, at+2000), "SCHED 0ms|false"},
		{"service=billing", "false"},
	} {
		var got linesAnswer
		if status, body := f.ask(t, "GET", "/api/v1/lines?"+tc.query, &got); status != 200 {
			t.Errorf("%s: %d %s", tc.query, status, body)
			continue
		}
		var texts []string
		for _, l := range got.Lines {
			texts = append(texts, l.Text[:min(len(l.Text), 20)])
			if l.Service != "cart" || l.Source != "stderr" || l.Time < at {
				t.Errorf("%s: %+v", tc.query, l)
			}
		}
		if s := strings.Join(append(texts, fmt.Sprint(got.More)), "|"); s != tc.want {
			t.Errorf("%s: %q, want %q", tc.query, s, tc.want)
		}
	}
	for _, query := range []string{"grep=(", "limit=0", "limit=50001", "from=now&to=now-1h", "what=1"} {
		if status, body := f.ask(t, "GET", "/api/v1/lines?"+query, nil); status != 400 {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}
