package receive

import (
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/profiles/store"
)

type pushAnswer struct {
	Status   string `json:"status"`
	Settings any    `json:"settings"` // null: none
}

// push answers POST /api/v1/push.
func (h *Handler) push(q *request) (any, error) {
	mr, err := multipartReader(q)
	if err != nil {
		return nil, err
	}
	raw, m, err := q.readMeta(mr)
	if err != nil {
		return nil, err
	}
	if h.cfg.Relay != nil {
		return h.relayPush(q, mr, raw, m)
	}
	ctx := q.r.Context()
	k, p, err := h.subject(ctx, m, h.cfg.Now().UnixMilli(), h.lookUp)
	if err != nil {
		// The agent is about to send the window again: let it finish this one, so that it reads the answer.
		_, _ = io.Copy(io.Discard, q.body)
		return nil, err
	}
	raws, err := q.readParts(mr, m)
	if err != nil {
		return nil, err
	}
	e, err := q.decodeParts(m, raws, k.labels)
	if err != nil {
		return nil, err
	}
	if err := h.putSeen(ctx, m); err != nil {
		return nil, err
	}
	if err := h.putExtras(ctx, e); err != nil {
		return nil, err
	}
	p.Profiles = e.profiles
	p.Taken = q.release
	duplicate, err := h.append(ctx, p)
	if err != nil {
		return nil, err
	}
	answer := pushAnswer{Status: wire.StatusOK}
	if duplicate {
		answer.Status = wire.StatusDuplicate
	} else {
		h.remember(m, k)
	}
	if s := h.settings(k); s != nil {
		answer.Settings = s
	}
	return answer, nil
}

// remember keeps what was stored of m's process. Only then: a process object that came with a push that failed is not in the catalogue.
func (h *Handler) remember(m *wire.Meta, k known) {
	if m.Instance != "" {
		k.stats = m.Stats
		h.metrics.losses(h.known.put(m.Instance, k), m.Stats)
	}
}

func (h *Handler) settings(k known) *Settings {
	if h.cfg.Settings == nil {
		return nil
	}
	return h.cfg.Settings(k.labels)
}

func multipartReader(q *request) (*multipart.Reader, error) {
	ct := q.r.Header.Get("Content-Type")
	mt, params, err := mime.ParseMediaType(ct)
	if err != nil || mt != "multipart/form-data" {
		return nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("content type %.100q, want multipart/form-data", ct),
			Hint: "single profiles go to /api/v1/profiles"}
	}
	if b := params["boundary"]; b == "" || len(b) > 70 {
		return nil, reply.Errorf(http.StatusBadRequest, "multipart boundary of %d bytes, want 1 to 70", len(b))
	}
	return multipart.NewReader(q.body, params["boundary"]), nil
}

// readMeta reads and checks the first part, and returns it as it came too.
func (q *request) readMeta(mr *multipart.Reader) ([]byte, *wire.Meta, error) {
	part, err := mr.NextRawPart()
	if err != nil {
		return nil, nil, readError("multipart body", err)
	}
	if part.FormName() != "meta" {
		return nil, nil, reply.Errorf(http.StatusBadRequest, "the first part is named %.100q, want meta", part.FormName())
	}
	raw, err := q.readAll("meta", io.LimitReader(part, maxMetaBytes+1), maxProfiles)
	if err != nil {
		return nil, nil, err
	}
	m, err := q.h.parseMeta(raw)
	if err == nil {
		err = q.h.checkMeta(m, false)
	}
	return raw, m, err
}

// decoded is what the parts of a push hold.
type decoded struct {
	profiles []store.Profile
	metrics  *series.Batch // nil: none
	lines    []wire.LinesChunk
}

// decodeParts decodes the parts that m lists. ls are the labels of its process.
func (q *request) decodeParts(m *wire.Meta, raws [][]byte, ls labels.Labels) (d decoded, err error) {
	if d.profiles, err = q.decodeAll(m.Profiles, raws, ls); err != nil {
		return d, err
	}
	raws = raws[len(m.Profiles):]
	if m.Metrics != "" {
		if d.metrics, err = q.metrics(raws[0], ls); err != nil {
			return d, err
		}
		raws = raws[1:]
	}
	for i := range m.Lines {
		c, err := q.lines(&m.Lines[i], raws[i], ls)
		if err != nil {
			return d, err
		}
		d.lines = append(d.lines, c)
	}
	return d, nil
}

// putExtras keeps what of a push is kept besides profiles.
func (h *Handler) putExtras(ctx context.Context, d decoded) error {
	if err := h.putSeries(ctx, d.metrics); err != nil {
		return err
	}
	return h.putLines(ctx, d.lines)
}

// decodeAll decodes the profiles that entries list, once all are there: nobody holds decoded profiles while a body is slow to come. ls are the labels
// of those that have none of their own.
func (q *request) decodeAll(entries []wire.Entry, raws [][]byte, ls labels.Labels) ([]store.Profile, error) {
	if err := q.startWork(); err != nil {
		return nil, err
	}
	out := make([]store.Profile, len(entries))
	for i, e := range entries {
		p, err := q.decode(partName(e.Part), raws[i])
		if err != nil {
			return nil, err
		}
		if e.Weight > 1 {
			if err := p.Scale(e.Weight); err != nil {
				return nil, q.decodeError(partName(e.Part), err)
			}
		}
		own := ls
		if e.Labels != nil {
			if own, err = q.h.labels(e.Labels, e.Labels[instanceLabel]); err != nil {
				return nil, err
			}
		}
		out[i] = store.Profile{Labels: store.Weighted(own, e.Weight), Type: e.Type, Start: e.Start, End: e.End, Data: p}
	}
	return out, nil
}

// partName is what errors call a part.
func partName(part string) string { return called(wire.Part{Name: part, Kind: wire.PartProfile}) }

func called(p wire.Part) string { return fmt.Sprintf("%s %q", p.Kind, p.Name) }

// readParts reads exactly the parts that m lists, in any order, and returns them in that of the list.
func (q *request) readParts(mr *multipart.Reader, m *wire.Meta) ([][]byte, error) {
	parts := m.Parts()
	out := make([][]byte, len(parts))
	for n := 0; ; n++ {
		part, err := mr.NextRawPart()
		if err == io.EOF { // itself, after the last boundary; a body that is cut short wraps it
			if n < len(parts) {
				return nil, reply.Errorf(http.StatusUnprocessableEntity, "meta lists %d parts, %d came", len(parts), n)
			}
			return out, nil
		}
		if err != nil {
			return nil, readError("multipart body", err)
		}
		name := part.FormName()
		i := 0
		for i < len(parts) && parts[i].Name != name {
			i++
		}
		switch {
		case i == len(parts):
			return nil, reply.Errorf(http.StatusUnprocessableEntity, "part %.64q is not listed in meta", name)
		case out[i] != nil:
			return nil, reply.Errorf(http.StatusUnprocessableEntity, "part %q came twice", name)
		}
		if out[i], err = q.readAll(called(parts[i]), part, len(parts)); err != nil {
			return nil, err
		}
	}
}
