package agent

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"time"
)

// instanceVariable holds the id that a launcher chose for this process, and the launcher's pid: HEX32:PID.
const instanceVariable = "SONDE_INSTANCE"

// chooseInstance returns the launcher's id where the launcher is this process's parent, else a new one, and what is wrong with the variable. An id is taken once: the
// variable goes, so that neither a second agent nor a program that replaces this one in its process counts its windows under the same id from 1 on. Children, which have another parent, never take it.
func chooseInstance(getenv func(string) string, parent int) (id, problem string) {
	value := getenv(instanceVariable)
	if value == "" {
		return newInstance(), ""
	}
	id, pid, ok := strings.Cut(value, ":")
	launcher, err := strconv.Atoi(pid)
	if !ok || err != nil || len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return newInstance(), instanceVariable + "=" + value + ": want 32 hex digits, a colon and the launcher's pid; left out"
	}
	if launcher != parent {
		return newInstance(), ""
	}
	_ = os.Unsetenv(instanceVariable) // the name is a valid one
	return id, ""
}

// newInstance returns a random instance id: 32 hex digits.
func newInstance() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		// Without randomness the time and the pid still tell two runs apart.
		s := strconv.FormatInt(time.Now().UnixNano(), 16) + strconv.FormatInt(int64(os.Getpid()), 16)
		return (s + strings.Repeat("0", 32))[:32]
	}
	return hex.EncodeToString(b[:])
}
