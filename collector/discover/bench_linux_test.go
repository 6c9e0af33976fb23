package discover_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
)

// cpuTime is the time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkScan scans 40 real Go processes, half of them with an endpoint, and whatever else runs on the machine. Rules keep it from touching the latter.
func BenchmarkScan(b *testing.B) {
	file := discovertest.Build(b)
	for i := range 40 {
		arg := "-pprof=127.0.0.1:0"
		if i%2 == 1 {
			arg = "-http=127.0.0.1:0"
		}
		discovertest.Start(b, file, discovertest.Options{}, arg)
	}
	rules := discover.Rules{AllowExes: []string{file}}
	measure := func(b *testing.B, scan func() discover.Report) {
		var r discover.Report
		before := cpuTime(b)
		for b.Loop() {
			r = scan()
		}
		used := cpuTime(b) - before
		b.ReportMetric(float64(used.Microseconds())/float64(b.N)/float64(r.Seen), "cpu-µs/process")
		b.ReportMetric(float64(r.Seen), "processes")
		b.ReportMetric(float64(len(r.Processes)), "go-processes")
	}
	b.Run("warm", func(b *testing.B) {
		s, err := discover.New(discover.Config{Rules: rules})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		run := func() discover.Report {
			r, err := s.Scan(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			return r
		}
		run()
		measure(b, run)
	})
	b.Run("cold", func(b *testing.B) { // without probes: a dry run by a new scanner
		measure(b, func() discover.Report {
			s, err := discover.New(discover.Config{Rules: rules})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			r, err := s.DryRun(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			return r
		})
	})
}
