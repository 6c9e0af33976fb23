package discover

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadMetrics(t *testing.T) {
	long := strings.Repeat("x", 3*maxMetricsLine)
	for name, tt := range map[string]struct {
		text  string
		goes  bool
		start float64
	}{
		"client_golang":         {"# HELP go_goroutines N.\n# TYPE go_goroutines gauge\ngo_goroutines 7\nprocess_start_time_seconds 1.7952414805e+09\n", true, 1.7952414805e9},
		"OpenMetrics":           {"go_gc_seconds_bucket{le=\"+Inf\"} 3 1.5 # {trace=\"}\"} 2\nprocess_cpu_seconds_total 1\n# EOF\n", true, 0},
		"no newline at the end": {"app 1\ngo_threads 7", true, 0},
		"Windows' lines":        {"app 1\r\nprocess_threads 7\r\n", true, 0},
		"of others":             {"process_start_time_seconds{job=\"pushed\"} 1\n", true, 0},
		"after a long line":     {long + "\ngo_threads 1\n", true, 0},
		"within a long line":    {long[:2*maxMetricsLine] + "go_threads 1\n", false, 0},
		"of the program alone":  {"app_go_x 1\napp{a=\"\\ngo_x 1\"} 1\ngoes 1\n", false, 0},
		"help only":             {"# HELP go_goroutines N.\n", false, 0},
		"words":                 {"go_west young man\ngo_\nprocess_{\nprocess_{}\ngo_x{a} \ngo_\u00e9 1\n", false, 0},
		"nothing":               {"", false, 0},
	} {
		for _, r := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
			if goes, start, err := readMetrics(r); goes != tt.goes || start != tt.start || err != nil {
				t.Errorf("%s: %v, %v, %v, want %v, %v", name, goes, start, err, tt.goes, tt.start)
			}
		}
	}
	if _, _, err := readMetrics(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("go_threads 1\n")))); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("error %v of an answer that is cut off", err)
	}
	if goes, _, err := readMetrics(io.MultiReader(strings.NewReader("go_threads 1\n"), endless('x'))); goes || !errors.Is(err, errTooLarge) {
		t.Errorf("error %v of an answer without an end", err)
	}
}

// endless reads one byte for ever.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// FuzzReadMetrics gives any bytes to what looks for metrics.
func FuzzReadMetrics(f *testing.F) {
	f.Add([]byte("# HELP go_goroutines N.\ngo_goroutines 7\nprocess_start_time_seconds 1.7952414805e+09\n"))
	f.Add([]byte("go_x{a=\"}\"} NaN\n\nprocess_{} 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		goes, start, err := readMetrics(strings.NewReader(string(b)))
		if err != nil || start != 0 && !goes {
			t.Errorf("%v, %v, %v", goes, start, err)
		}
	})
}
