// Package build reads what a binary says about its own build: the Go build ID, the GNU build ID, the Go version and the
// module build information, from a file, from /proc/PID/exe, from the output of `go version -m`, or from the text of a debug.BuildInfo; and it
// compares builds and versions.
//
// The files are other people's, truncated or hostile ones included: every length that is read is checked, at most 64 MiB of a file are
// read, and no input makes Read panic. What one build is called everywhere (catalog.Build.ID, the key of its symbols) is defined
// here, by Key.
//
// The package imports the standard library and golang.org/x/mod/semver only. Its functions may be called concurrently.
package build
