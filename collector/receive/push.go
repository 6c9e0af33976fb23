package receive

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

const (
	maxMetaBytes = 1 << 20 // of the meta object; build info of a program with 1,000 modules is 100 KB
	maxProfiles  = 64      // in one push
)

// meta is the first part of a push; ARCHITECTURE.md documents it.
type meta struct {
	V           int             `json:"v"`
	Instance    string          `json:"instance"`
	Window      uint64          `json:"window"`
	Part        uint32          `json:"part"`
	Start       int64           `json:"start"`
	End         int64           `json:"end"`
	ProcessHash string          `json:"process_hash"`
	Process     json.RawMessage `json:"process"`
	Profiles    []profileJSON   `json:"profiles"`
	Stats       stats           `json:"stats"`
}

type profileJSON struct {
	Part  string `json:"part"`
	Type  string `json:"type"`
	Start int64  `json:"start"`
	End   int64  `json:"end"`
}

// stats is what an agent says about itself; the counters count from its start.
type stats struct {
	WindowsDropped int64             `json:"windows_dropped"`
	WindowsFailed  int64             `json:"windows_failed"`
	LabelsStripped int64             `json:"labels_stripped"`
	CaptureCPUMs   int64             `json:"capture_cpu_ms"`
	Skipped        map[string]string `json:"skipped"`
}

type pushAnswer struct {
	Status   string    `json:"status"`
	Settings *Settings `json:"settings"`
}

// push answers POST /api/v1/push.
func (h *Handler) push(q *request) (any, error) {
	mr, err := multipartReader(q)
	if err != nil {
		return nil, err
	}
	m, err := q.readMeta(mr)
	if err != nil {
		return nil, err
	}
	ctx := q.r.Context()
	k, row, build, err := h.process(ctx, m)
	if err != nil {
		// The agent is about to send the window again: let it finish this one, so that it reads the answer.
		_, _ = io.Copy(io.Discard, q.body)
		return nil, err
	}
	p := store.Push{Key: catalog.Key{Instance: m.Instance, Window: m.Window, Part: m.Part}, Process: row, Build: build}
	if p.Profiles, err = q.readProfiles(mr, m.Profiles); err != nil {
		return nil, err
	}
	for i := range p.Profiles {
		p.Profiles[i].Labels = k.labels
	}
	p.Taken = q.release
	duplicate, err := h.append(ctx, p)
	if err != nil {
		return nil, err
	}
	answer := pushAnswer{Status: "ok"}
	if duplicate {
		answer.Status = "duplicate"
	} else {
		// Only now: a process object that came with a push that failed is not in the catalogue.
		k.stats = m.Stats
		h.metrics.losses(h.known.put(m.Instance, k), m.Stats)
	}
	if h.cfg.Settings != nil {
		answer.Settings = h.cfg.Settings(k.labels)
	}
	return answer, nil
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

// readMeta reads and checks the first part.
func (q *request) readMeta(mr *multipart.Reader) (*meta, error) {
	part, err := mr.NextRawPart()
	if err != nil {
		return nil, readError("multipart body", err)
	}
	if part.FormName() != "meta" {
		return nil, reply.Errorf(http.StatusBadRequest, "the first part is named %.100q, want meta", part.FormName())
	}
	raw, err := q.readAll("meta", io.LimitReader(part, maxMetaBytes+1), maxProfiles)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxMetaBytes {
		return nil, &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the meta part is too large", Limit: "max_meta_bytes", Max: maxMetaBytes}
	}
	m := new(meta)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "read meta: %v", err)
	}
	return m, q.h.checkMeta(m)
}

