//go:build !cgo

package main

import "time"

func cgo(time.Duration) { panic("built without cgo") }
