package bench

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The data of the benchmarks of long ranges: 24 hours of 60 instances of ReplicaService from DaysStart on, and the 29 days before.
const (
	DaysStart     = int64(1_795_132_800_000) // Unix ms: midnight, UTC
	DaysInstances = 60
	DaysOlder     = 29
	Day           = int64(24 * 3_600_000) // ms

	DayData, MonthData = "day", "month"     // the folders
	DaysEnv            = "SONDE_BENCH_DAYS" // which of them TestDays of profiles/store is to make
	DaysMark           = "days in "         // what it prints before the path
)

// Days returns a data directory that holds the day alone (DayData) or all 30 days (MonthData). It is made by the tests of profiles/store, which can write what the
// store writes only in a month's time, and kept below .cache/bench. Nobody may change it.
func Days(t testing.TB, which string) string {
	t.Helper()
	cmd := exec.Command("go", "test", "github.com/sonde-io/sonde/profiles/store", "-run", "^TestDays$", "-count=1", "-timeout=40m", "-v")
	cmd.Env = append(os.Environ(), DaysEnv+"="+which)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if dir, ok := strings.CutPrefix(strings.TrimSpace(line), DaysMark); ok && err == nil {
			return dir
		}
	}
	t.Fatalf("make the data of a %s: %v\n%s", which, err, out)
	return ""
}
