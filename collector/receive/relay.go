package receive

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/wire"
)

// Relay takes pushes for another collector. It is safe for concurrent use.
type Relay interface {
	// Knows reports whether the process object of instance with that hash is known, so that it need not be sent again.
	Knows(instance, hash string) bool
	// Keep takes r over for good: when it returns nil, r outlives the end of this process. Nothing of r is kept in memory after that.
	Keep(ctx context.Context, r *Relayed) error
	// Settings returns what the collector last told the agent with that instance, nil: nothing.
	Settings(instance string) json.RawMessage
}

// Relayed is one push on its way. Its meta object and its interval have been checked, its parts not.
type Relayed struct {
	Meta    *wire.Meta
	Raw     []byte   // the meta object as it came, without a process object
	Process []byte   // the process object, nil where it did not come
	Parts   [][]byte // as they came, in the order of Meta.Parts
}

// relayPush hands a push to the relay.
func (h *Handler) relayPush(q *request, mr *multipart.Reader, raw []byte, m *wire.Meta) (any, error) {
	r, err := h.relayed(raw, m)
	if err != nil {
		_, _ = io.Copy(io.Discard, q.body) // so that the agent reads the answer
		return nil, err
	}
	if r.Parts, err = q.readParts(mr, m); err != nil {
		return nil, err
	}
	if err := h.keep(q, r); err != nil {
		return nil, err
	}
	answer := pushAnswer{Status: wire.StatusOK}
	if s := h.cfg.Relay.Settings(m.Instance); s != nil {
		answer.Settings = s
	}
	return answer, nil
}

// relayed checks what a station on the way can check: the process object, or that it is known.
func (h *Handler) relayed(raw []byte, m *wire.Meta) (*Relayed, error) {
	r := &Relayed{Meta: m, Raw: raw}
	if _, err := h.events(m); err != nil {
		return nil, err
	}
	if !hasProcess(m) {
		if (m.Instance != "" || len(m.Profiles) > 0) && !h.cfg.Relay.Knows(m.Instance, m.ProcessHash) {
			return nil, unknownProcess()
		}
		return r, nil
	}
	if _, _, _, err := h.ownWords(m.Process, m.Instance, m.ProcessHash, 0); err != nil {
		return nil, err
	}
	r.Process = m.Process
	var err error
	r.Raw, err = withoutProcess(raw)
	return r, err
}

// withoutProcess takes the process object out of a meta object and leaves the rest as it is, fields that are not known here included.
func withoutProcess(raw []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "read meta: %v", err)
	}
	delete(fields, "process")
	return json.Marshal(fields)
}

func (h *Handler) keep(q *request, r *Relayed) error {
	err := h.cfg.Relay.Keep(q.r.Context(), r)
	if err == nil {
		for _, e := range r.Meta.Profiles {
			h.metrics.stored(e.Type)
		}
	}
	_, err = h.stored(q.r.Context(), err)
	return err
}

// relaySingle hands a profile that a script sent to the relay, as a record with a process object of its own.
func (h *Handler) relaySingle(q *request, s *single, raw []byte, start, end int64) error {
	p := wire.ProcessOf(s.push.Process, nil)
	process, hash, err := p.Encode()
	if err != nil {
		return err
	}
	m := &wire.Meta{V: wire.Version, Instance: s.push.Process.Instance, Idempotency: s.push.Key.Idempotency, Start: start, End: end, ProcessHash: hash,
		Profiles: []wire.Entry{{Part: "profile", Type: s.typ, Start: start, End: end}}}
	if m.Idempotency == "" { // on the way it may be sent twice, which must not store it twice
		m.Idempotency = "relay-" + rand.Text()
	}
	meta, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return h.keep(q, &Relayed{Meta: m, Raw: meta, Process: process, Parts: [][]byte{raw}})
}
