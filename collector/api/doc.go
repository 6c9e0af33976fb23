// Package api is the side of the HTTP API that asks: every GET under /api/v1, what changes what is kept, and captures on demand, as ARCHITECTURE.md documents it.
//
// It owns the parameters (one parser for all endpoints, with errors that say what was wanted), the bound on queries at once
// and their time, and the shape of the answers. It keeps nothing between requests but a small cache of the modules of builds.
// An answer is computed before its first byte is written: an error never arrives in the middle of JSON.
//
// Handler is safe for concurrent use. The package may import profiles, profiles/store and internal/catalog, never another part
// of the collector but reply and capture.
package api
