package discover

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Instance is the instance id of a process that is only seen from outside: 32 hex digits, a hash of boot id, pid namespace, start time and pid. Any
// observer that sees the same proc computes the same.
func (id Identity) Instance() string {
	h := sha256.New()
	h.Write([]byte("sonde process\x00" + id.BootID + "\x00"))
	var b [24]byte
	binary.BigEndian.PutUint64(b[:], id.PIDNS)
	binary.BigEndian.PutUint64(b[8:], id.StartTicks)
	if n := len(id.PIDs); n > 0 {
		// The innermost pid is the one that every observer of the process's own namespace sees, whatever is around it.
		binary.BigEndian.PutUint64(b[16:], uint64(id.PIDs[n-1]))
	}
	h.Write(b[:])
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Same reports whether two observers describe one process: same boot, same start, same pid in the process's own namespace, and, where
// both know it, the same namespace. An agent in a container sees one pid where the node sees several, so the last ones are compared.
func (id Identity) Same(o Identity) bool {
	if id.BootID != o.BootID || id.StartTicks != o.StartTicks || len(id.PIDs) == 0 || len(o.PIDs) == 0 {
		return false
	}
	if id.PIDNS != 0 && o.PIDNS != 0 && id.PIDNS != o.PIDNS {
		return false
	}
	return id.PIDs[len(id.PIDs)-1] == o.PIDs[len(o.PIDs)-1]
}
