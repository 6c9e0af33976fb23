package metrics

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/sonde-io/sonde/collector/series"
)

// childEnv has this test program be one that appends: kill DIR, or WHICH DIR of the benchmark.
const childEnv = "SONDE_TEST_METRICS_CHILD"

func TestMain(m *testing.M) {
	which, dir, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		os.Exit(m.Run())
	}
	if err := child(which, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(which, dir string) error {
	switch which {
	case "kill":
		return appendUntilKilled(dir)
	case "store":
		return benchStore(dir)
	}
	return benchTSDB(dir)
}

func startChild(t testing.TB, which, dir string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+which+" "+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// appendUntilKilled says the number of each batch once it was acknowledged.
func appendUntilKilled(dir string) error {
	s, err := Open(context.Background(), Config{Dir: dir})
	if err != nil {
		return err
	}
	start := time.Now().Add(-time.Hour)
	for i := 1; ; i++ {
		b := series.Batch{Process: process("cart", "i1")}
		for k := range 100 {
			b.Samples = append(b.Samples, sample("x", start.Add(time.Duration(i)*time.Millisecond), float64(i), "k", strconv.Itoa(k)))
		}
		if err := s.AppendSeries(context.Background(), b); err != nil {
			return err
		}
		if _, err := fmt.Println(i); err != nil {
			return err
		}
	}
}

// TestKill: what was acknowledged is there after kill -9, and a database that was killed opens.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "metrics")
	for round := range 3 {
		cmd := startChild(t, "kill", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if acked, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
			if acked == 50*(round+1)+round {
				_ = cmd.Process.Kill() // what it said before is read to the end
			}
		}
		if err := cmd.Wait(); err == nil || acked == 0 {
			t.Fatalf("the child ended by itself, after %d batches", acked)
		}
		s := open(t, Config{Dir: dir})
		res, err := s.Query(t.Context(), "min(max_over_time(x[2h]))", time.Now())
		if err != nil || len(res) != 1 || res[0].Points[0].V < float64(acked) {
			t.Errorf("round %d: %d batches were acknowledged, in the database is %v, error %v", round, acked, res, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	benchProcesses = 500
	benchSeries    = 100 // of each: 50,000 in all
	benchRounds    = 20
)

// benchBatches are what 500 processes send, each with labels as agents have them.
func benchBatches() []series.Batch {
	all := make([]series.Batch, benchProcesses)
	for p := range all {
		b := &all[p]
		b.Process = labels.FromStrings("service_name", fmt.Sprintf("service-%d", p/10), "service_namespace", "shop", "service_version", "v1.42.0", "service_instance_id", fmt.Sprintf("%032x", p),
			"host_name", fmt.Sprintf("node-%d", p%40), "k8s_pod_name", fmt.Sprintf("service-%d-7d9c4b5f6-%05d", p/10, p), "k8s_namespace_name", "shop", "process_pid", strconv.Itoa(1000+p))
		for i := range benchSeries {
			b.Samples = append(b.Samples, series.Sample{Labels: labels.FromStrings("__name__", fmt.Sprintf("go_runtime_metric_number_%d_bytes", i))})
		}
	}
	return all
}

func benchAt(b *series.Batch, t int64, round int) {
	for i := range b.Samples {
		b.Samples[i].T, b.Samples[i].V = t, float64(round*(i%7))
	}
}

func benchStart() int64 { return time.Now().Add(-time.Hour).UnixMilli() }

// benchStore appends a batch at a time, as pushes come.
func benchStore(dir string) error {
	s, err := Open(context.Background(), Config{Dir: dir})
	if err != nil {
		return err
	}
	all, start := benchBatches(), benchStart()
	rounds := func(from, to int) error {
		for r := from; r < to; r++ {
			for i := range all {
				benchAt(&all[i], start+int64(r)*15_000, r)
				if err := s.AppendSeries(context.Background(), all[i]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return benchMeasure(rounds)
}

// benchTSDB appends as Prometheus' scrapes do: a transaction for each target, with references known from the second time on.
func benchTSDB(dir string) error {
	o := tsdb.DefaultOptions()
	o.NoLockfile, o.OutOfOrderTimeWindow, o.WALCompression = true, (24 * time.Hour).Milliseconds(), compression.Snappy
	db, err := tsdb.Open(dir, nil, prometheus.NewRegistry(), o, tsdb.NewDBStats())
	if err != nil {
		return err
	}
	all, start := benchBatches(), benchStart()
	full, refs := make([][]labels.Labels, len(all)), make([][]storage.SeriesRef, len(all))
	for p := range all {
		refs[p] = make([]storage.SeriesRef, benchSeries)
		for i := range all[p].Samples {
			full[p] = append(full[p], series.Merge(series.WithTarget(all[p].Process), all[p].Samples[i].Labels))
		}
	}
	rounds := func(from, to int) error {
		for r := from; r < to; r++ {
			for p := range all {
				benchAt(&all[p], start+int64(r)*15_000, r)
				app := db.Appender(context.Background())
				for i, s := range all[p].Samples {
					if refs[p][i], err = app.Append(refs[p][i], full[p][i], s.T, s.V); err != nil {
						return err
					}
				}
				if err := app.Commit(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return benchMeasure(rounds)
}

// benchMeasure prints the CPU nanoseconds of a sample once all series are there, and the bytes of memory.
func benchMeasure(rounds func(from, to int) error) error {
	if err := rounds(0, 2); err != nil {
		return err
	}
	runtime.GC()
	before := cpuTime()
	if err := rounds(2, 2+benchRounds); err != nil {
		return err
	}
	used := cpuTime() - before
	runtime.GC()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	kb, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	if err != nil {
		return err
	}
	_, err = fmt.Println(float64(used.Nanoseconds())/(benchProcesses*benchSeries*benchRounds), kb*1024)
	return err
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkAppend compares the store with tsdb's own appender: 50,000 series of 500 processes, a program for each, in turns.
func BenchmarkAppend(b *testing.B) {
	sum := map[string][2]float64{}
	n := 0.0
	for b.Loop() {
		n++
		for _, which := range []string{"store", "tsdb"} {
			out, err := startChild(b, which, filepath.Join(b.TempDir(), which)).Output()
			if err != nil {
				b.Fatal(err)
			}
			var ns, rss float64
			if _, err := fmt.Sscan(string(out), &ns, &rss); err != nil {
				b.Fatal(err)
			}
			sum[which] = [2]float64{sum[which][0] + ns, sum[which][1] + rss}
		}
	}
	for which, x := range sum {
		b.ReportMetric(1e9/(x[0]/n), which+"-samples/cpu-s")
		b.ReportMetric(x[1]/n/1e6, which+"-MB-RSS")
	}
	b.ReportMetric(sum["store"][0]/sum["tsdb"][0], "cpu-ratio")
	b.ReportMetric(sum["store"][1]/sum["tsdb"][1], "RSS-ratio")
}
