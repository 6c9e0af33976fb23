package service

import _ "embed"

// Source is service.go, for the build of checkout's second version.
//
//go:embed service.go
var Source []byte
