package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The data of the benchmarks of long ranges: 24 hours of 60 instances of ReplicaService from DaysStart on, and the 29 days before.
const (
	DaysStart     = int64(1_795_132_800_000) // Unix ms: midnight, UTC
	DaysInstances = 60
	DaysOlder     = 29
	Day           = int64(24 * 3_600_000) // ms

	DaysEnv  = "SONDE_BENCH_DAYS" // what makes TestDays of profiles/store make the data
	DaysMark = "days in "         // what it prints before the folder
)

// Days returns data directories that hold the day alone and all 30 days. They are made by the tests of profiles/store, which can write what the store writes only
// in a month's time, and kept below .cache/bench. Nobody may change them.
func Days(t testing.TB) (day, month string) {
	t.Helper()
	cmd := exec.Command("go", "test", "github.com/sonde-io/sonde/profiles/store", "-run", "^TestDays$", "-count=1", "-timeout=40m", "-v")
	cmd.Env = append(os.Environ(), DaysEnv+"=1")
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if dir, ok := strings.CutPrefix(strings.TrimSpace(line), DaysMark); ok && err == nil {
			return filepath.Join(dir, "day"), filepath.Join(dir, "month")
		}
	}
	t.Fatalf("make days of data: %v\n%s", err, out)
	return "", ""
}
