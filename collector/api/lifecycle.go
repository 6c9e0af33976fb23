package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/backup"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// Keeper is what decides what is kept; *store.Store is one.
type Keeper interface {
	Pin(ctx context.Context, p catalog.Pin) (int64, error)
	Pins(ctx context.Context) ([]catalog.Pin, error)
	Unpin(ctx context.Context, id int64) error
	Delete(ctx context.Context, d store.Deletion) (store.Deleted, error)
}

// keeping answers what changes what is kept, and gives backups out. Neither takes a query's slot or ends with its time: a deletion takes as long as it takes.
type keeping struct {
	*Handler
	keeper  Keeper
	backups *backup.Host
}

// RegisterKeeping adds the endpoints for pins, deletions and backups to mux.
func (h *Handler) RegisterKeeping(mux *http.ServeMux, keeper Keeper, backups *backup.Host) {
	k := &keeping{h, keeper, backups}
	for _, e := range []struct {
		pattern, name string
		serve         endpoint
	}{
		{"POST /api/v1/pins", "pins", k.pin},
		{"GET /api/v1/pins", "pins", k.pins},
		{"DELETE /api/v1/pins/{id}", "pins", k.unpin},
		{"DELETE /api/v1/profiles", "delete", k.delete},
		{"POST /api/v1/backups", "backups", k.begin},
		{"DELETE /api/v1/backups/{id}", "backups", k.end},
	} {
		mux.Handle(e.pattern, k.change(e.name, e.serve))
	}
	mux.HandleFunc("GET /api/v1/backups/{id}/files/{name...}", k.file)
}

func (k *keeping) change(name string, serve endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, status := time.Now(), http.StatusOK
		answer, err := serve(r.Context(), r)
		if err != nil {
			e := k.refusal(r, keptError(err))
			status = e.Status
			reply.Fail(w, e)
		} else {
			reply.JSON(w, answer)
		}
		k.requests.WithLabelValues(name, strconv.Itoa(status)).Inc()
		k.duration.WithLabelValues(name).Observe(time.Since(start).Seconds())
	})
}

// keptError makes an answer of the errors that a client can do something about.
func keptError(err error) error {
	pinned, isPinned := errors.AsType[*store.PinnedError](err)
	switch {
	case isPinned:
		return &reply.Error{Status: http.StatusConflict, Message: pinned.Error(), Hint: "`sonde pin rm " + strconv.FormatInt(pinned.Pin.ID, 10) + "` takes the pin back; --force (force=true) deletes what is pinned too", Cause: err}
	case errors.Is(err, catalog.ErrNotFound):
		return &reply.Error{Status: http.StatusNotFound, Message: "there is no such pin", Cause: err}
	case errors.Is(err, backup.ErrUnknown):
		return &reply.Error{Status: http.StatusNotFound, Message: backup.ErrUnknown.Error(), Hint: "begin it again: files that are there are not read again", Cause: err}
	case errors.Is(err, backup.ErrTooMany):
		return &reply.Error{Status: http.StatusTooManyRequests, Message: backup.ErrTooMany.Error(), RetryAfter: 60, Cause: err}
	case errors.Is(err, store.ErrBusy):
		return &reply.Error{Status: http.StatusServiceUnavailable, Message: store.ErrBusy.Error(), RetryAfter: 30, Cause: err}
	case errors.Is(err, blob.ErrNoSpace):
		return &reply.Error{Status: http.StatusServiceUnavailable, Message: "no space left on the collector's disk", RetryAfter: 30, Cause: err}
	}
	return err
}

// maxNote bounds what may be written to a pin.
const maxNote = 1024

type pinJSON struct {
	catalog.Pin
	From int64  `json:"from"`
	To   int64  `json:"to"`
	Link string `json:"link"` // of the page, below the collector's address, with absolute times
}

func pinOf(p catalog.Pin) pinJSON {
	v := url.Values{"query": {p.Selector}, "from": {strconv.FormatInt(p.Start, 10)}, "to": {strconv.FormatInt(p.End, 10)}}
	if p.Type != "" {
		v.Set("type", p.Type)
	}
	return pinJSON{Pin: p, From: p.Start, To: p.End, Link: "/?" + v.Encode()}
}

