// Package store keeps profiles in immutable files and merges them back.
//
// It owns the blobs under segments/ and blocks/, described in FORMAT.md. A push is validated, its stacks are interned into the pending
// segment, the segment is written as one blob and registered in the catalogue in one transaction: only then is the push acknowledged. While
// one segment is being written the next gathers. Compaction merges segments into blocks of one service and two hours, with rollups: the values of
// series that differ only in where they ran, added up per stack and window. Retention makes blocks of sums by minute and then by hour of old ones, and drops the oldest.
//
// Invariants:
//   - What Append acknowledged survives kill -9 and power loss, is there exactly once, and is seen by every query that starts later.
//   - A profile belongs to the range and to the window in which it starts, on the raw path and on the path through sums alike; sums are exact in
//     128 bits. So a merge is the same whether, and how often, its blocks were compacted. Only of what was downsampled the window, and not the profile, belongs to a range.
//   - A file never changes. A blob that was replaced stays until no query can be reading it.
//   - Nothing that was read from a file is trusted before its checksum, its lengths and its references were checked.
//
// There is no log, no replay and no state in memory but caches: opening a store reads nothing, and the first push of a service its series.
//
// Everything exported is safe for concurrent use. The package imports profiles, internal/blob and internal/catalog, never the collector.
package store
