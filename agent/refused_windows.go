package agent

import "syscall"

// refused is the error of a connection to a port where nobody listens.
const refused = syscall.Errno(10061) // WSAECONNREFUSED, which package syscall does not name
