package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write the golden files and README.md anew")

// commands lists the commands that users see, in the order of help.
func commands(c *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" {
			continue
		}
		all = append(all, sub)
		all = append(all, commands(sub)...)
	}
	return all
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is stale (go test -update writes it anew); now it is:\n%s", file, got)
	}
}

// help runs args with --help as a user does.
func help(t *testing.T, args ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append(args, "--help"), strings.NewReader(""), &out, &out); err != nil {
		t.Fatalf("sonde %s --help: %v", strings.Join(args, " "), err)
	}
	return out.Bytes()
}

// TestHelp compares the help of every command with its golden file.
func TestHelp(t *testing.T) {
	// The default of --data is the user's own directory.
	t.Setenv("XDG_DATA_HOME", "/var/lib")
	golden(t, "testdata/help/sonde.txt", help(t))
	for _, c := range commands(newApp(nil, nil, nil).root()) {
		if c.Parent().Name() == "completion" {
			continue // cobra's own words
		}
		words := strings.Fields(c.CommandPath())[1:]
		golden(t, filepath.Join("testdata/help", strings.Join(words, "-")+".txt"), help(t, words...))
	}
}

// TestREADME fails when README.md is not what the commands say of themselves.
func TestREADME(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/var/lib")
	golden(t, "README.md", readme(newApp(nil, nil, nil).root()))
}

func readme(root *cobra.Command) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# sonde: the commands\n\nMade by `go test ./cmd/sonde -run TestREADME -update` from the commands themselves.\n\n```\n%s\n```\n\n", root.Long)
	b.WriteString("| command | does |\n|---|---|\n")
	all := commands(root)
	for _, c := range all {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
	}
	b.WriteString("\n`sonde --version` prints what `sonde version` does.\n")
	b.WriteString("Exit codes: 0, 1 where it failed (or `sonde check` found a problem), 2 where the command line was wrong.\n")
	for _, c := range all {
		fmt.Fprintf(&b, "\n## %s\n\n", c.CommandPath())
		long := c.Long
		if long == "" {
			long = c.Short + "."
		}
		if c.Parent() != root { // cobra's words, indented as code
			fmt.Fprintf(&b, "```\n%s\n```\n", strings.TrimSpace(long))
			continue
		}
		fmt.Fprintf(&b, "```\n%s\n```\n\n%s\n", c.UseLine(), strings.TrimSpace(long))
		if c.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", dedent(c.Example))
		}
		if flags := c.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
			fmt.Fprintf(&b, "\n```\n%s```\n", flags.FlagUsages())
		}
	}
	return b.Bytes()
}

func dedent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}
