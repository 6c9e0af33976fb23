package checkout

import "embed"

// Sources are the files of which the second version is built.
//
//go:embed checkout.go pricing.go pricing_v2.go
var Sources embed.FS