func (h *Handler) checkMeta(m *meta) error {
	wrong := func(format string, args ...any) error {
		return reply.Errorf(http.StatusUnprocessableEntity, "meta: "+format, args...)
	}
	switch {
	case m.V != 1:
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: fmt.Sprintf("meta: version %d of the format is not known, want 1", m.V), Hint: "update the collector"}
	case !isHex(m.Instance, 32):
		return wrong("instance %.64q is not 32 hex digits", m.Instance)
	case m.Window == 0 || m.Window > 1<<62:
		return wrong("window %d, they count from 1", m.Window)
	case !isHex(m.ProcessHash, 16):
		return wrong("process_hash %.64q is not 16 hex digits", m.ProcessHash)
	case len(m.Profiles) > maxProfiles:
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "meta: too many profiles", Limit: "max_profiles", Max: maxProfiles, Got: int64(len(m.Profiles))}
	}
	if err := h.checkInterval("meta", m.Start, m.End); err != nil {
		return err
	}
	for i, p := range m.Profiles {
		what := fmt.Sprintf("profile %.64q", p.Part)
		if p.Part == "" || p.Part == "meta" || len(p.Part) > 64 {
			return wrong("profiles[%d].part %.64q cannot name a part", i, p.Part)
		}
		if !profiles.ValidName(p.Type) {
			return wrong("%s: type %.64q cannot name a type of profile", what, p.Type)
		}
		if err := h.checkInterval(what, p.Start, p.End); err != nil {
			return err
		}
		for _, other := range m.Profiles[:i] {
			if other.Part == p.Part {
				return wrong("%s is listed twice", what)
			}
		}
	}
	return nil
}

// maxSkew is how far ahead of the collector's clock a sender's may be.
const maxSkew = 10 * time.Minute

// checkInterval checks [start, end), Unix ms, against itself, the clock and retention.
func (h *Handler) checkInterval(what string, start, end int64) error {
	now := h.cfg.Now().UnixMilli()
	clock := "the collector's clock says " + time.UnixMilli(now).UTC().Format(time.RFC3339)
	fail := func(hint, format string, args ...any) error {
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: what + ": " + fmt.Sprintf(format, args...), Hint: hint}
	}
	switch {
	case start <= 0:
		return fail("times are Unix milliseconds", "start %d is not a time", start)
	case end <= start:
		return fail("", "end %d is not after start %d", end, start)
	case end > now+maxSkew.Milliseconds():
		return fail(clock, "end %d is more than %v in the future", end, maxSkew)
	case end-start > (24 * time.Hour).Milliseconds():
		return fail("times are Unix milliseconds", "the interval [%d, %d) is longer than 24h", start, end)
	case h.cfg.Limits.MaxAge > 0 && end < now-h.cfg.Limits.MaxAge.Milliseconds():
		return fail(clock, "end %d is older than the retention of %v, so it would be deleted at once", end, h.cfg.Limits.MaxAge)
	}
	return nil
}

// readProfiles reads the parts after meta and decodes them once all are there: nobody holds decoded profiles while a body is slow to come.
func (q *request) readProfiles(mr *multipart.Reader, entries []profileJSON) ([]store.Profile, error) {
	raws, err := q.readParts(mr, entries)
	if err == nil {
		err = q.startWork()
	}
	if err != nil {
		return nil, err
	}
	out := make([]store.Profile, len(entries))
	for i, e := range entries {
		p, err := q.decode(partName(e.Part), raws[i])
		if err != nil {
			return nil, err
		}
		out[i] = store.Profile{Type: e.Type, Start: e.Start, End: e.End, Data: p}
	}
	return out, nil
}

// partName is what errors call a part.
func partName(part string) string { return fmt.Sprintf("profile %q", part) }

// readParts reads exactly the parts that entries list, in any order.
func (q *request) readParts(mr *multipart.Reader, entries []profileJSON) ([][]byte, error) {
	out := make([][]byte, len(entries))
	for n := 0; ; n++ {
		part, err := mr.NextRawPart()
		if err == io.EOF { // itself, after the last boundary; a body that is cut short wraps it
			if n < len(entries) {
				return nil, reply.Errorf(http.StatusUnprocessableEntity, "meta lists %d profiles, %d came", len(entries), n)
			}
			return out, nil
		}
		if err != nil {
			return nil, readError("multipart body", err)
		}
		name := part.FormName()
		i := 0
		for i < len(entries) && entries[i].Part != name {
			i++
		}
		switch {
		case i == len(entries):
			return nil, reply.Errorf(http.StatusUnprocessableEntity, "part %.64q is not listed in meta.profiles", name)
		case out[i] != nil:
			return nil, reply.Errorf(http.StatusUnprocessableEntity, "part %q came twice", name)
		}
		if out[i], err = q.readAll(partName(name), part, len(entries)); err != nil {
			return nil, err
		}
	}
}

func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
