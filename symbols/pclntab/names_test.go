package pclntab

import (
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/internal/testgo"
)

// The function inner is in no symbol table: it is there only as part of its callers.
const inlinedSource = `package main

import "os"

func inner(args []string) string { return args[1] + args[0] }

//go:noinline
func outer(args []string) int { return len(inner(args)) }

func main() { os.Exit(outer(os.Args) & 1) }
`

func TestEachName(t *testing.T) {
	for _, version := range testgo.Toolchains() {
		for _, flags := range [][]string{nil, {"-ldflags=-s -w", "-buildmode=pie"}} {
			t.Run(version+" "+strings.Join(flags, " "), func(t *testing.T) {
				t.Parallel()
				program := testgo.BuildSource(t, version, flags, inlinedSource)
				table, err := Open(program)
				if err != nil {
					t.Fatal(err)
				}
				defer table.Close()
				names := map[string]bool{}
				table.EachName(func(name string) bool { names[name] = true; return true })
				for _, want := range []string{"main.main", "main.outer", "main.inner", "os.Exit", "runtime.mallocgc"} {
					if !names[want] {
						t.Errorf("%s is not among %d names", want, len(names))
					}
				}
				if flags == nil {
					compareWithSymbols(t, program, names)
				}
				calls := 0
				table.EachName(func(string) bool { calls++; return calls < 3 })
				if calls != 3 {
					t.Errorf("%d calls after false at the third", calls)
				}
			})
		}
	}
}

// compareWithSymbols wants every function of the symbol table that the linker did not make up.
func compareWithSymbols(t *testing.T, program string, names map[string]bool) {
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && strings.Contains(s.Name, ".") && !strings.ContainsAny(s.Name, "[:") && !strings.HasSuffix(s.Name, ".abi0") && !names[s.Name] &&
			s.Name != "runtime.text" && s.Name != "runtime.etext" {
			missing = append(missing, s.Name)
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d functions are missing, such as %s", len(missing), slices.Sorted(slices.Values(missing))[0])
	}
}
