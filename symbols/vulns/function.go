package vulns

import (
	"strconv"
	"strings"

	"github.com/sonde-io/sonde/symbols/pclntab"
)

// ParseFunction splits the name of a function, as profiles and function tables have it, into the path of its package and what the database calls it there:
// golang.org/x/text/language.(*Tag).Parse.func1 is Tag.Parse of golang.org/x/text/language. Type arguments are left out, and what the compiler made of a
// function (closures, method values, bodies of range functions) counts as that function. Both are "" where the name is none.
func ParseFunction(name string) (pkg, symbol string) {
	name = pclntab.WithoutTypes(name)
	slash := strings.LastIndexByte(name, '/') + 1
	dot := strings.IndexByte(name[slash:], '.')
	if dot <= 0 {
		return "", ""
	}
	pkg, rest := unescape(name[:slash+dot]), strings.TrimSuffix(name[slash+dot+1:], "-fm")
	var parts []string
	if receiver, method, ok := strings.Cut(rest, ")."); ok && strings.HasPrefix(receiver, "(*") {
		parts, rest = append(parts, receiver[2:]), method
	}
	for part := range strings.SplitSeq(rest, ".") {
		part, _, _ = strings.Cut(part, "-range")
		if part == "" || len(parts) > 0 && madeByCompiler(part) {
			break
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return "", ""
	}
	return pkg, strings.Join(parts, ".")
}

// madeByCompiler reports whether a part of a name is that of a closure or of a wrapper: func1, 2, gowrap1, deferwrap2.
func madeByCompiler(part string) bool {
	digits := strings.TrimLeft(part, "abcdefghijklmnopqrstuvwxyz")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return false
	}
	switch part[:len(part)-len(digits)] {
	case "", "func", "gowrap", "deferwrap":
		return true
	}
	return false
}

// unescape takes back what the compiler does to the path of a package in names: gopkg.in/yaml%2ev3.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Functions finds the vulnerable functions of findings by the names that profiles and function tables have for them. Its methods may be called concurrently once all was added.
type Functions struct {
	ids   map[[2]string]int // by package and symbol; symbol "" is the whole package
	names []string          // by id
}

// Add adds what is vulnerable by f of a build whose main package is main, and returns the numbers of its functions, one for each of f.Symbols(): equal functions of several findings
// have the same.
func (s *Functions) Add(f *Finding) []int {
	if s.ids == nil {
		s.ids = map[[2]string]int{}
	}
	var out []int
	for _, p := range f.Packages {
		symbols := p.Symbols
		if len(symbols) == 0 {
			symbols = []string{""}
		}
		for _, symbol := range symbols {
			key := [2]string{p.Path, symbol}
			id, ok := s.ids[key]
			if !ok {
				id = len(s.names)
				s.ids[key] = id
				s.names = append(s.names, symbolName(p.Path, symbol))
			}
			out = append(out, id)
		}
	}
	return out
}

// symbolName is how a symbol is shown; a whole package is PATH.*.
func symbolName(pkg, symbol string) string {
	if symbol == "" {
		symbol = "*"
	}
	return pkg + "." + symbol
}

// Len returns how many functions there are.
func (s *Functions) Len() int { return len(s.names) }

// Name returns function id as it is shown: golang.org/x/text/language.Tag.Parse.
func (s *Functions) Name(id int) string { return s.names[id] }

// Match appends to dst the numbers of what the function with that name is, of a program whose main package is main ("": not known).
func (s *Functions) Match(dst []int, name, main string) []int {
	pkg, symbol := ParseFunction(name)
	if pkg == "" {
		return dst
	}
	if pkg == "main" && main != "" {
		pkg = main
	}
	if id, ok := s.ids[[2]string{pkg, symbol}]; ok {
		dst = append(dst, id)
	}
	if id, ok := s.ids[[2]string{pkg, ""}]; ok {
		dst = append(dst, id)
	}
	return dst
}
