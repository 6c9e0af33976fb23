// Package fsys is the file system as Sonde's blob store needs it: eight operations, so that the store can be tested in memory and
// with faults.
//
// It owns nothing. OS is the operating system's file system; package faultfs holds one in memory that fails on demand and loses
// power. Only tests import faultfs.
//
// Invariant: nothing is durable before it is synced: a file's bytes by File.Sync, its name (created, renamed or removed) by SyncDir of the
// directory that holds it, a new directory by SyncDir of its parent.
//
// Implementations are safe for concurrent use; one File may be read concurrently but is written by one goroutine. The package
// imports only the standard library and golang.org/x/sys.
package fsys
