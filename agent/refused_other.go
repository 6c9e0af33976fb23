//go:build !windows

package agent

import "syscall"

// refused is the error of a connection to a port where nobody listens.
const refused = syscall.ECONNREFUSED
