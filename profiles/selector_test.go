package profiles

import (
	"strings"
	"testing"
)

var selectorCases = []struct{ in, want string }{
	{``, ``},
	{`{}`, ``},
	{` { } `, ``},
	{`cart`, `service_name="cart"`},
	{`shop/cart-v2.eu`, `service_name="shop/cart-v2.eu"`},
	{`cart{service_version="v1"}`, `service_name="cart" service_version="v1"`},
	{`{service_name="cart",service_version=~"v1.*"}`, `service_name="cart" service_version=~"v1.*"`},
	{`{a!="b", c!~"d|e",}`, `a!="b" c!~"d|e"`},
	{"{\n\ta = 'it is \\'quoted\\'' }", `a="it is 'quoted'"`},
	{`{a="b\"c\\d\n\u00e9\x41"}`, "a=\"b\\\"c\\\\d\\né" + `A"`},
	{"{a=`raw \\d \"x\"`}", `a="raw \\d \"x\""`},
	{`{"k8s.pod/name"="a,}b"}`, `"k8s.pod/name"="a,}b"`},
	{`{a=""}`, `a=""`},
}

func TestParseSelector(t *testing.T) {
	for _, tt := range selectorCases {
		ms, err := ParseSelector(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		var got []string
		for _, m := range ms {
			got = append(got, m.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
}

var badSelectors = []struct{ in, want string }{
	{`{`, "unexpected end: want a label name"},
	{`{a`, "want one of = != =~ !~"},
	{`{a="b"`, "unexpected end: want , or }"},
	{`{a="b" c="d"}`, "want , or }"},
	{`{a=b}`, "want a quoted value"},
	{`{a="b}`, `unterminated "`},
	{"{a=`b}", "unterminated `"},
	{`{a="\q"}`, "invalid character or escape"},
	{`{a="\xff"}`, "not valid UTF-8"},
	{`{a=~"("}`, "error parsing regexp"},
	{`{1a="b"}`, "want a label name"},
	{`{,}`, "want a label name"},
	{`{""="b"}`, "empty label name"},
	{`{a="b"} or c`, "want nothing after }"},
	{`a="b"`, "in the service name"},
	{"\xff", "invalid UTF-8"},
	{strings.Repeat("a", MaxSelectorLen+1), "at most 16384 are accepted"},
	{"{" + strings.Repeat(`a="b",`, 65) + "}", "more than 64 matchers"},
}

func TestParseSelectorRefuses(t *testing.T) {
	for _, tt := range badSelectors {
		if ms, err := ParseSelector(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60s: %v, %v, want %q", tt.in, ms, err, tt.want)
		}
	}
}

// FuzzSelector: no input panics, and what is accepted reads the same after it is written out again.
func FuzzSelector(f *testing.F) {
	for _, c := range selectorCases {
		f.Add(c.in)
	}
	for _, c := range badSelectors {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		ms, err := ParseSelector(in)
		if err != nil {
			return
		}
		var parts []string
		for _, m := range ms {
			parts = append(parts, m.String())
		}
		text := "{" + strings.Join(parts, ",") + "}"
		if len(text) > MaxSelectorLen {
			return
		}
		again, err := ParseSelector(text)
		if err != nil || len(again) != len(ms) {
			t.Fatalf("%q was written as %q, which gives %v, %v", in, text, again, err)
		}
		for i := range ms {
			if again[i].String() != ms[i].String() {
				t.Fatalf("matcher %d of %q is %s, then %s", i, in, ms[i], again[i])
			}
		}
	})
}
