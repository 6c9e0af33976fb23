package godebug

import "strconv"

// cursor reads a line that may not be complete yet. Its methods do nothing once one of them failed, so that a grammar is written down without checks in between.
type cursor struct {
	b     []byte
	i     int
	short bool // b ended where more is allowed to come
	bad   bool // b[i] cannot stand here
	sure  bool // so much was read that nobody but the runtime prints it
}

func (c *cursor) failed() bool { return c.short || c.bad }

// lit reads s.
func (c *cursor) lit(s string) {
	for k := 0; k < len(s) && !c.failed(); k++ {
		switch {
		case c.i == len(c.b):
			c.short = true
		case c.b[c.i] != s[k]:
			c.bad = true
		default:
			c.i++
		}
	}
}

// try reads s if it is there and reports whether it is.
func (c *cursor) try(s string) bool {
	if c.failed() {
		return false
	}
	for k := range len(s) {
		if c.i+k == len(c.b) {
			c.short = true
			return false
		}
		if c.b[c.i+k] != s[k] {
			return false
		}
	}
	c.i += len(s)
	return true
}

// token reads the longest run of bytes that ok takes, of 1 to limit.
func (c *cursor) token(limit int, ok func(byte) bool) string {
	if c.failed() {
		return ""
	}
	start := c.i
	for c.i < len(c.b) && c.i-start < limit && ok(c.b[c.i]) {
		c.i++
	}
	switch {
	case c.i == len(c.b):
		c.short = true
	case c.i == start:
		c.bad = true
	}
	return string(c.b[start:c.i])
}

func isDigit(b byte) bool   { return b >= '0' && b <= '9' }
func isDecimal(b byte) bool { return isDigit(b) || b == '.' }

// isFloat takes what the runtime prints for a floating point number: +1.500000e+000, until Go 1.25, else 1.5, NaN, +Inf.
func isFloat(b byte) bool {
	switch b {
	case '+', '-', '.', 'e', 'N', 'a', 'I', 'n', 'f':
		return true
	}
	return isDigit(b)
}

// int reads a number that is not negative.
func (c *cursor) int() int64 {
	text := c.token(20, isDigit)
	if c.failed() {
		return 0
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		c.bad = true
	}
	return v
}

// signed reads a number that may be negative.
func (c *cursor) signed() int64 {
	if c.try("-") {
		return -c.int()
	}
	return c.int()
}

// dec reads a number with digits and at most a point.
func (c *cursor) dec() float64 { return c.number(isDecimal) }

// float reads a number as print does.
func (c *cursor) float() float64 { return c.number(isFloat) }

func (c *cursor) number(ok func(byte) bool) float64 {
	text := c.token(32, ok)
	if c.failed() {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		c.bad = true
	}
	return v
}

// ref reads the number of a thread, processor or goroutine, or that there is none: nil, before Go 1.20 -1.
func (c *cursor) ref() {
	c.token(20, func(b byte) bool { return isDigit(b) || b == '-' || b == 'n' || b == 'i' || b == 'l' })
}

// values reads numbers, truth values or nil, the first behind what was read and each other one behind its name.
func (c *cursor) values(names ...string) {
	for _, name := range names {
		c.lit(name)
		if !c.try("true") && !c.try("false") {
			c.ref()
		}
	}
}

// until reads at most limit bytes up to stop, which is not read.
func (c *cursor) until(stop byte, limit int) string {
	text := c.token(limit, func(b byte) bool { return b != stop && b != '\n' })
	if !c.failed() && c.b[c.i] != stop {
		c.bad = true
	}
	return text
}

// rest reads at most limit bytes up to the end of the line, possibly none.
func (c *cursor) rest(limit int) {
	for n := 0; !c.failed(); n++ {
		switch {
		case c.i == len(c.b):
			c.short = true
		case c.b[c.i] == '\n':
			return
		case n == limit:
			c.bad = true
		default:
			c.i++
		}
	}
}
