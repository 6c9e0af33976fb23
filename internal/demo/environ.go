package demo

import (
	"os"
	"strings"
)

// environ is this process's environment without what names or configures Sonde or OpenTelemetry, which is the user's and not the demo's, and with add.
func environ(add ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SONDE_") && !strings.HasPrefix(kv, "OTEL_") {
			env = append(env, kv)
		}
	}
	return append(env, add...)
}
