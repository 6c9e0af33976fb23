package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
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

// linesAnswer is some chunks' lines, oldest first.
type linesAnswer struct {
	From  int64      `json:"from"`
	To    int64      `json:"to"`
	Lines []lineJSON `json:"lines"`
	// More says that there are more, from Next on.
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
}

// errEnough ends the reading of chunks.
var errEnough = errors.New("enough")

func (h *Handler) lines(r *http.Request, store LineStore) (any, error) {
	p := h.params(r, "service", "instance", "from", "to", "grep", "limit")
	a := linesAnswer{Lines: []lineJSON{}}
	a.From, a.To = p.time("from", "now-1h"), p.time("to", "now")
	limit := p.lineLimit()
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
	text, scanned := 0, 0
	f := catalog.LineFilter{Service: p.str("service"), Instance: p.str("instance"), From: a.From, To: a.To}
	err = store.EachLines(r.Context(), f, func(c catalog.LineChunk) error {
		if scanned += c.Bytes; scanned > maxScanned {
			return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "too many lines to look through", Limit: "max_lines_scanned_bytes", Max: maxScanned, Hint: "a shorter range, or one service or instance"}
		}
		return eachLine(c, func(line []byte) error {
			at, line := lineTime(line, c.From)
			if at < a.From || at >= a.To || !grep.Match(line) {
				return nil
			}
			if text += len(line); len(a.Lines) == limit || text > maxLineBytes {
				a.More, a.Next = true, at
				return errEnough
			}
			a.Lines = append(a.Lines, lineJSON{Time: at, Service: c.Service, Instance: c.Instance, Source: c.Source, Text: string(bytes.ToValidUTF8(line, []byte("�")))})
			return nil
		})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return a, nil
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
