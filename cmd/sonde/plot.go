package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// plot draws values over time: one panel below the other, all on one scale, so that they compare. A panel of one line is drawn with braille dots, two by four to a character; one of
// several with a letter for each, which tells them apart on every terminal.
type plot struct {
	from, to int64 // Unix ms
	step     int64 // between two values, in ms: what is further apart is not joined; 0: everything is
	columns  int   // of the terminal; 0: 80
	show     func(float64) string
	panels   []plotPanel
}

type plotPanel struct {
	title string
	plotLine
	lines  []plotLine // in place of the one, if there are several
	counts plotLine   // what is counted rather than drawn, in a row of its own; its name is that of the row
}

type plotLine struct {
	name string
	mark rune    // its letter, where there are several
	t    []int64 // Unix ms, ascending
	v    []float64
}

const (
	maxPanels    = 8
	oneHeight    = 12 // lines of a panel that is alone
	manyHeight   = 4
	letterHeight = 8 // of one with letters, which is coarser, among others
	minWidth     = 20
)

// write prints the panels and below them the time.
func (p *plot) write(w io.Writer) error {
	low, high := p.scale()
	top, bottom := p.show(high), p.show(low)
	margin := max(utf8.RuneCountInString(top), utf8.RuneCountInString(bottom))
	for _, panel := range p.panels {
		margin = max(margin, utf8.RuneCountInString(panel.counts.name))
	}
	columns := p.columns
	if columns <= 0 {
		columns = 80
	}
	width := max(minWidth, columns-margin-2)
	var b strings.Builder
	row := func(label, line string) {
		b.WriteString(strings.Repeat(" ", margin-utf8.RuneCountInString(label)) + label + " │" + strings.TrimRight(line, " ") + "\n")
	}
	for _, panel := range p.panels {
		if panel.title != "" {
			b.WriteString(shortenRight(panel.title, columns) + "\n")
		}
		lines := p.drawPanel(panel, width, low, high)
		for y, line := range lines {
			label := ""
			switch y {
			case 0:
				label = top
			case len(lines) - 1:
				label = bottom
			}
			row(label, line)
		}
		if panel.counts.name != "" {
			row(panel.counts.name, p.drawCounts(panel.counts, width))
		}
	}
	left, right := stamp(p.from), stamp(p.to)
	if p.to-p.from < (20*time.Hour).Milliseconds() && len(left) > 11 && left[:11] == right[:11] {
		right = right[11:]
	}
	b.WriteString(strings.Repeat(" ", margin+1) + "└" + strings.Repeat("─", width) + "\n")
	b.WriteString(strings.Repeat(" ", margin+2) + left + strings.Repeat(" ", max(1, width-len(left)-len(right))) + right + "\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write plot: %w", err)
	}
	return nil
}

// shortenRight leaves the left of s, in n columns.
func shortenRight(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// scale is from zero where all values are above it and not far from it, as most that is counted.
func (p *plot) scale() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, panel := range p.panels {
		for _, l := range slices.Concat(panel.lines, []plotLine{panel.plotLine}) {
			for _, v := range l.v {
				if !math.IsNaN(v) && !math.IsInf(v, 0) {
					low, high = min(low, v), max(high, v)
				}
			}
		}
	}
	switch {
	case low > high:
		return 0, 1
	case low > 0 && low < 0.8*high:
		low = 0
	}
	if low == high {
		pad := math.Abs(high) / 10
		if pad == 0 {
			pad = 1
		}
		low, high = low-pad, high+pad
		if low < 0 && low+pad >= 0 {
			low = 0
		}
	}
	return low, high
}

// brailleDots are the bits of the dots of a character by column and row.
var brailleDots = [2][4]rune{{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}}

// drawPanel returns the rows of one panel, from the top.
func (p *plot) drawPanel(panel plotPanel, width int, low, high float64) []string {
	height := manyHeight
	switch {
	case len(p.panels) == 1:
		height = oneHeight
	case panel.lines != nil:
		height = letterHeight
	}
	if panel.lines != nil {
		return p.drawLetters(panel.lines, width, height, low, high)
	}
	return p.draw(panel.plotLine, width, height, low, high)
}

