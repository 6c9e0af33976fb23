package forward

import (
	"syscall"

	"github.com/sonde-io/sonde/collector/wire"
)

var errNoSpace = syscall.ENOSPC

func hashOf(process string) string { return wire.ProcessHash([]byte(process)) }
