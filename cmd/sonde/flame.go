package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

// flameView says how much of a flame graph is printed.
type flameView struct {
	depth   int     // levels below the root; 0: all
	percent float64 // smallest share of the total
	boxes   bool    // draw lines between parents and children
}

func (a *app) flameCommand() *cobra.Command {
	var q queryFlags
	view := flameView{boxes: a.terminal}
	var nodes int
	cmd := &cobra.Command{
		Use:   "flame [FILE]",
		Short: "Print a flame graph as a tree",
		Long: `Print a flame graph as a tree: each function under its caller, the most expensive first.

Merging is as in sonde top. With a FILE (- is standard input) that one pprof profile is read instead, and no collector is
asked. -o json prints the columns that the web page draws.`,
		Example: `  sonde flame --service cart --type cpu --since 15m
  sonde flame --service cart --type heap --min 2
  sonde flame -o json cpu.pb.gz`,
		Args: cobra.MaximumNArgs(1),
	}
	q.register(cmd)
	cmd.Flags().IntVar(&view.depth, "depth", 0, "deepest level printed; 0: all")
	cmd.Flags().Float64Var(&view.percent, "min", 1, "smallest share of the total printed, in percent")
	cmd.Flags().IntVar(&nodes, "max-nodes", 8192, "nodes after which the smallest are folded into (other)")
	out := outputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if nodes < 1 || nodes > 65536 {
			return usage(cmd, "read --max-nodes: %d is not within 1 and 65536", nodes)
		}
		f, err := a.flame(cmd, &q, args, nodes)
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, f)
		}
		return writeFlame(a.stdout, f, view)
	}
	return cmd
}

func (a *app) flame(cmd *cobra.Command, q *queryFlags, args []string, nodes int) (*profiles.Flame, error) {
	if len(args) == 1 {
		t, err := localType(cmd, q)
		if err != nil {
			return nil, err
		}
		s, err := a.loadFile(args[0], t)
		if err != nil {
			return nil, err
		}
		return profiles.NewFlame(s, nil, profiles.FlameOptions{MaxNodes: nodes}), nil
	}
	params, _, err := q.params(cmd, a.now())
	if err != nil {
		return nil, err
	}
	params.Set("max_nodes", strconv.Itoa(nodes))
	var f profiles.Flame
	if err := a.ask(cmd.Context(), "/api/v1/flamegraph", params, &f); err != nil {
		return nil, err
	}
	return &f, validFlame(&f)
}

func writeFlame(w io.Writer, f *profiles.Flame, view flameView) error {
	if f.Total == 0 {
		return writeNothing(w, f.Type, f.From, f.To)
	}
	if err := writeTitle(w, f.Type, f.From, f.To, f.Total, f.Stats); err != nil {
		return err
	}
	var b strings.Builder
	p := flamePrinter{f: f, view: view, out: &b}
	p.children(0, "")
	if p.hidden > 0 {
		fmt.Fprintf(&b, "(%s below %.3g%% or deeper than asked for not printed)\n", plural(int64(p.hidden), "node"), view.percent)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
