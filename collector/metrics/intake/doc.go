// Package intake turns the metrics of other systems' senders into ours: OTLP, and Prometheus' remote-write 1.0 and 2.0.
//
//	in := intake.New(intake.Config{Series: metrics, Appendable: metrics.Appendable()})
//	peers.New(peers.Config{Metrics: in, …}).Register(mux)
//
// Messages come decoded or bounded from package peers, which reads requests and speaks the protocols. OTLP's are converted as Prometheus converts them: cumulative sums, gauges and
// histograms (exponential ones are native histograms); a resource is a process with the labels that its profiles have, and what OpenTelemetry's conventions call otherwise gets
// client_golang's name (series.Canonical). What cannot be converted is told to the sender and left out, the rest is kept. Remote-write is taken as it comes, by Prometheus' own handler.
//
// An Intake holds no state between requests and is safe for concurrent use. The package may import collector/series and Prometheus, and no other part of a collector.
package intake
