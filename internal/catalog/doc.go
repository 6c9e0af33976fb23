// Package catalog keeps what is known about processes, builds, events and the list of segments and blocks, transactionally.
//
// Embedded it is SQLite (modernc.org/sqlite, pure Go); the SQL is written so that PostgreSQL takes it too: what differs is in the type
// dialect. All times are Unix milliseconds. Migrations are numbered files that are only ever added to.
//
// Invariants: a method that writes is one transaction, synced to disk when it returns nil (WAL journal, synchronous=FULL). A
// window or idempotency key is registered together with the block that holds it or not at all. A block's row is replaced by Swap
// exactly once. Nothing depends on the clock of this process: what is compared with a time is compared by the database.
//
// A write that returns an error other than ErrDuplicate, ErrConflict and ErrReadOnly may have been committed all the same, if the error came in the
// place of the commit's answer. Repeating it is safe: Register then answers ErrDuplicate, Swap ErrConflict.
//
// Safe for concurrent use, also by several processes on one file. The package may not import profiles, collector or anything above.
package catalog