// trace sets the dots of a line on a grid: of each value one, and between two that are joined those that join does.
func (p *plot) trace(l plotLine, columns, rows int, low, high float64, set func(x, y int), join func(x0, y0, x1, y1 int, set func(x, y int))) {
	lastX, lastY, lastT := -1, 0, int64(0)
	for i, v := range l.v {
		if math.IsNaN(v) || math.IsInf(v, 0) || l.t[i] < p.from || l.t[i] > p.to {
			lastX = -1
			continue
		}
		x := p.column(l.t[i], columns)
		down := (high/2 - v/2) / (high/2 - low/2) // in halves: the greatest numbers have a difference that is none
		if !(down <= 1) {
			down = 1
		}
		y := int(math.Round(max(0, down) * float64(rows-1)))
		if lastX >= 0 && (p.step == 0 || l.t[i]-lastT <= 3*p.step/2) {
			join(lastX, lastY, x, y, set)
		} else {
			set(x, y)
		}
		lastX, lastY, lastT = x, y, l.t[i]
	}
}

// column returns where of so many a time is.
func (p *plot) column(t int64, columns int) int {
	return int(math.Round(float64(t-p.from) / float64(max(1, p.to-p.from)) * float64(columns-1)))
}

// drawLetters returns the rows of several lines. Where some meet, their letters take turns from column to column, so that none hides another.
func (p *plot) drawLetters(lines []plotLine, width, height int, low, high float64) []string {
	cells := make([][]rune, width*height)
	for _, l := range lines {
		p.trace(l, width, height, low, high, func(x, y int) {
			if x < 0 || x >= width || y < 0 || y >= height {
				return
			}
			if c := &cells[y*width+x]; len(*c) == 0 || (*c)[len(*c)-1] != l.mark {
				*c = append(*c, l.mark)
			}
		}, across)
	}
	rows := make([]string, height)
	for y := range rows {
		var b strings.Builder
		for x, c := range cells[y*width : (y+1)*width] {
			if len(c) == 0 {
				b.WriteByte(' ')
			} else {
				b.WriteRune(c[x%len(c)])
			}
		}
		rows[y] = b.String()
	}
	return rows
}

// across sets one dot in every column from one to the next, both included.
func across(x0, y0, x1, y1 int, set func(x, y int)) {
	for x := x0; x < x1; x++ {
		set(x, y0+int(math.Round(float64(x-x0)/float64(x1-x0)*float64(y1-y0))))
	}
	set(x1, y1)
}

// drawCounts returns a row with the number of what is counted in each column, # where it is more than 9.
func (p *plot) drawCounts(l plotLine, width int) string {
	counts := make([]float64, width)
	for i, v := range l.v {
		if v > 0 && l.t[i] >= p.from && l.t[i] <= p.to {
			counts[p.column(l.t[i], width)] += v
		}
	}
	var b strings.Builder
	for _, n := range counts {
		switch n = math.Round(n); {
		case n == 0:
			b.WriteByte(' ')
		case n > 9:
			b.WriteByte('#')
		default:
			b.WriteByte('0' + byte(n))
		}
	}
	return b.String()
}

// draw returns the rows of one line.
func (p *plot) draw(l plotLine, width, height int, low, high float64) []string {
	cells := make([]rune, width*height)
	dotsX, dotsY := 2*width, 4*height
	p.trace(l, dotsX, dotsY, low, high, func(x, y int) {
		if x >= 0 && x < dotsX && y >= 0 && y < dotsY {
			cells[y/4*width+x/2] |= brailleDots[x%2][y%4]
		}
	}, line)
	lines := make([]string, height)
	for y := range lines {
		var b strings.Builder
		for _, c := range cells[y*width : (y+1)*width] {
			if c == 0 {
				b.WriteByte(' ')
			} else {
				b.WriteRune(0x2800 + c)
			}
		}
		lines[y] = b.String()
	}
	return lines
}

// line sets the dots between two, both included.
func line(x0, y0, x1, y1 int, set func(x, y int)) {
	n := max(x1-x0, x0-x1, y1-y0, y0-y1)
	if n == 0 {
		set(x0, y0)
		return
	}
	for i := range n + 1 {
		f := float64(i) / float64(n)
		set(x0+int(math.Round(f*float64(x1-x0))), y0+int(math.Round(f*float64(y1-y0))))
	}
}
