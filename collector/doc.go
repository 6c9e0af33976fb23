// Package collector wires a collector together: configuration, storage, discovery, scraping, ingest, queries and the web page.
//
// It owns Config (with its one table of settings) and Run, which starts every part in one run group and stops them in order:
// listeners first, then the sources of pushes, then the store, then the catalogue. It holds no state but what Run starts; one
// process may run several collectors on different data directories, and a lock file keeps two from sharing one.
//
// Run is the only place where the parts meet. The packages below it never import it, nor each other sideways where an
// interface of one method will do.
package collector
