// Package client speaks a collector's HTTP API as ARCHITECTURE.md documents it.
//
// It owns the shapes of the answers on the reader's side and turns every failure into an error that says what to do: *Error for
// what the collector refused, *UnreachableError where there is none. A Client is safe for concurrent use and keeps no state but
// connections. It imports neither collector nor profiles, so that it works against any version of either.
package client
