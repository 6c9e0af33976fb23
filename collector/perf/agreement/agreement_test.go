package agreement

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// workloadEnv makes the test binary the workload.
const workloadEnv = "SONDE_TEST_WORKLOAD"

func TestMain(m *testing.M) {
	if shape := os.Getenv(workloadEnv); shape != "" {
		if err := Workload(shape, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

func self(ctx context.Context, shape string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), workloadEnv+"="+shape)
	return cmd
}

func TestOverlap(t *testing.T) {
	a := map[string]int64{"f": 50, "g": 50}
	if got := overlap(a, map[string]int64{"f": 500, "g": 500}); got != 1 {
		t.Errorf("the same shares overlap by %v", got)
	}
	if got := overlap(a, map[string]int64{"f": 1, "h": 1}); got != 0.5 {
		t.Errorf("half of the shares overlap by %v", got)
	}
	if got := overlap(a, map[string]int64{"h": 1}); got != 0 {
		t.Errorf("nothing in common overlaps by %v", got)
	}
	mean, low := chance(a, a)
	if mean < 0.9 || mean >= 1 || low > mean {
		t.Errorf("two samples of 100 of two functions overlap by %v, low %v", mean, low)
	}
}

// TestAgreement compares for 3 s: enough to find what is wrong by more than chance.
func TestAgreement(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: perf events are Linux's")
	}
	for _, shape := range Shapes {
		t.Run(shape, func(t *testing.T) {
			r, err := Compare(t.Context(), shape, 3*time.Second, self)
			if err != nil {
				if strings.Contains(err.Error(), "refused") {
					t.Skip("SKIPPED: ", err)
				}
				t.Fatal(err)
			}
			t.Logf("%+v", *r)
			// Under the race detector functions are other ones from one side only; 0.2 is far beyond what differs rightly.
			if r.Overlap < r.ChanceLow-0.2 {
				t.Errorf("overlap %.3f, by chance %.3f", r.Overlap, r.Chance)
			}
			if ratio := r.OutsideCPU.Seconds() / r.StatCPU.Seconds(); ratio < 0.75 || ratio > 1.25 {
				t.Errorf("perf counted %v, /proc says %v", r.OutsideCPU, r.StatCPU)
			}
		})
	}
}

// BenchmarkAgreement prints what `sonde doctor perf` does; -benchtime says for how long, such as 60s.
func BenchmarkAgreement(b *testing.B) {
	for _, shape := range Shapes {
		b.Run(shape, func(b *testing.B) {
			d := time.Second
			if f := flag.Lookup("test.benchtime"); f != nil {
				if v, err := time.ParseDuration(f.Value.String()); err == nil {
					d = v
				}
			}
			var r *Report
			var err error
			for range min(b.N, 1) { // one run is as long as benchtime
				if r, err = Compare(b.Context(), shape, d, self); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(r.Overlap, "overlap")
			b.ReportMetric(r.Chance, "overlap-by-chance")
			b.ReportMetric(r.OutsideCPU.Seconds()/r.StatCPU.Seconds(), "perf/stat")
			b.ReportMetric(r.InsideCPU.Seconds()/r.StatCPU.Seconds(), "inside/stat")
			b.ReportMetric(100*r.SamplerCPU, "sampler-%CPU")
			b.ReportMetric(float64(r.RSS)/(1<<20), "sampler-MiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}
