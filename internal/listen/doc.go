// Package listen opens the collector's listener, decides who may come in, and serves and drains HTTP on it.
//
// Closed by default: on loopback and on a Unix socket anybody of this machine may ask; any other address needs both a token and TLS, or the
// explicit word insecure. Every listener refuses writes that a browser sends for a foreign page, and one on loopback without a token refuses
// names that are not this machine's, since a page whose name was pointed at 127.0.0.1 (DNS rebinding) would otherwise read everything.
//
// Invariant: a request that was accepted before the stop is answered, up to a deadline; no request is dropped because its connection was idle
// when the stop came.
//
// All types are safe for concurrent use once built. The package imports only the standard library.
package listen
