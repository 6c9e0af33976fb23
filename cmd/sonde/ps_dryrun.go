package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/collector/discover"
)

// dryReport is what `sonde ps --dry-run` found.
type dryReport struct {
	Processes []dryProcess `json:"processes"`
	Summary   string       `json:"summary"`
}

// dryProcess is a process and what would be sent to it.
type dryProcess struct {
	client.Process
	Touch []string `json:"touch"`
}

// discoveryFlags adds those of the collector's flags to cmd that say what discovery may touch, and returns them.
func (a *app) discoveryFlags(cmd *cobra.Command) *pflag.FlagSet {
	all := pflag.NewFlagSet("all", pflag.ContinueOnError)
	collector.RegisterFlags(all)
	some := pflag.NewFlagSet("discovery", pflag.ContinueOnError)
	some.SortFlags = false
	all.VisitAll(func(f *pflag.Flag) {
		if f.Name == "config" || f.Name == "allow" || f.Name == "deny" {
			f.Usage = "with --dry-run: " + f.Usage
			some.AddFlag(f)
		}
	})
	cmd.Flags().AddFlagSet(some)
	return some
}

// dryRun looks at this machine's processes from here and touches none.
func (a *app) dryRun(cmd *cobra.Command, service string) (*dryReport, error) {
	cfg, err := a.config(cmd)
	if err != nil {
		return nil, err
	}
	rules, err := cfg.TouchRules()
	if err != nil {
		return nil, err
	}
	scanner, err := discover.New(discover.Config{Version: currentVersion().Version, Rules: rules})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, withHint(fmt.Errorf("look at processes: %w", err), "discovery reads /proc of Linux; elsewhere, agents push and targets are listed in the configuration")
	}
	if err != nil {
		return nil, fmt.Errorf("look at processes: %w", err)
	}
	defer scanner.Close()
	report, err := scanner.DryRun(cmd.Context())
	if err != nil {
		return nil, fmt.Errorf("look at processes: %w", err)
	}
	out := &dryReport{Processes: []dryProcess{}, Summary: report.Summary()}
	for _, p := range report.Processes {
		if service == "" || p.Service == service {
			out.Processes = append(out.Processes, describe(p, report.Time))
		}
	}
	slices.SortStableFunc(out.Processes, func(x, y dryProcess) int {
		return cmp.Or(cmp.Compare(dryRank(x), dryRank(y)), cmp.Compare(x.Service, y.Service), cmp.Compare(x.PID, y.PID))
	})
	return out, nil
}

// dryRank orders processes: those that would be touched first, those that a rule keeps out last.
func dryRank(p dryProcess) int {
	if len(p.Touch) > 0 {
		return 0
	}
	return rank("running", p.Gatherer, p.Reason)
}

func describe(p discover.Process, seen time.Time) dryProcess {
	d := dryProcess{Touch: p.Touch, Process: client.Process{Instance: p.Instance, Service: p.Service, Version: p.Version, GoVersion: p.GoVersion,
		Build: p.BuildID, PID: p.PID, Exe: p.Exe, Gatherer: p.Gatherer, State: string(p.State), Reason: p.Reason, LastSeen: seen.UnixMilli(), Labels: p.Labels}}
	if !p.Started.IsZero() {
		d.Started = p.Started.UnixMilli()
	}
	if d.Touch == nil {
		d.Touch = []string{}
	}
	return d
}

func (a *app) writeDryRun(r *dryReport) error {
	tab := a.newTable(">PID", "SERVICE", "VERSION", "GO", "BUILD", "STATE", "WOULD TOUCH")
	for _, p := range r.Processes {
		what := "nothing: " + p.Reason
		if len(p.Touch) > 0 {
			what = strings.Join(p.Touch, ", ")
		}
		tab.add(strconv.Itoa(p.PID), dash(p.Service), dash(p.Version), dash(p.GoVersion), dash(shortBuild(p.Build)), dash(p.State), clean(what))
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	fmt.Fprintln(a.stderr, clean(r.Summary))
	return nil
}
