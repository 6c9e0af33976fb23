package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/collector/perf/agreement"
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what works on this machine, and how well",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.doctorPerfCommand())
	return cmd
}

func (a *app) doctorPerfCommand() *cobra.Command {
	var d time.Duration
	cmd := &cobra.Command{
		Use:   "perf",
		Short: "Compare CPU profiles taken from outside with those that programs take of themselves",
		Long: `Run two programs, this one again in two shapes (a request handler with JSON, sorting and maps; many goroutines with channels
and allocations), one after the other, and profile each for the same interval by perf from outside and by the runtime's own
profiler from inside. What is printed:

  overlap   how much of the flat profiles is the same: 1 is all of it
  chance    how much would be the same if the two were random samples of one and the same program, on average and in the
            worst of 20 cases: no two profiles of that many samples agree better
  CPU       the CPU time that either counted, and what the kernel's account in /proc/PID/stat says
  sampler   the CPU and memory that this process, which samples, took meanwhile

It says what the kernel or the rights of this user do not allow.`,
		Example: `  sudo sonde doctor perf
  sonde doctor perf --duration 10s -o json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().DurationVar(&d, "duration", time.Minute, "how long each program is profiled")
	out := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if d < time.Second || d > 10*time.Minute {
			return usage(cmd, "--duration %v: want 1s to 10m", d)
		}
		var reports []*agreement.Report
		for _, shape := range agreement.Shapes {
			if out.value != "json" {
				fmt.Fprintf(a.stderr, "profiling the program %q for %v\n", shape, d)
			}
			r, err := agreement.Compare(cmd.Context(), shape, d, workloadCommand)
			if err != nil {
				return fmt.Errorf("compare profiles: %w", err)
			}
			if out.value != "json" {
				a.writeAgreement(r)
			}
			reports = append(reports, r)
		}
		if out.value == "json" {
			return writeJSON(a.stdout, reports)
		}
		return nil
	}
	return cmd
}

// workloadCommand runs this executable as a workload.
func workloadCommand(ctx context.Context, shape string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return exec.CommandContext(ctx, self, "doctor-workload", shape)
}

func (a *app) doctorWorkloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "doctor-workload SHAPE",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return agreement.Workload(args[0], a.stdin, a.stdout)
		},
	}
}

func (a *app) writeAgreement(r *agreement.Report) {
	fmt.Fprintf(a.stdout, "%s, %v, perf's mode %s, %d CPUs\n", r.Shape, r.Duration, r.Mode, runtime.NumCPU())
	fmt.Fprintf(a.stdout, "  overlap  %.3f  of %s samples inside, %s outside (%s of both count for the caller of runtime.asyncPreempt or the vdso)\n",
		r.Overlap, group(r.Inside), group(r.Outside), group(r.Moved))
	fmt.Fprintf(a.stdout, "  chance   %.3f  on average, %.3f in the worst of 20\n", r.Chance, r.ChanceLow)
	ratio := func(d time.Duration) float64 { return d.Seconds() / max(r.StatCPU.Seconds(), 0.01) }
	fmt.Fprintf(a.stdout, "  CPU      %.2f s inside (%.3f of stat), %.2f s outside (%.3f of stat), /proc stat %.2f s\n",
		r.InsideCPU.Seconds(), ratio(r.InsideCPU), r.OutsideCPU.Seconds(), ratio(r.OutsideCPU), r.StatCPU.Seconds())
	fmt.Fprintf(a.stdout, "  sampler  %.2f %% of one CPU, %s resident, %d records lost\n", 100*r.SamplerCPU, formatValue(r.RSS, "bytes"), r.Lost)
	fmt.Fprintln(a.stdout, "  largest differences, share inside and outside:")
	for _, g := range r.Largest {
		fmt.Fprintf(a.stdout, "    %5.1f %%  %5.1f %%  %s\n", 100*g.Inside, 100*g.Outside, g.Function)
	}
}
