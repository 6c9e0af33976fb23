// Package peertest delivers to a real `sonde serve` with the real software of others: Pyroscope's Go SDK, the connect and gRPC clients of its push API, and the
// OTLP client of the OpenTelemetry Collector. What the collector says it holds must be what they sent, as google/pprof reads it.
//
// It is a module of its own, so that none of these becomes a dependency of the collector, and only tests: GOWORK=off go test ./... runs them. With -update (and
// go test -trimpath) they write the requests that passed by into collector/peers/testdata, whose tests send them again without a network.
package peertest
