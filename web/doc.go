// Package web is the pages, the explorer, the fleet and the runtime page: TypeScript in src, built by esbuild into dist, which is committed, embedded and served by Handler.
//
// Invariant: dist is what src builds (npm run check-fresh fails otherwise), with at most 60 KB of gzipped JavaScript in the explorer, 40 KB in the others. A page
// speaks only to the HTTP API of its own origin, as ARCHITECTURE.md describes it, and keeps its whole state in its address, which uses the API's parameter names (src/url.ts).
//
// Build and test, in this folder: npm ci, npm run build, npm test. The Go toolchain alone is enough to build Sonde: dist is in the repository.
//
// Handler is safe for concurrent use. The package imports nothing but the standard library.
package web
