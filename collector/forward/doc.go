// Package forward is a sidecar's end of the way to its collector: it takes what the gatherers of this machine and the agents on it send, keeps it in a
// spool on disk, and sends it on in batches.
//
// It owns the spool's directory and the connections to the upstream. What Append, Events and the handler took is on disk when they return, and is sent
// until the upstream has it or has refused it for good, across restarts of either side. The collector recognises what is sent twice by its window or
// idempotency key.
//
// Invariants:
//   - What belongs to one instance is sent in the order in which it came: it goes through one lane, and a lane has one batch under way at a time.
//   - Memory is bounded by what is under way (a few MiB), not by what the spool holds.
//   - Nothing vanishes silently: what the spool dropped becomes events of the kind gap, what the upstream refused is counted and logged.
//
// A Forwarder is safe for concurrent use. Package forward may import receive, series, wire, discover (identities) and reply of the collector's parts, never the collector.
package forward
