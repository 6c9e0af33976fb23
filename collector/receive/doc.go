// Package receive is the ingest side of the HTTP API: POST /api/v1/push for agents, POST /api/v1/profiles for scripts, and POST /api/v1/batch for
// sidecars. With a Relay it is the ingest side of a sidecar too, which keeps what comes as it came.
//
// It owns the reading of untrusted requests: multipart, gzip, the meta object, the bounds of everything. A request is stored as
// a whole, by one Sink.Append, or not at all, and so is each record of a batch by itself; it is answered 200 only after that returned. Every bound has a number, a JSON error
// that names it, and a metric that counts it. No memory is allocated by a length that was merely read: bodies are streamed
// through gzip into a buffer that grows with what really arrives, and all requests together share one budget of bytes.
//
// Handler is safe for concurrent use. The package may import profiles, profiles/store (its types), symbols/build
// and internal/catalog (its types), never another part of the collector but reply, series and wire.
package receive
