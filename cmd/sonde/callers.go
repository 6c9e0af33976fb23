package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

func (a *app) callersCommand() *cobra.Command {
	var q queryFlags
	view := flameView{boxes: a.terminal}
	cmd := &cobra.Command{
		Use:   "callers FUNCTION [FILE]",
		Short: "Show who calls a function and what it calls",
		Long: `Show who calls a function and what it calls, as two trees: in the first the function's callers, theirs below them; in the
second what it calls. FUNCTION is a whole name as sonde top prints it. Shares are of what the function costs with what it
calls; recursion counts once.

Merging is as in sonde top. With a FILE (- is standard input) that one pprof profile is read instead, and no collector is asked.`,
		Example: `  sonde callers runtime.mallocgc --service cart --since 15m
  sonde callers encoding/json.Marshal --service cart --type allocs --min 5
  sonde callers main.main cpu.pb.gz`,
		Args: cobra.RangeArgs(1, 2),
	}
	q.register(cmd)
	cmd.Flags().IntVar(&view.depth, "depth", 0, "deepest level printed; 0: all")
	cmd.Flags().Float64Var(&view.percent, "min", 1, "smallest share of the function printed, in percent")
	frames := framesFlag(cmd)
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opt := profiles.FlameOptions{Frames: profiles.Frames(frames.value)}
		more := url.Values{"function": {args[0]}, "frames": {frames.value}}
		c, params, err := viewCallers(a, cmd, &q, args, more, opt)
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, c)
		}
		return a.writeCallers(cmd, c, view, params)
	}
	return cmd
}

// viewCallers reads a file or asks the collector; params are what it was asked, nil for a file.
func viewCallers(a *app, cmd *cobra.Command, q *queryFlags, args []string, more url.Values, opt profiles.FlameOptions) (*profiles.Callers, url.Values, error) {
	c, params, err := view(a, cmd, q, args[1:], "/api/v1/callers", more, func(s *profiles.Stacks) *profiles.Callers {
		return profiles.NewCallers(s, nil, args[0], opt)
	})
	if err != nil {
		return nil, nil, err
	}
	if c.Callers == nil || c.Callees == nil {
		return nil, nil, fmt.Errorf("read callers: the answer holds no flame graph")
	}
	if err := validFlame(c.Callers); err != nil {
		return nil, nil, err
	}
	return c, params, validFlame(c.Callees)
}

func (a *app) writeCallers(cmd *cobra.Command, c *profiles.Callers, view flameView, params url.Values) error {
	f := c.Callees
	if c.All == 0 {
		return a.writeNothing(cmd.Context(), f.Type, f.From, f.To, f.Stats, params)
	}
	if c.Total == 0 {
		return withHint(fmt.Errorf("show callers: %s is not in these profiles", clean(c.Function)), "names are as `sonde top` prints them; `sonde top -n 1000 | grep NAME` finds one")
	}
	if err := a.writeTitle(f.Type, f.From, f.To, c.All, f.Stats); err != nil {
		return err
	}
	unit := f.Type.Unit
	var b strings.Builder
	fmt.Fprintf(&b, "%s: self %s (%s of all), total %s (%s of all)\n", clean(c.Function), formatValue(c.Self, unit), percent(c.Self, c.All), formatValue(c.Total, unit), percent(c.Total, c.All))
	hidden := 0
	for _, part := range []struct {
		title string
		flame *profiles.Flame
	}{{"called by", c.Callers}, {"calls", c.Callees}} {
		fmt.Fprintf(&b, "\n%s\n", part.title)
		p := flamePrinter{f: part.flame, view: view, out: &b, columns: a.columns}
		p.children(0, "")
		if part.flame.Nodes == 1 {
			b.WriteString("  nothing\n")
		}
		hidden += p.hidden
	}
	if hidden > 0 {
		fmt.Fprintf(&b, "\n(%s below %s%% or deeper than asked for not printed)\n", plural(int64(hidden), "node"), strconv.FormatFloat(view.percent, 'g', 3, 64))
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}
