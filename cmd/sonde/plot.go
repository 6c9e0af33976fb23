package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// plot draws values over time with braille dots, two by four to a character: one panel below the other, all on one scale, so that they compare.
type plot struct {
	from, to int64 // Unix ms
	step     int64 // between two values, in ms: what is further apart is not joined; 0: everything is
	columns  int   // of the terminal; 0: 80
	show     func(float64) string
	panels   []plotPanel
}

type plotPanel struct {
	title string
	t     []int64 // Unix ms, ascending
	v     []float64
}

const (
	maxPanels  = 8
	oneHeight  = 12 // lines of a panel that is alone
	manyHeight = 4
	minWidth   = 20
)

// write prints the panels and below them the time.
func (p *plot) write(w io.Writer) error {
	low, high := p.scale()
	top, bottom := p.show(high), p.show(low)
	margin := max(utf8.RuneCountInString(top), utf8.RuneCountInString(bottom))
	columns := p.columns
	if columns <= 0 {
		columns = 80
	}
	width := max(minWidth, columns-margin-2)
	height := manyHeight
	if len(p.panels) == 1 {
		height = oneHeight
	}
	var b strings.Builder
	for _, panel := range p.panels {
		if panel.title != "" {
			b.WriteString(shortenRight(panel.title, columns) + "\n")
		}
		for y, line := range p.draw(panel, width, height, low, high) {
			label := ""
			switch y {
			case 0:
				label = top
			case height - 1:
				label = bottom
			}
			b.WriteString(strings.Repeat(" ", margin-utf8.RuneCountInString(label)) + label + " │" + strings.TrimRight(line, " ") + "\n")
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
		for _, v := range panel.v {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				low, high = min(low, v), max(high, v)
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

// draw returns the lines of one panel.
func (p *plot) draw(panel plotPanel, width, height int, low, high float64) []string {
	cells := make([]rune, width*height)
	dotsX, dotsY := 2*width, 4*height
	set := func(x, y int) {
		if x >= 0 && x < dotsX && y >= 0 && y < dotsY {
			cells[y/4*width+x/2] |= brailleDots[x%2][y%4]
		}
	}
	span := float64(max(1, p.to-p.from))
	lastX, lastY, lastT := -1, 0, int64(0)
	for i, v := range panel.v {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			lastX = -1
			continue
		}
		if panel.t[i] < p.from || panel.t[i] > p.to {
			lastX = -1
			continue
		}
		x := int(math.Round(float64(panel.t[i]-p.from) / span * float64(dotsX-1)))
		down := (high/2 - v/2) / (high/2 - low/2) // in halves: the greatest numbers have a difference that is none
		if !(down <= 1) {
			down = 1
		}
		y := int(math.Round(max(0, down) * float64(dotsY-1)))
		if lastX >= 0 && (p.step == 0 || panel.t[i]-lastT <= 3*p.step/2) {
			line(lastX, lastY, x, y, set)
		} else {
			set(x, y)
		}
		lastX, lastY, lastT = x, y, panel.t[i]
	}
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
