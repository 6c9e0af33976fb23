// Package peer asks other profile stores, Pyroscope and Parca, for what Sonde is asked too, so that a team that runs both for a while can compare what they say and what the answer costs.
//
// It speaks as much of their query protocols as that takes, written by hand: connect with JSON, and gRPC. Answers are outside input: they are bounded, and every number in them is checked.
package peer
