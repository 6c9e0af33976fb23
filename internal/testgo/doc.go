// Package testgo compiles programs for tests with Go versions of their own, so that what reads other programs is tested on what these versions
// make. It is for tests only.
//
// What was compiled is kept in the user's cache directory under the hash of source, Go version and flags, and what was not used for two weeks is
// removed; so a test costs a compilation once on a machine. Go versions come through the go command (GOTOOLCHAIN), which downloads them once; a
// test whose version cannot be had is skipped by name.
//
// The functions may be called concurrently, by several test processes too. The package imports the standard library only.
package testgo
