package testgo

import (
	"os/exec"
	"strings"
	"testing"
)

const source = `package main

import "runtime"

func main() { println(runtime.Version()) }
`

func TestBuildWithEachVersion(t *testing.T) {
	for _, v := range Toolchains() {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			program := BuildSource(t, v, []string{"-trimpath"}, source)
			b, err := exec.Command(program).CombinedOutput()
			if err != nil || strings.Fields(string(b))[0] != v {
				t.Fatalf("the program says %q, %v; want %s", b, err, v)
			}
			if again := BuildSource(t, v, []string{"-trimpath"}, source); again != program {
				t.Errorf("compiled again: %s and %s", program, again)
			}
			if other := BuildSource(t, v, []string{"-trimpath"}, source+"\n// changed\n"); other == program {
				t.Error("another source is the same program")
			}
		})
	}
}

func TestFlagsAreSeparate(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	plain := BuildSource(t, Local(), nil, source)
	stripped := BuildSource(t, Local(), []string{"-ldflags=-s -w"}, source)
	if plain == stripped {
		t.Error("stripped and not stripped are the same program")
	}
}

func TestUnknownVersionIsSkipped(t *testing.T) {
	skipped := t.Run("skipped", func(t *testing.T) {
		defer func() {
			if !t.Skipped() {
				t.Error("not skipped")
			}
		}()
		t.Setenv("GOPROXY", "off")
		BuildSource(t, "go1.18.99", nil, source)
	})
	if !skipped {
		t.Error("failed instead")
	}
}
