package receive

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/profiles"
)

// The bounds of one meta object.
const (
	maxMetaBytes = 1 << 20 // of the object; build info of a program with 1,000 modules is 100 KB
	maxProfiles  = 64
	maxEvents    = 256
	maxSeen      = 1024
	maxWeight    = 10_000
	maxKeyBytes  = 128 // of a namespace of windows
	maxIdemBytes = 256 // of an idempotency key
)

func (h *Handler) parseMeta(raw []byte) (*wire.Meta, error) {
	if len(raw) > maxMetaBytes {
		return nil, &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the meta part is too large", Limit: "max_meta_bytes", Max: maxMetaBytes}
	}
	m := new(wire.Meta)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "read meta: %v", err)
	}
	return m, nil
}

func wrongMeta(format string, args ...any) error {
	return reply.Errorf(http.StatusUnprocessableEntity, "meta: "+format, args...)
}

func tooManyIn(what, limit string, most, got int) error {
	return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "meta: too many " + what, Limit: limit, Max: int64(most), Got: int64(got)}
}

// checkMeta checks a meta object; record says that it is one of a batch, which may be about no process, or about one that only a script named.
func (h *Handler) checkMeta(m *wire.Meta, record bool) error {
	switch {
	case m.V != wire.Version:
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: fmt.Sprintf("meta: version %d of the format is not known, want %d", m.V, wire.Version), Hint: "update the collector"}
	case len(m.Key) > maxKeyBytes || !utf8.ValidString(m.Key):
		return wrongMeta("key: want UTF-8 of at most %d bytes", maxKeyBytes)
	case len(m.Profiles) > maxProfiles:
		return tooManyIn("profiles", "max_profiles", maxProfiles, len(m.Profiles))
	case len(m.Events) > maxEvents:
		return tooManyIn("events", "max_events", maxEvents, len(m.Events))
	case len(m.Seen) > maxSeen:
		return tooManyIn("processes in seen", "max_seen", maxSeen, len(m.Seen))
	}
	who := checkSender
	if record {
		who = checkRecord
	}
	if err := who(m); err != nil {
		return err
	}
	if err := h.checkInterval("meta", m.Start, m.End); err != nil {
		return err
	}
	if err := h.checkEntries(m.Profiles); err != nil {
		return err
	}
	return h.checkParts(m)
}

// checkSender checks who sends a push of its own: an agent.
func checkSender(m *wire.Meta) error {
	switch {
	case !isHex(m.Instance, 32):
		return wrongMeta("instance %.64q is not 32 hex digits", m.Instance)
	case m.Window == 0 || m.Window > 1<<62:
		return wrongMeta("window %d, they count from 1", m.Window)
	case m.Idempotency != "":
		return wrongMeta("idempotency is for records of a batch")
	case !isHex(m.ProcessHash, 16):
		return wrongMeta("process_hash %.64q is not 16 hex digits", m.ProcessHash)
	}
	return nil
}

// checkRecord checks whom a record of a batch is about, and that it can be told from others.
func checkRecord(m *wire.Meta) error {
	if m.Unregistered() {
		return nil
	}
	numbered := m.Window > 0 && m.Window <= 1<<62 && (m.Key != "" || m.Instance != "")
	switch {
	case len(m.Instance) > maxKeyBytes || !utf8.ValidString(m.Instance):
		return wrongMeta("instance: want UTF-8 of at most %d bytes", maxKeyBytes)
	case len(m.Idempotency) > maxIdemBytes || !utf8.ValidString(m.Idempotency):
		return wrongMeta("idempotency: want UTF-8 of at most %d bytes", maxIdemBytes)
	case numbered == (m.Idempotency != ""):
		return wrongMeta("want either a window, from 1, of an instance or a key, or idempotency")
	case (m.Instance != "" || len(m.Profiles) > 0) && !isHex(m.ProcessHash, 16):
		return wrongMeta("process_hash %.64q is not 16 hex digits", m.ProcessHash)
	}
	return nil
}

func (h *Handler) checkEntries(entries []wire.Entry) error {
	for _, p := range entries {
		what := fmt.Sprintf("profile %.64q", p.Part)
		switch {
		case !profiles.ValidName(p.Type):
			return wrongMeta("%s: type %.64q cannot name a type of profile", what, p.Type)
		case p.Weight < 0 || p.Weight > maxWeight:
			return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "meta: " + what + ": weight is not within 1 and its limit", Limit: "max_weight",
				Max: maxWeight, Got: p.Weight}
		}
		if err := h.checkInterval(what, p.Start, p.End); err != nil {
			return err
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
