package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// format is the value of a flag that takes one of several words, as -o does.
type format struct {
	value   string
	allowed []string
	what    string            // the words, in help; "": FORMAT
	old     map[string]string // words that mean one of them, from before it had its name
}

var _ pflag.Value = (*format)(nil)

func (f *format) String() string { return f.value }
func (f *format) Type() string   { return cmp.Or(f.what, "FORMAT") }
func (f *format) Set(s string) error {
	if now, ok := f.old[s]; ok {
		s = now
	}
	for _, a := range f.allowed {
		if s == a {
			f.value = s
			return nil
		}
	}
	return fmt.Errorf("want %s", strings.Join(f.allowed, " or "))
}

// outputFlag adds -o with the given formats to cmd; the first is the default.
func outputFlag(cmd *cobra.Command, formats ...string) *format {
	f := &format{value: formats[0], allowed: formats}
	cmd.Flags().VarP(f, "format", "o", "output format: "+strings.Join(formats, ", "))
	if err := cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // only for a flag that does not exist
	}
	return f
}

// sortFlag adds --sort with the given columns to cmd; the first is the default.
func sortFlag(cmd *cobra.Command, columns ...string) *format {
	f := &format{value: columns[0], allowed: columns, what: "COLUMN"}
	cmd.Flags().Var(f, "sort", "what the rows are ordered by: "+strings.Join(columns, " or "))
	if err := cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(columns, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // only for a flag that does not exist
	}
	return f
}

// writeJSON prints v, indented.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// table prints aligned columns. A header that starts with ">" is right-aligned, for numbers.
type table struct {
	header  []string
	rows    [][]string
	columns int // width of the terminal, into which the last column is shortened; 0: no terminal, nothing is
}

func (a *app) newTable(header ...string) *table { return &table{header: header, columns: a.columns} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table; the last column is not padded.
func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.header))
	names := make([]string, len(t.header))
	for i, h := range t.header {
		names[i] = strings.TrimPrefix(h, ">")
		widths[i] = utf8.RuneCountInString(names[i])
	}
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	used := 2 * (len(widths) - 1) // columns in front of the last one
	for _, w := range widths[:len(widths)-1] {
		used += w
	}
	line := func(cells []string) {
		for i, c := range cells {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			right := strings.HasPrefix(t.header[i], ">")
			if i > 0 {
				b.WriteString("  ")
			}
			switch {
			case right:
				b.WriteString(pad + c)
			case i == len(cells)-1:
				if t.columns > 0 {
					c = shorten(c, t.columns-used)
				}
				b.WriteString(c)
			default:
				b.WriteString(c + pad)
			}
		}
		b.WriteByte('\n')
	}
	line(names)
	for _, row := range t.rows {
		line(row)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// writeFolded prints a table that is too wide for the terminal as several, one below the other: each has the first columns, so many as keys, which say what a row is about, and
// of the others those up to the next of the ends, or as many as fit.
func (t *table) writeFolded(w io.Writer, keys int, ends ...int) error {
	if t.columns <= 0 || t.width() <= t.columns {
		return t.write(w)
	}
	for from := keys; from < len(t.header); {
		end := len(t.header)
		if i := slices.IndexFunc(ends, func(e int) bool { return e > from }); i >= 0 {
			end = ends[i]
		}
		part := t.part(keys, from, end)
		for end > from+1 && part.width() > t.columns {
			end--
			part = t.part(keys, from, end)
		}
		if from > keys {
			if _, err := fmt.Fprintln(w); err != nil {
				return fmt.Errorf("write table: %w", err)
			}
		}
		if err := part.write(w); err != nil {
			return err
		}
		from = end
	}
	return nil
}

// part is the table of the first columns, so many as keys, and of those in [from, end).
func (t *table) part(keys, from, end int) *table {
	part := &table{header: slices.Concat(t.header[:keys], t.header[from:end]), columns: t.columns}
	for _, row := range t.rows {
		part.add(slices.Concat(row[:keys], row[from:end])...)
	}
	return part
}

// width is that of the longest line, without what write shortens: the last column where it is text is as wide as its header.
func (t *table) width() int {
	width := 2 * (len(t.header) - 1)
	for i, h := range t.header {
		longest := utf8.RuneCountInString(strings.TrimPrefix(h, ">"))
		if i < len(t.header)-1 || strings.HasPrefix(h, ">") {
			for _, row := range t.rows {
				longest = max(longest, utf8.RuneCountInString(row[i]))
			}
		}
		width += longest
	}
	return width
}

// shorten leaves at most n columns of s. A function's name loses its package path, from the left; what is no path, its right. Less than
// a dozen columns help nobody: the terminal wraps then.
func shorten(s string, n int) string {
	r := []rune(s)
	switch {
	case n < 12 || len(r) <= n:
		return s
	case strings.Contains(s, "/") && !strings.Contains(s, " "):
		return "…" + string(r[len(r)-n+1:])
	}
	return string(r[:n-1]) + "…"
}

// clean makes text from outside safe for a terminal: control characters become "?".
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

// dash stands for what is not known.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return clean(s)
}
