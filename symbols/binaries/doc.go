// Package binaries keeps the binaries by which frames that came as addresses get their names: Go programs by their function tables, others by their symbol tables.
//
// It owns a folder of ELF files, each under all the names that a sender may have for it (the GNU build id, the key of the Go build id, and the hash that the OpenTelemetry
// eBPF profiler calls htlhash), without what no name is made from: code and debug information are holes in the file. All together they stay within a number of bytes;
// those that named nothing for longest go first. The folder can be deleted at any time: addresses are named again once a binary comes again.
//
// Beside the binaries it owns lists of the functions of Go programs (FORMAT.md), for builds whose binary is elsewhere: what a sidecar made of it (FunctionList) and sent (PutFunctions).
// They answer Functions where no binary does, and share the bytes and the order in which files go.
//
// The files are other people's, hostile ones included: every length is checked against the file's own, what is read of one at a time is bounded, and no input makes
// the package panic. Files of this machine's processes (Add) are only copied once a frame has asked for them.
//
// Store is safe for concurrent use. Run copies what frames asked for until its context ends; Close may be called twice. The package imports symbols/build and
// symbols/pclntab.
package binaries
