package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

// rank asks the collector for the functions in the order of how sure it is that they changed, and prints them.
func (a *app) rank(cmd *cobra.Command, q *queryFlags, b *baseFlags, asJSON bool) error {
	if b.frames != profiles.FramesFunction {
		return usage(cmd, "--rank is by function: --frames %s does not go with it", b.frames)
	}
	params, err := a.compareParams(cmd, q, b)
	if err != nil {
		return err
	}
	params.Set("value", b.sort)
	params.Set("limit", strconv.Itoa(b.limit))
	if b.window != "" {
		params.Set("window", b.window)
	}
	var r profiles.Ranking
	if err := a.ask(cmd.Context(), "/api/v1/ranking", params, &r); err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, &r)
	}
	return a.writeRanking(&r)
}

func (a *app) writeRanking(r *profiles.Ranking) error {
	if r.Note != "" {
		fmt.Fprintf(a.stderr, "note: %s\n", clean(r.Note))
	}
	window := formatValue((time.Duration(r.Window) * time.Millisecond).Nanoseconds(), "nanoseconds")
	per := ""
	if r.Per != "" {
		per = ", " + r.Per
	}
	if _, err := fmt.Fprintf(a.stdout, "%s%s: %s by certainty of change, %d windows of %s against %d%s\n", r.Type.ID, between(r.From, r.To),
		plural(int64(r.Functions), "function"), r.Windows, window, r.BaseWindows, per); err != nil {
		return err
	}
	tab := a.newTable(">Q", ">BASE", ">NOW", ">CHANGE", ">CHANGE%", "FUNCTION")
	for _, row := range r.Rows {
		diff := formatNumber(row.Now-row.Base, r.Type.Unit)
		if row.Now > row.Base {
			diff = "+" + diff
		}
		share := "new"
		if row.Base != 0 {
			share = fmt.Sprintf("%+.1f%%", 100*(row.Now-row.Base)/row.Base)
		}
		tab.add(chance(row.Q, row.Log10P), formatNumber(row.Base, r.Type.Unit), formatNumber(row.Now, r.Type.Unit), diff, share, clean(row.Function))
	}
	return tab.write(a.stdout)
}

// chance prints a probability; below what a number holds its logarithm says how small it is.
func chance(q, log10 float64) string {
	switch {
	case q >= 0.001:
		return strconv.FormatFloat(q, 'f', 3, 64)
	case q > 1e-300:
		return strconv.FormatFloat(q, 'e', 0, 64)
	}
	return fmt.Sprintf("1e%.0f", log10)
}
