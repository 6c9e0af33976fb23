package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func (a *app) getCommand() *cobra.Command {
	var q queryFlags
	var file string
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Fetch merged profiles as one file",
		Long: `Fetch merged profiles as one file: for go tool pprof, for other tools, or for a build.

pprof is a gzipped pprof profile; folded is one stack a line, as flame graph scripts read it; speedscope is JSON for
https://www.speedscope.app; json is the table of all functions; pgo is a CPU profile reduced to what go build -pgo reads,
in which a process that was profiled for a part of the time, as scraped ones are, weighs like one profiled all the time:
standard error tells of how many samples it is, of which builds and how old they are, and how much of the hot code the
newest build still has.`,
		Example: `  sonde get --service cart --since 15m -f cart.pb.gz && go tool pprof cart.pb.gz
  sonde get --service cart --since 7d -o pgo > default.pgo && go build -pgo=default.pgo
  sonde get --service cart -o folded | grep encoding/json
  sonde get --service cart --type heap -o speedscope -f cart.speedscope.json`,
		Args: cobra.NoArgs,
	}
	q.register(cmd)
	cmd.Flags().StringVarP(&file, "output", "f", "", "file to write; - or none: standard output")
	out := outputFlag(cmd, "pprof", "folded", "speedscope", "json", "pgo")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		params, _, err := q.params(cmd, a.now())
		if err != nil {
			return err
		}
		toStdout := file == "" || file == "-"
		if binary := out.value == "pprof" || out.value == "pgo"; binary && toStdout && a.terminal {
			return withHint(usage(cmd, "%s is binary and standard output is a terminal", out.value),
				"name a file with -f FILE, pipe it on, or ask for -o folded")
		}
		if found, _ := a.types(cmd.Context(), params); !found {
			return fmt.Errorf("get profile: nothing found: %s", a.why(cmd.Context(), params))
		}
		params.Set("format", out.value)
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := a.within(cmd.Context())
		defer cancel()
		body, err := c.Get(ctx, "/api/v1/profile", params)
		if err != nil {
			return err
		}
		defer body.Close()
		if toStdout {
			if _, err := io.Copy(a.stdout, body); err != nil {
				return fmt.Errorf("get profile: %w", err)
			}
		} else if err := writeFile(file, body); err != nil {
			return err
		}
		if out.value == "pgo" {
			a.reportPGO(cmd.Context(), params)
		}
		return nil
	}
	return cmd
}

// writeFile writes r to path as a whole or not at all: the bytes go to a file beside it that takes its name at the end.
func writeFile(path string, r io.Reader) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err = io.Copy(tmp, r); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = tmp.Chmod(0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = tmp.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
