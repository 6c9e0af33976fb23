package discover_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
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

// BenchmarkNode scans a node with 500 Go processes: 250 with an endpoint, 250 without, 10 of them in networks of their own where that is allowed. cpu-ms/scan is all CPU that a scan takes, rss-MB the resident
// memory of the process that scans, the benchmark's own part included.
//
//	go test -run xxx -bench Node -benchtime 20x ./collector/discover
func BenchmarkNode(b *testing.B) {
	file := discovertest.Build(b)
	apart := 0
	for i := range 500 {
		o := discovertest.Options{Env: []string{"GOMEMLIMIT=8MiB", "GOMAXPROCS=1"}}
		if i%50 == 0 {
			own := o
			own.Attr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
			if _, err := discovertest.TryStart(b, file, own, "-pprof=0.0.0.0:6060"); err == nil {
				apart++
				continue
			}
		}
		arg := "-pprof=127.0.0.1:0"
		if i%2 == 1 {
			arg = "-http=127.0.0.1:0"
		}
		discovertest.Start(b, file, o, arg)
	}
	s, err := discover.New(discover.Config{Rules: discover.Rules{AllowExes: []string{file}}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	scan := func() (discover.Report, time.Duration) {
		before := cpuTime(b)
		r, err := s.Scan(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		return r, cpuTime(b) - before
	}
	_, first := scan()
	var r discover.Report
	var used time.Duration
	for b.Loop() {
		var once time.Duration
		r, once = scan()
		used += once
	}
	b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N), "cpu-ms/scan")
	b.ReportMetric(float64(first.Microseconds())/1000, "cpu-ms/first-scan-with-probes")
	b.ReportMetric(float64(len(r.Processes)), "go-processes")
	b.ReportMetric(float64(r.Seen), "processes")
	b.ReportMetric(float64(apart), "other-networks")
	b.ReportMetric(float64(rss(b))/1e6, "rss-MB")
}

// rss is the resident memory of this process.
func rss(b *testing.B) int {
	stat, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(stat))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}
