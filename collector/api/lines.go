package api

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
)

// LineStore is what queries of lines read; catalog.Catalog is one.
type LineStore interface {
	EachLines(ctx context.Context, f catalog.LineFilter, fn func(c catalog.LineChunk) error) error
}

const (
	defaultLines = 1000
	maxLines     = 50_000
	// maxLineBytes bounds the text of an answer, and maxScanned what is read to find it.
	maxLineBytes = 8 << 20
	maxScanned   = 512 << 20
	// maxLine bounds one line; what is longer is cut.
	maxLine = 64 << 10
)

// RegisterLines adds the endpoint of lines to mux.
func (h *Handler) RegisterLines(mux *http.ServeMux, store LineStore) {
	mux.Handle("GET /api/v1/lines", h.handle("lines", func(_ context.Context, r *http.Request) (any, error) { return h.lines(r, store) }))
}

// linesAnswer is the first lines of a range or, where the newest are asked for, the last; by time, the oldest first.
type linesAnswer struct {
	From  int64      `json:"from"`
	To    int64      `json:"to"`
	Lines []lineJSON `json:"lines"`
	// More says that there are more: with from=Next, or of the newest with to=Next, they are the next answer. Lines of that millisecond may be in both.
	More bool  `json:"more"`
	Next int64 `json:"next,omitempty"`
}

// lineJSON is one line at its own time, or, where its sender told none, at that of its chunk.
type lineJSON struct {
	Time     int64  `json:"time"`
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Source   string `json:"source"`
	Text     string `json:"text"`
	chunk    int64  // when its chunk begins
}

// errEnough ends the reading of chunks.
var errEnough = errors.New("enough")

func (h *Handler) lines(r *http.Request, store LineStore) (any, error) {
	p := h.params(r, "service", "instance", "from", "to", "grep", "limit", "order")
	a := linesAnswer{}
	a.From, a.To = p.time("from", "now-1h"), p.time("to", "now")
	picked := linePicker{limit: p.lineLimit(), newest: p.newest(), lines: []lineJSON{}}
	grep, err := regexp.Compile(p.str("grep"))
	if err != nil {
		p.fail("parameter grep: %v", err)
	}
	if p.err == nil && a.To <= a.From {
		p.fail("parameter to (%d) is not after from (%d)", a.To, a.From)
	}
	if p.err != nil {
		return nil, p.err
	}
	scanned := 0
	f := catalog.LineFilter{Service: p.str("service"), Instance: p.str("instance"), From: a.From, To: a.To, Newest: picked.newest}
	err = store.EachLines(r.Context(), f, func(c catalog.LineChunk) error {
		if picked.complete(c) {
			return errEnough
		}
		if scanned += c.Bytes; scanned > maxScanned {
			return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "too many lines to look through", Limit: "max_lines_scanned_bytes", Max: maxScanned, Hint: "a shorter range, or one service or instance"}
		}
		return eachLine(c, func(line []byte) error {
			at, line := lineTime(line, c.From)
			if at >= a.From && at < a.To && picked.wants(at) && grep.Match(line) {
				picked.add(lineJSON{Time: at, Service: c.Service, Instance: c.Instance, Source: c.Source, Text: string(bytes.ToValidUTF8(line, []byte("�"))), chunk: c.From})
			}
			return nil
		})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	picked.trim()
	a.Lines, a.More, a.Next = picked.lines, picked.more, picked.next
	return a, nil
}

// linePicker keeps the first lines by time, or the last: chunks of several processes overlap.
type linePicker struct {
	limit  int
	newest bool
	lines  []lineJSON
	text   int // bytes of lines
	more   bool
	next   int64 // where more is left out; of the newest, the millisecond after it
}

// wants tells whether a line of this time is not beyond one that was left out already.
func (k *linePicker) wants(at int64) bool {
	return !k.more || !k.newest && at < k.next || k.newest && at >= k.next
}

// complete tells whether this chunk, and all that come after it, are beyond what was left out.
func (k *linePicker) complete(c catalog.LineChunk) bool {
	return k.more && (!k.newest && c.From >= k.next || k.newest && c.To < k.next)
}

func (k *linePicker) add(l lineJSON) {
	k.lines, k.text = append(k.lines, l), k.text+len(l.Text)
	if len(k.lines) > 2*k.limit || k.text > 2*maxLineBytes {
		k.trim()
	}
}

// trim sorts the lines by time, those of a time as they were printed, and leaves out what is over the limits.
func (k *linePicker) trim() {
	slices.SortStableFunc(k.lines, func(a, b lineJSON) int { return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.chunk, b.chunk)) })
	if k.newest {
		slices.Reverse(k.lines)
	}
	n, text := 0, 0
	for n < min(len(k.lines), k.limit) && text+len(k.lines[n].Text) <= maxLineBytes {
		text += len(k.lines[n].Text)
		n++
	}
	if n < len(k.lines) {
		k.more, k.next = true, k.lines[n].Time
		if k.newest {
			k.next++
		}
	}
	k.lines, k.text = k.lines[:n], text
	if k.newest {
		slices.Reverse(k.lines)
	}
}

func (p *params) lineLimit() int {
	text := p.str("limit")
	if text == "" {
		return defaultLines
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLines {
		p.fail("parameter limit: %.20q, want 1 to %d", text, maxLines)
	}
	return n
}

func (p *params) newest() bool {
	switch order := p.str("order"); order {
	case "", "oldest":
		return false
	case "newest":
		return true
	default:
		p.fail("parameter order: %.20q, want oldest or newest", order)
		return false
	}
}

// lineTime takes the time off a line, Unix ms and a tab, as who reads traces sends them (collector/godebug).
func lineTime(line []byte, otherwise int64) (int64, []byte) {
	before, text, ok := bytes.Cut(line, []byte("\t"))
	if !ok || len(before) > 16 {
		return otherwise, line
	}
	at, err := strconv.ParseInt(string(before), 10, 64)
	if err != nil || at < 0 {
		return otherwise, line
	}
	return at, text
}

// eachLine calls fn with the lines of a chunk, without their line breaks.
func eachLine(c catalog.LineChunk, fn func(line []byte) error) error {
	z, err := gzip.NewReader(bytes.NewReader(c.Data))
	if err != nil {
		return fmt.Errorf("read lines %s: %w", c.Key, err)
	}
	r := bufio.NewReaderSize(z, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			if err := fn(bytes.TrimRight(line, "\r\n")); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			for errors.Is(err, bufio.ErrBufferFull) { // over the rest of the line
				_, err = r.ReadSlice('\n')
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read lines %s: %w", c.Key, err)
			}
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read lines %s: %w", c.Key, err)
		}
	}
}
