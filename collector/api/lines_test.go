package api

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"slices"
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
		{"service=cart", "gc 1 @0.1s|gc 1 of another|xxxxxxxxxxxxxxxxxxxx|last|SCHED 0ms|gc 2 @0.2s|false"},
		{"instance=i1&grep=^gc", "gc 1 @0.1s|gc 2 @0.2s|false"},
		{"instance=i1&grep=^gc&limit=1", "gc 1 @0.1s|true"},
		{fmt.Sprintf("instance=i1&from=%d&to=%d", at+1, at+2000), "SCHED 0ms|false"},
		{"service=billing", "false"},
		{"service=cart&limit=2", "gc 1 @0.1s|gc 1 of another|true"},
		{"service=cart&limit=2&order=newest", "SCHED 0ms|gc 2 @0.2s|true"},
		{"service=cart&order=newest&grep=gc", "gc 1 @0.1s|gc 1 of another|gc 2 @0.2s|false"},
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
	for _, query := range []string{"grep=(", "limit=0", "limit=50001", "from=now&to=now-1h", "what=1", "order=last"} {
		if status, body := f.ask(t, "GET", "/api/v1/lines?"+query, nil); status != 400 {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// Two processes print at once, each into chunks of its own, and one of them tells a line late: what is read page by page, from either end, is all lines by their times.
func TestLinesPages(t *testing.T) {
	f := filled(t, nil)
	f.h.RegisterLines(f.mux, f.cat)
	at := now.UnixMilli() - 600_000
	var chunks []catalog.LineChunk
	var want []string
	for k := range int64(20) {
		from := at + 10_000*k
		a, b := fmt.Sprintf("%d\ta%d late\n%d\ta%d\n", from+9000, k, from, k), fmt.Sprintf("%d\tb%d\n%d\tb%d again\n", from+5000, k, from+14_500, k)
		c, d := linesChunk(t, fmt.Sprint("a", k), "i1", from, a), linesChunk(t, fmt.Sprint("b", k), "i2", from+5000, b)
		c.To, d.To = from+9000, from+14_500
		chunks = append(chunks, c, d)
	}
	if err := f.cat.PutLines(t.Context(), chunks); err != nil {
		t.Fatal(err)
	}
	read := func(query string) linesAnswer {
		t.Helper()
		var got linesAnswer
		if status, body := f.ask(t, "GET", "/api/v1/lines?service=cart&"+query, &got); status != 200 {
			t.Fatalf("%s: %d %s", query, status, body)
		}
		return got
	}
	texts := func(lines []lineJSON) (out []string) {
		for _, l := range lines {
			out = append(out, l.Text)
		}
		return out
	}
	all := read("limit=1000")
	if want = texts(all.Lines); len(want) != 80 || !slices.IsSortedFunc(all.Lines, func(a, b lineJSON) int { return cmp.Compare(a.Time, b.Time) }) {
		t.Fatalf("all lines: %d, %v", len(want), want)
	}
	for _, limit := range []int{1, 3, 7, 79, 80} {
		var up, down []string
		for next, more := at, true; more; {
			a := read(fmt.Sprintf("limit=%d&from=%d", limit, next))
			up, next, more = append(up, texts(a.Lines)...), a.Next, a.More
		}
		for next, more := now.UnixMilli(), true; more; {
			a := read(fmt.Sprintf("limit=%d&order=newest&to=%d", limit, next))
			down, next, more = append(texts(a.Lines), down...), a.Next, a.More
		}
		if !slices.Equal(up, want) || !slices.Equal(down, want) {
			t.Errorf("limit %d: oldest first %v\nnewest first %v\nwant %v", limit, up, down, want)
		}
	}
}
