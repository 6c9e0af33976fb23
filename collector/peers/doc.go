// Package peers takes in what senders of other systems send, unchanged: Pyroscope's SDKs and Grafana Alloy (POST /ingest, push.v1.PusherService over connect and gRPC) and OTLP
// profiles (HTTP with protobuf or JSON, gRPC), those of the OpenTelemetry eBPF profiler included; and binaries, by which frames that come as addresses get their names.
//
// Their metrics come the same ways (OTLP metrics; Prometheus' remote-write 1.0 and 2.0) and are given to Config.Metrics once they are bounded.
//
// Every request passes through receive's bounds, budget and errors (receive.Peer), and becomes pushes of the store: one for each process in it, with labels in our
// vocabulary, types of profiles by our names, and intervals. Cumulative values are subtracted here, where the sender says that they are (delta.go says how that is told);
// where the baseline is missing nothing is stored for that interval, and it is counted.
//
// These senders have no key by which a request could be stored exactly once: one that is repeated within 10 minutes is recognised by the hash of its content.
// That is kept in memory only, so a collector that dies between storing and answering may store a repeat twice.
//
// What a protocol's messages look like is written by hand where they are few (push, gRPC's frames, the answers), and OTLP is decoded by its own library
// after a walk over the bytes has found how much memory that will take. No message is trusted before that; conversion checks every index.
//
// Handler is safe for concurrent use. The package may import receive and reply of the collector, and nothing that speaks gRPC.
package peers
