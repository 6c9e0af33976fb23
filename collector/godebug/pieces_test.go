package godebug

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// pieces cuts a line as the runtime writes it: words and numbers one by one.
func pieces(line string) (out []string) {
	start := 0
	for i := 1; i < len(line); i++ {
		number := func(b byte) bool { return b >= '0' && b <= '9' || b == '.' }
		if number(line[i]) != number(line[i-1]) {
			out, start = append(out, line[start:i]), i
		}
	}
	return append(out, line[start:])
}

func runPieces(t *testing.T, writes []string) (own string, lines []string, p *Pieces) {
	t.Helper()
	var out bytes.Buffer
	p = NewPieces(AllTraces, func(b []byte) error { out.Write(b); return nil }, func(text []byte, _ *Line) { lines = append(lines, string(text)) })
	for _, w := range writes {
		if err := p.Write([]byte(w)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String(), lines, p
}

func TestPieces(t *testing.T) {
	g, s := pieces(gc1), pieces(sched)
	for _, tc := range []struct {
		name   string
		writes []string
		own    string
		lines  []string
		torn   int
	}{
		{"alone", g, "", []string{gc1}, 0},
		{"in the middle of a line of the program", slices.Concat([]string{"half"}, g, []string{" end\n"}), "half end\n", []string{gc1}, 0},
		{"torn often", slices.Concat(g[:1], []string{"a\nb"}, g[1:2], []string{"c"}, g[2:9], []string{"d\n", "e\n"}, g[9:20], []string{"42 things\n"}, g[20:]), "a\nbcd\ne\n42 things\n", []string{gc1}, 0},
		{"one in another", slices.Concat(s[:9], g, s[9:]), "", []string{gc1, sched}, 0},
		{"one write is the program's", []string{gc1, "x gc 2 @0.1s", "gc ", "is fun\n"}, gc1 + "x gc 2 @0.1sgc is fun\n", nil, 0},
		{"a prompt like a trace", []string{"gc "}, "gc ", nil, 0},
		{"it never ends", slices.Concat(g[:12], []string{"hello"}), "hello", nil, 1},
		{"forced", []string{"GC forced", "\n", "GC forced later\n"}, "GC forced later\n", []string{"GC forced\n"}, 0},
	} {
		own, lines, p := runPieces(t, tc.writes)
		if own != tc.own || !slices.Equal(lines, tc.lines) || p.Torn != tc.torn {
			t.Errorf("%s: %q %q, %d torn; want %q %q, %d", tc.name, own, lines, p.Torn, tc.own, tc.lines, tc.torn)
		}
	}
}

func TestPiecesHold(t *testing.T) {
	var out bytes.Buffer
	p := NewPieces(Traces{GC: 1}, func(b []byte) error { out.Write(b); return nil }, func([]byte, *Line) {})
	now := time.Unix(1, 0)
	for _, tc := range []struct {
		write, passed string
		held          bool
	}{{"loading", "loading", false}, {"gc ", "", true}, {"more", "", true}} {
		out.Reset()
		if err := p.Write([]byte(tc.write)); err != nil {
			t.Fatal(err)
		}
		if wait, held := p.Wait(now); out.String() != tc.passed || held != tc.held || held && wait != holdPieces {
			t.Errorf("%q: passed %q, held %v for %v", tc.write, out.String(), held, wait)
		}
	}
	if err := p.Expire(); err != nil || out.String() != "gc more" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if _, held := p.Wait(now); held {
		t.Error("still held")
	}
}

func FuzzPieces(f *testing.F) {
	f.Add("a\nb", uint64(1))
	f.Add("gc ", uint64(2))
	f.Add(gc2, uint64(3))
	f.Fuzz(func(t *testing.T, own string, seed uint64) {
		// The program's writes anywhere between those of two lines: what it wrote comes out as it was, whatever it is, unless it continues a line.
		r := rand.New(rand.NewPCG(seed, 0))
		var writes []string
		total := 0
		for _, piece := range append(pieces(gc1), pieces(gc2)...) {
			for r.IntN(3) == 0 {
				writes = append(writes, own)
				total += len(own)
			}
			writes = append(writes, piece)
		}
		got, lines, p := runPieces(t, writes)
		if p.Torn == 0 && len(got)+len(strings.Join(lines, "")) != total+len(gc1)+len(gc2) {
			t.Fatalf("%q %q", got, lines)
		}
	})
}
