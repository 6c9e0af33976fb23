package build

import (
	"fmt"
	"strings"

	"golang.org/x/mod/semver"
)

// Std is the path under which the standard library is asked for: its version is that of Go.
const Std = "std"

// GoSemver returns a version of Go as a semantic version, go1.26rc1 as v1.26.0-rc.1; "" for what is none, such as a build of Go's own working tree.
func GoSemver(goVersion string) string {
	v, ok := strings.CutPrefix(goVersion, "go")
	if !ok {
		return ""
	}
	v, _, _ = strings.Cut(v, " ") // what follows are experiments
	v, _, _ = strings.Cut(v, "-") // and what a distribution or a vendor adds
	pre := ""
	for _, word := range []string{"rc", "beta", "alpha"} {
		if num, n, ok := strings.Cut(v, word); ok {
			v, pre = num, "-"+word+"."+n
		}
	}
	for strings.Count(v, ".") < 2 {
		v += ".0"
	}
	if v = "v" + v + pre; !semver.IsValid(v) {
		return ""
	}
	return v
}

// Constraint is a range of versions: all its parts must hold. The zero Constraint holds of every version.
type Constraint struct {
	parts []part
	text  string
}

type part struct{ op, version string }

var operators = []string{"<=", ">=", "!=", "==", "=", "<", ">"} // the longer first

// maxConstraint bounds a constraint, in bytes.
const maxConstraint = 256

// ParseConstraint reads "<v1.2.3", ">=v1.0.0,<v2", "=1.2.3" or "v1.2.3", which is =. The v may be left out, and so may what follows the major version; go1.22 is read as a version of Go.
func ParseConstraint(text string) (Constraint, error) {
	c := Constraint{text: strings.TrimSpace(text)}
	if len(text) > maxConstraint {
		return c, fmt.Errorf("read version constraint: %d bytes, at most %d are read", len(text), maxConstraint)
	}
	if c.text == "" {
		return c, nil
	}
	for word := range strings.SplitSeq(c.text, ",") {
		p := part{op: "=", version: strings.TrimSpace(word)}
		for _, op := range operators {
			if rest, ok := strings.CutPrefix(p.version, op); ok {
				p.op, p.version = op, strings.TrimSpace(rest)
				break
			}
		}
		if p.op == "==" {
			p.op = "="
		}
		given := p.version
		switch {
		case strings.HasPrefix(given, "go"):
			p.version = GoSemver(given)
		case !strings.HasPrefix(given, "v"):
			p.version = "v" + given
		}
		if !semver.IsValid(p.version) {
			return c, fmt.Errorf("read version constraint: %q is not a version such as v1.2.3", given)
		}
		c.parts = append(c.parts, p)
	}
	return c, nil
}

// String returns the text that was read.
func (c Constraint) String() string { return c.text }

// Holds reports whether the version is in the range. Of what is no semantic version ("" is a folder's) nobody knows: known is false.
func (c Constraint) Holds(version string) (holds, known bool) {
	if len(c.parts) == 0 {
		return true, true
	}
	if !semver.IsValid(version) {
		return false, false
	}
	for _, p := range c.parts {
		n := semver.Compare(version, p.version)
		var ok bool
		switch p.op {
		case "<":
			ok = n < 0
		case "<=":
			ok = n <= 0
		case ">":
			ok = n > 0
		case ">=":
			ok = n >= 0
		case "=":
			ok = n == 0
		case "!=":
			ok = n != 0
		}
		if !ok {
			return false, true
		}
	}
	return true, true
}
