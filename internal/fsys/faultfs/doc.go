// Package faultfs is an fsys.FS in memory that fails on demand, dies and loses power. It is for tests: the production binary must not
// import it (a test enforces that).
//
// What a power loss takes is what POSIX lets it take: bytes not synced by File.Sync, and names not synced by SyncDir of their
// directory, each of which may or may not have reached the disk. A rename within one directory is atomic. A new directory whose parent was
// not synced vanishes with all that is in it, synced or not. A File.Sync that fails leaves its bytes unsynced for ever, as Linux does.
//
// Invariant: two file systems that see the same calls and the same seed of PowerLoss end up the same. Safe for concurrent use.
package faultfs
