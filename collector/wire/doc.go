// Package wire is the format of pushes on their way to a collector: the meta object of POST /api/v1/push, the frame of the records of POST
// /api/v1/batch, and what is answered. ARCHITECTURE.md documents it for other senders.
//
// The receiving end (package receive) and the forwarding one (package forward) share these types, so that a field that one end writes is one that the
// other reads. The agent, a module of its own, has types of its own; golden bytes in agent/testdata/push hold the two together.
//
// Invariant: reading a batch takes memory for one section at a time, and none by a length that was merely read. A record whose contents are wrong
// can be skipped; one whose frame is cut ends the batch.
//
// Nothing here holds state. The package imports only the standard library, Prometheus' labels and internal/catalog (its types).
package wire