// pin keeps what is selected, at the absolute times that the parameters name now. services are those that the selection finds something of.
func (k *keeping) pin(ctx context.Context, r *http.Request) (any, error) {
	p := k.params(r, "query", "type", "from", "to", "note")
	q := p.anyType()
	note := p.str("note")
	if len(note) > maxNote {
		p.fail("parameter note has %d bytes, at most %d", len(note), maxNote)
	}
	if p.err != nil {
		return nil, p.err
	}
	pin := catalog.Pin{Selector: selectorText(p.str("query")), Type: q.Type.Profile, Start: q.From, End: q.To, Note: note, Created: k.cfg.Now().UnixMilli()}
	var err error
	if pin.ID, err = k.keeper.Pin(ctx, pin); err != nil {
		return nil, err
	}
	found, err := k.cfg.Store.LabelValues(ctx, "service_name", store.Query{Matchers: q.Matchers, Type: profiles.Type{Profile: pin.Type}, From: pin.Start, To: pin.End})
	if err != nil {
		return nil, err
	}
	return map[string]any{"pin": pinOf(pin), "services": list(found)}, nil
}

// selectorText writes a selection as a selector, which a bare service name is not.
func selectorText(s string) string {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return "{}"
	case strings.HasPrefix(s, "{"):
		return s
	}
	return "{service_name=" + strconv.Quote(s) + "}"
}

func (k *keeping) pins(ctx context.Context, r *http.Request) (any, error) {
	if p := k.params(r); p.err != nil {
		return nil, p.err
	}
	all, err := k.keeper.Pins(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]pinJSON, len(all))
	for i, p := range all {
		out[i] = pinOf(p)
	}
	return map[string]any{"pins": out}, nil
}

func (k *keeping) unpin(ctx context.Context, r *http.Request) (any, error) {
	if p := k.params(r); p.err != nil {
		return nil, p.err
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "%.64q is not the id of a pin", r.PathValue("id"))
	}
	return map[string]string{"status": "ok"}, k.keeper.Unpin(ctx, id)
}

type deletedJSON struct {
	Tombstone string `json:"tombstone"`
	Profiles  int64  `json:"profiles"`
	Blocks    int    `json:"blocks"`    // segments and blocks that are gone
	Rewritten int    `json:"rewritten"` // blocks that were written in their place
	Bytes     int64  `json:"bytes"`     // fewer than before
	Processes int64  `json:"processes"`
	Keys      int64  `json:"keys"`
	Events    int64  `json:"events"`
}

// never is later than any profile: a deletion without an end.
const never = 1 << 47

func (k *keeping) delete(ctx context.Context, r *http.Request) (any, error) {
	p := k.params(r, "service", "instance", "from", "to", "force")
	d := store.Deletion{Service: p.str("service"), Instance: p.str("instance"), To: never, Force: p.oneOf("force", "false", "true") == "true"}
	if d.Service == "" && d.Instance == "" {
		p.fail("parameter service or instance must say what to delete")
	}
	if p.str("from") != "" {
		d.From = p.time("from", "")
	}
	if p.str("to") != "" {
		d.To = p.time("to", "")
	}
	if p.err == nil && d.To <= d.From {
		p.fail("parameter to (%d) is not after from (%d)", d.To, d.From)
	}
	if p.err != nil {
		return nil, p.err
	}
	out, err := k.keeper.Delete(ctx, d)
	if err != nil {
		return nil, err
	}
	return deletedJSON{out.ID, out.Profiles, out.Blocks, out.Rewritten, out.Bytes, out.Processes, out.Keys, out.Events}, nil
}

func (k *keeping) begin(ctx context.Context, r *http.Request) (any, error) {
	if p := k.params(r); p.err != nil {
		return nil, p.err
	}
	return k.backups.Begin(ctx)
}

func (k *keeping) end(ctx context.Context, r *http.Request) (any, error) {
	if p := k.params(r); p.err != nil {
		return nil, p.err
	}
	return map[string]string{"status": "ok"}, k.backups.End(ctx, r.PathValue("id"))
}

// file sends one file of a backup. Where it breaks off the connection is too, so that nobody takes a part for the whole.
func (k *keeping) file(w http.ResponseWriter, r *http.Request) {
	f, size, err := k.backups.Open(r.Context(), r.PathValue("id"), r.PathValue("name"))
	if err != nil {
		reply.Fail(w, k.refusal(r, keptError(err)))
		return
	}
	defer f.Close()
	hd := w.Header()
	hd.Set("Content-Type", "application/octet-stream")
	hd.Set("Content-Length", strconv.FormatInt(size, 10))
	hd.Set("Cache-Control", "no-store")
	hd.Set("X-Content-Type-Options", "nosniff")
	if n, err := io.Copy(w, f); err != nil || n != size {
		panic(http.ErrAbortHandler)
	}
}
