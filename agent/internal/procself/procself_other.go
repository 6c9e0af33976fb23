//go:build !unix

package procself

// Read returns what is known now: nothing.
func Read() Reading { return unknown() }
