// Package capture takes something of processes on demand or by a trigger: long profiles, dumps of all goroutines, execution traces.
//
// The collector's side is the Broker: it keeps the queue in the catalogue, hands tasks out to whoever waits for them, bounds how many run at once, checks what comes back
// and stores it as a blob. The executor's side is the Poller: it asks a Source for tasks of the processes that its Executors reach, and delivers what they took. A
// Broker is a Source, so that serve needs no HTTP for what it reaches itself; Remote is one over HTTP; Relay is one in a sidecar, for agents that
// poll it, and at the same time an Executor for the sidecar's own Poller.
//
// Invariants: a capture is done if and only if its blob is stored, synced and readable: what was delivered is checked before. Per process one task runs at a time. Of the captures of one
// (service, build, trigger) one is granted within its cool-down, whoever asks. Blobs say themselves what they are, so that a catalogue that was lost finds them again.
//
// All exported types are safe for concurrent use. The package may import profiles, internal/blob, internal/catalog and collector/reply, no other part of the collector.
package capture
