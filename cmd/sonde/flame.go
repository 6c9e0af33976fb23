package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
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

func (a *app) flame(cmd *cobra.Command, q *queryFlags, args []string, nodes int) (*client.Flame, error) {
	if len(args) == 1 {
		s, err := a.loadFile(args[0], localType(cmd, q))
		if err != nil {
			return nil, err
		}
		return localFlame(s, nodes)
	}
	params, _, err := q.params(cmd, a.now())
	if err != nil {
		return nil, err
	}
	params.Set("max_nodes", strconv.Itoa(nodes))
	var f client.Flame
	if err := a.ask(cmd.Context(), "/api/v1/flamegraph", params, &f); err != nil {
		return nil, err
	}
	return &f, f.Validate()
}

func writeFlame(w io.Writer, f *client.Flame, view flameView) error {
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

// flamePrinter prints the tree; nodes are in pre-order, so that the children of i follow it.
type flamePrinter struct {
	f      *client.Flame
	view   flameView
	out    *strings.Builder
	hidden int
}

func (p *flamePrinter) children(i int, indent string) {
	kids := p.f.Children(i)
	shown := kids[:0]
	for _, k := range kids {
		if p.visible(k) {
			shown = append(shown, k)
		} else {
			p.hidden += p.f.End(k) - k
		}
	}
	for n, k := range shown {
		branch, below := "  ", "  "
		if p.view.boxes {
			branch, below = "├─", "│ "
			if n == len(shown)-1 {
				branch, below = "└─", "  "
			}
		}
		f := p.f
		fmt.Fprintf(p.out, "%7s %9s  %s%s%s\n", percent(f.Value[k], f.Total), formatValue(f.Value[k], f.Type.Unit), indent, branch, clean(f.Names[f.Name[k]]))
		p.children(k, indent+below)
	}
}

func (p *flamePrinter) visible(k int) bool {
	if p.view.depth > 0 && p.f.Depth[k] > p.view.depth {
		return false
	}
	return 100*float64(p.f.Value[k]) >= p.view.percent*float64(p.f.Total)
}
