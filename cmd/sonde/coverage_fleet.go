package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/profiles"
)

func (a *app) coverageCommand() *cobra.Command {
	var service, node, since string
	cmd := &cobra.Command{
		Use:   "coverage",
		Short: "Say how much of the fleet is watched, and what would close each gap",
		Long: `Compare what should be watched (every Go process that a node's sidecar or collector sees: in pods, in systemd units, or neither) with what is,
and group what is not by its reason, each with what cures it. Processes that are watched and lack something, such as a heap profile that
the linker left out, are listed after those that are not watched. A node whose sidecar is silent is a gap by itself.`,
		Example: `  sonde coverage
  sonde coverage --by node
  sonde coverage --service cart -o wide    with examples of each gap
  sonde coverage -o json`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&service, "service", "s", "", "only this service")
	fs.StringVar(&node, "node", "", "only this node")
	by := &format{value: "reason", allowed: []string{"reason", "service", "node"}, what: "WHAT"}
	fs.Var(by, "by", "what the gaps are grouped by: reason, service or node")
	fs.StringVar(&since, "since", "", "how long a node or process that has fallen silent is still expected: 1h, 1d (default 1h)")
	out := outputFlag(cmd, "table", "wide", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		params := url.Values{}
		if service != "" {
			params.Set("service", service)
		}
		if node != "" {
			params.Set("node", node)
		}
		if since != "" {
			d, err := profiles.ParseDuration(since)
			if err != nil {
				return usage(cmd, "read --since: %w", err)
			}
			params.Set("since", unixMs(a.now().Add(-d).UnixMilli()))
		}
		var c client.Coverage
		if err := a.ask(cmd.Context(), "/api/v1/coverage", params, &c); err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, &c)
		}
		return a.writeCoverage(&c, by.value, out.value == "wide")
	}
	return cmd
}

// writeCoverage prints the numbers, then the gaps.
func (a *app) writeCoverage(c *client.Coverage, by string, wide bool) error {
	var b strings.Builder
	if c.Processes.Expected == 0 && c.Nodes.Expected == 0 {
		fmt.Fprintln(a.stderr, "this collector knows of no Go process; `sonde sidecar` on each node reports what runs there")
		return nil
	}
	fmt.Fprintf(&b, "%d of %d Go processes watched%s\n", c.Processes.Watched, c.Processes.Expected, share(c.Processes))
	var more []string
	for _, t := range []struct {
		client.Tally
		what string
	}{{c.Pods, "pods watched"}, {c.Units, "systemd units watched"}, {c.Nodes, "nodes report"}} {
		if t.Expected > 0 {
			more = append(more, fmt.Sprintf("%d of %d %s", t.Watched, t.Expected, t.what))
		}
	}
	if len(more) > 0 {
		fmt.Fprintln(&b, strings.Join(more, ", "))
	}
	if _, err := fmt.Fprintln(a.stdout, strings.TrimSuffix(b.String(), "\n")); err != nil {
		return fmt.Errorf("write coverage: %w", err)
	}
	tab := a.coverageTable(c, by)
	if len(tab.rows) > 0 {
		fmt.Fprintln(a.stdout)
		if err := tab.write(a.stdout); err != nil {
			return err
		}
	}
	if wide && by == "reason" {
		return a.writeExamples(c.Gaps)
	}
	return nil
}

func share(t client.Tally) string {
	if t.Expected == 0 {
		return ""
	}
	// Rounded down: 100 % says that there is no gap.
	return fmt.Sprintf(" (%d %%)", 100*t.Watched/t.Expected)
}

func (a *app) coverageTable(c *client.Coverage, by string) *table {
	counts := func(t client.Tally) []string {
		return []string{strconv.Itoa(t.Watched), strconv.Itoa(t.Expected), strconv.Itoa(t.Expected - t.Watched)}
	}
	switch by {
	case "service":
		tab := a.newTable(">WATCHED", ">OF", ">MISSING", "SERVICE")
		for _, s := range c.ByService {
			tab.add(append(counts(s.Tally), dash(s.Name))...)
		}
		return tab
	case "node":
		tab := a.newTable(">WATCHED", ">OF", ">MISSING", "NODE", "REPORTS")
		for _, n := range c.ByNode {
			reports := "nothing reports what runs there"
			switch {
			case n.Silent:
				reports = n.Gatherer + " silent since " + stamp(n.Reported)
			case n.Reports:
				reports = n.Gatherer
			}
			if n.Unknown > 0 {
				reports += fmt.Sprintf("; %d processes cannot be read", n.Unknown)
			}
			if n.More > 0 {
				reports += fmt.Sprintf("; %d processes more than it reports", n.More)
			}
			tab.add(append(counts(n.Tally), dash(n.Name), dash(reports))...)
		}
		return tab
	}
	tab := a.newTable(">PROCESSES", "GAP", "WHERE", "CURE")
	for _, g := range c.Gaps {
		reason := g.Reason
		if g.Partial {
			reason = "watched, but: " + reason
		}
		tab.add(strconv.Itoa(g.Processes), dash(reason), dash(where(g)), dash(g.Cure))
	}
	return tab
}

// where names the places of a gap while they are few.
func where(g client.Gap) string {
	names := func(list []string, what string) string {
		if len(list) > 2 {
			return fmt.Sprintf("%d %s", len(list), what)
		}
		return strings.Join(list, ", ")
	}
	services, nodes := names(g.Services, "services"), names(g.Nodes, "nodes")
	if services != "" && nodes != "" {
		return services + " on " + nodes
	}
	return services + nodes
}

func (a *app) writeExamples(gaps []client.Gap) error {
	for _, g := range gaps {
		fmt.Fprintf(a.stdout, "\n%s\n", clean(g.Reason))
		tab := a.newTable("  SERVICE", ">PID", "NODE", "POD OR UNIT", "EXE", "REASON")
		for _, e := range g.Examples {
			in := e.Pod
			if in == "" {
				in = e.Unit
			}
			tab.add("  "+dash(e.Service), dash(number(e.PID)), dash(e.Node), dash(in), dash(e.Exe), dash(e.Text))
		}
		if err := tab.write(a.stdout); err != nil {
			return err
		}
	}
	return nil
}
