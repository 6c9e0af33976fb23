package receive

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/wire"
)

// maxSourceBytes bounds where lines are from: a path, or a word.
const maxSourceBytes = 1024

// checkParts checks the metrics and the lines that m lists, and that no two parts have one name.
func (h *Handler) checkParts(m *wire.Meta) error {
	if len(m.Lines) > wire.MaxLinesParts {
		return tooManyIn("parts of lines", "max_lines_parts", wire.MaxLinesParts, len(m.Lines))
	}
	for i, l := range m.Lines {
		what := fmt.Sprintf("lines %.64q", l.Part)
		switch {
		case l.Count <= 0 || l.Count > wire.MaxLinesBytes:
			return wrongMeta("%s: count %d, want 1 to %d", what, l.Count, wire.MaxLinesBytes)
		case l.Source == "" || len(l.Source) > maxSourceBytes || !utf8.ValidString(l.Source):
			return wrongMeta("lines[%d].source: want UTF-8 of 1 to %d bytes", i, maxSourceBytes)
		case l.Labels == nil && !hasSubject(m):
			return wrongMeta("%s: of no process", what)
		}
		if err := h.checkInterval(what, l.From, l.To+1); err != nil { // of one line the two are the same
			return err
		}
	}
	seen := make(map[string]bool, len(m.Lines)+1)
	for _, p := range m.Parts() {
		switch {
		case p.Name == "" || p.Name == "meta" || len(p.Name) > 64:
			return wrongMeta("%s: %.64q cannot name a part", p.Kind, p.Name)
		case seen[p.Name]:
			return wrongMeta("part %q is listed twice", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// hasSubject reports whether m is about a process, whether its object is there or not.
func hasSubject(m *wire.Meta) bool {
	return m.Instance != "" || len(m.Profiles) > 0 || hasProcess(m)
}

// lines checks a part of lines of the process with labels ls.
func (q *request) lines(l *wire.Lines, raw []byte, ls labels.Labels) (wire.LinesChunk, error) {
	what := fmt.Sprintf("lines %q", l.Part)
	text, err := q.gunzipPart(what, raw, "max_lines_bytes", wire.MaxLinesBytes)
	if err != nil {
		return wire.LinesChunk{}, err
	}
	if n := bytes.Count(text, []byte{'\n'}); n != l.Count || len(text) == 0 || text[len(text)-1] != '\n' {
		return wire.LinesChunk{}, reply.Errorf(http.StatusUnprocessableEntity, "%s: meta says %d lines, %d came, each ended by a line break", what, l.Count, n)
	}
	if l.Labels != nil {
		if ls, err = q.h.labels(l.Labels, l.Labels[instanceLabel]); err != nil {
			return wire.LinesChunk{}, err
		}
	}
	return wire.LinesChunk{Process: ls, Source: l.Source, From: l.From, To: l.To, Count: l.Count, Gzip: raw, TextBytes: len(text)}, nil
}

// putLines keeps the lines of a push, before the push is stored: a chunk that comes again is known by what it holds.
func (h *Handler) putLines(ctx context.Context, chunks []wire.LinesChunk) error {
	for _, c := range chunks {
		if h.cfg.Lines == nil {
			h.metrics.lines.WithLabelValues("dropped").Add(float64(c.Count))
			continue
		}
		if err := h.cfg.Lines.AppendLines(ctx, c); err != nil {
			if _, err = h.stored(ctx, err); err != nil {
				return err
			}
		}
		h.metrics.lines.WithLabelValues("kept").Add(float64(c.Count))
	}
	return nil
}
