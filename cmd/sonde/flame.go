package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
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
	frames := framesFlag(cmd)
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if nodes < 1 || nodes > 65536 {
			return usage(cmd, "read --max-nodes: %d is not within 1 and 65536", nodes)
		}
		f, params, err := a.flame(cmd, &q, args, nodes, profiles.Frames(frames.value))
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, f)
		}
		return a.writeFlame(cmd.Context(), f, view, params)
	}
	return cmd
}

// flame reads a file or asks the collector; params are what it was asked, nil for a file.
func (a *app) flame(cmd *cobra.Command, q *queryFlags, args []string, nodes int, frames profiles.Frames) (*profiles.Flame, url.Values, error) {
	more := url.Values{"max_nodes": {strconv.Itoa(nodes)}, "frames": {string(frames)}}
	f, params, err := view(a, cmd, q, args, "/api/v1/flamegraph", more, func(s *profiles.Stacks) *profiles.Flame {
		return profiles.NewFlame(s, nil, profiles.FlameOptions{MaxNodes: nodes, Frames: frames})
	})
	if err != nil {
		return nil, nil, err
	}
	return f, params, validFlame(f)
}

func (a *app) writeFlame(ctx context.Context, f *profiles.Flame, view flameView, params url.Values) error {
	if f.Total == 0 {
		return a.writeNothing(ctx, f.Type, f.From, f.To, f.Stats, params)
	}
	if err := a.writeTitle(f.Type, f.From, f.To, f.Total, f.Stats); err != nil {
		return err
	}
	var b strings.Builder
	p := flamePrinter{f: f, view: view, out: &b, columns: a.columns}
	p.children(0, "")
	if p.hidden > 0 {
		fmt.Fprintf(&b, "(%s below %.3g%% or deeper than asked for not printed)\n", plural(int64(p.hidden), "node"), view.percent)
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}
