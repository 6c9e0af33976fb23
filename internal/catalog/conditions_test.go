package catalog

import (
	"slices"
	"testing"
)

func TestTraits(t *testing.T) {
	got := traitsOf(map[string]string{"args": `serve -a=1 --b 2 -c -d "x y" -a=3 -- tail`, "env_GOGC": "50"})
	want := traits{"arg_1": "serve", "flag_a": "1 3", "flag_b": "2", "flag_c": "", "flag_d": "x y", "arg_2": "--", "arg_3": "tail", "env_GOGC": "50"}
	if len(got) != len(want) {
		t.Errorf("%q, want %q", got, want)
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %q, want %q", key, got[key], value)
		}
	}
}

func TestArgsRoundTrip(t *testing.T) {
	for _, words := range [][]string{nil, {"serve"}, {"-a", "b c", "", `"x"`, "ä\n", `\`}, {"--", "-x=1"}} {
		if got := splitArgs(JoinArgs(words)); !slices.Equal(got, words) {
			t.Errorf("%q became %q", words, got)
		}
	}
}

func FuzzTraits(f *testing.F) {
	f.Add(`serve -a=1 --b 2 "x y`, `-a "\x00" -- -`, "1")
	f.Add(JoinArgs([]string{"-a", "b c", "", `"x"`}), "", "")
	f.Fuzz(func(t *testing.T, a, b, gomaxprocs string) {
		if len(a) > 1024 || len(b) > 1024 { // escapes make them longer
			return
		}
		words := splitArgs(a)
		if again := splitArgs(JoinArgs(words)); !slices.Equal(again, words) {
			t.Errorf("%q became %q", words, again)
		}
		was, is := traitsOf(map[string]string{"args": a, "cgroup_memory": b}), traitsOf(map[string]string{"args": b, "gomaxprocs": gomaxprocs})
		if ds := compare(was, was); len(ds) > 0 {
			t.Errorf("%q differs from itself: %v", a, ds)
		}
		for _, d := range compare(was, is) {
			_ = d.String()
		}
		modulesOf("b", a)
	})
}
