package profiles

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
)

// Bounds of what ParseSelector accepts.
const (
	MaxSelectorLen      = 16 << 10 // bytes
	MaxSelectorMatchers = 64
)

// ServiceLabel is the label that names the service.
const ServiceLabel = "service_name"

// ParseSelector reads a selector as Prometheus writes them, {service_name="cart",service_version=~"v1.*"}, with the operators = != =~ !~ and
// values in double or single quotes (with Go's escapes) or backquotes (raw). A name before the braces, or alone, is the service's: cart, or
// cart{service_version="v1"}. No selector ("" or "{}") selects everything: nil, no error.
func ParseSelector(s string) ([]*labels.Matcher, error) {
	if len(s) > MaxSelectorLen {
		return nil, fmt.Errorf("parse selector: %d bytes, at most %d are accepted", len(s), MaxSelectorLen)
	}
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("parse selector %q: invalid UTF-8", s)
	}
	p := selectorParser{in: s, rest: strings.TrimSpace(s)}
	ms, err := p.selector()
	if err != nil {
		return nil, fmt.Errorf("parse selector %s: %w", abbreviate(s), err)
	}
	return ms, nil
}

func abbreviate(s string) string {
	if len(s) > 200 {
		return strconv.Quote(strings.ToValidUTF8(s[:200], "")) + "…"
	}
	return strconv.Quote(s)
}

type selectorParser struct {
	in, rest string
}

func (p *selectorParser) selector() ([]*labels.Matcher, error) {
	var ms []*labels.Matcher
	name, braces, found := strings.Cut(p.rest, "{")
	if name = strings.TrimSpace(name); name != "" {
		if i := strings.IndexAny(name, "}\"'`=~!,"); i >= 0 {
			return nil, fmt.Errorf("unexpected %q in the service name: want a bare name or {label=\"value\"}", name[i])
		}
		ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, ServiceLabel, name))
	}
	if !found {
		return ms, nil
	}
	p.rest = braces
	for {
		p.space()
		if p.take("}") {
			break
		}
		if len(ms) == MaxSelectorMatchers {
			return nil, fmt.Errorf("more than %d matchers", MaxSelectorMatchers)
		}
		m, err := p.matcher()
		if err != nil {
			return nil, err
		}
		ms = append(ms, m)
		p.space()
		if p.take("}") {
			break
		}
		if !p.take(",") {
			return nil, p.unexpected("want , or }")
		}
	}
	if p.space(); p.rest != "" {
		return nil, p.unexpected("want nothing after }")
	}
	return ms, nil
}

func (p *selectorParser) matcher() (*labels.Matcher, error) {
	name, err := p.labelName()
	if err != nil {
		return nil, err
	}
	p.space()
	var op labels.MatchType
	switch {
	case p.take("=~"):
		op = labels.MatchRegexp
	case p.take("!~"):
		op = labels.MatchNotRegexp
	case p.take("!="):
		op = labels.MatchNotEqual
	case p.take("="):
		op = labels.MatchEqual
	default:
		return nil, p.unexpected("want one of = != =~ !~ after label " + name)
	}
	p.space()
	value, err := p.quoted()
	if err != nil {
		return nil, err
	}
	m, err := labels.NewMatcher(op, name, value)
	if err != nil {
		return nil, fmt.Errorf("label %s: %w", name, err)
	}
	return m, nil
}

// labelName reads a name: [A-Za-z_][A-Za-z0-9_]*, or any text in quotes.
func (p *selectorParser) labelName() (string, error) {
	if p.rest != "" && strings.IndexByte("\"'`", p.rest[0]) >= 0 {
		name, err := p.quoted()
		if err == nil && name == "" {
			err = fmt.Errorf("empty label name")
		}
		return name, err
	}
	n := 0
	for n < len(p.rest) {
		c := p.rest[n]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (n == 0 || c < '0' || c > '9') {
			break
		}
		n++
	}
	if n == 0 {
		return "", p.unexpected("want a label name")
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	return name, nil
}

func (p *selectorParser) quoted() (string, error) {
	if p.rest == "" || strings.IndexByte("\"'`", p.rest[0]) < 0 {
		return "", p.unexpected("want a quoted value")
	}
	quote := p.rest[0]
	if quote == '`' {
		value, rest, ok := strings.Cut(p.rest[1:], "`")
		if !ok {
			return "", fmt.Errorf("unterminated `")
		}
		p.rest = rest
		return value, nil
	}
	var b strings.Builder
	for rest := p.rest[1:]; rest != ""; {
		if rest[0] == quote {
			p.rest = rest[1:]
			if v := b.String(); utf8.ValidString(v) {
				return v, nil
			}
			return "", fmt.Errorf("a value is not valid UTF-8")
		}
		r, multibyte, tail, err := strconv.UnquoteChar(rest, quote)
		if err != nil || rest[0] == '\n' {
			return "", fmt.Errorf("invalid character or escape in a quoted value at %s", abbreviate(rest))
		}
		if rest = tail; r < utf8.RuneSelf || !multibyte {
			b.WriteByte(byte(r))
		} else {
			b.WriteRune(r)
		}
	}
	return "", fmt.Errorf("unterminated %c", quote)
}

func (p *selectorParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *selectorParser) take(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *selectorParser) unexpected(want string) error {
	if p.rest == "" {
		return fmt.Errorf("unexpected end: %s", want)
	}
	return fmt.Errorf("unexpected %s: %s", abbreviate(p.rest), want)
}
