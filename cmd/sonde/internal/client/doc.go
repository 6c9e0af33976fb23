// Package client speaks a collector's HTTP API as ARCHITECTURE.md documents it.
//
// It turns every failure into an error that says what to do: *Error for what the collector refused, *UnreachableError where
// there is none. It owns the shapes of the answers that are about processes and events; flame graphs and tables of functions
// have theirs in package profiles. A Client is safe for concurrent use and keeps no state but connections. It does not import
// collector.
package client
