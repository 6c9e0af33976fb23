package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
)

// addedBuild is one line of what `sonde builds add` prints.
type addedBuild struct {
	File  string `json:"file"`
	Build string `json:"build"`
}

func (a *app) buildsAddCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "add FILE...",
		Short: "Tell the collector what binaries are made of",
		Long: `Tell the collector what binaries are made of: for builds of which it knows no more than the id, because neither an agent nor
the node could say, and for those that are about to run.

FILE is a Go executable, of any system, the core of a Go program on Linux, or what go version -m printed of one or more. Only what the binary says about itself is sent. That text does not
tell the ids by which processes are joined with their build: --id gives that of one, without it a hash of the text is its id.`,
		Example: `  sonde builds add ./cart
  go version -m /usr/bin/* > programs.txt; sonde builds add programs.txt
  sonde builds add cart.txt --id 3f2a1b9c77d0e1aa`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name at least one FILE")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the build's id, in hex, where FILE does not tell it")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		var all []fileBuild
		for _, file := range args {
			bs, err := readBuilds(file)
			if err != nil {
				return err
			}
			all = append(all, bs...)
		}
		if id != "" && len(all) > 1 {
			return usage(cmd, "--id names one build, and there are %d programs", len(all))
		}
		added, err := a.addBuilds(cmd, all, id)
		if out.value == "json" {
			return errors.Join(writeJSON(a.stdout, added), err)
		}
		for _, b := range added {
			if _, werr := fmt.Fprintf(a.stdout, "%s: build %s\n", clean(b.File), clean(b.Build)); werr != nil {
				return werr
			}
		}
		return err
	}
	return cmd
}

// addBuilds tells of the builds in order and returns those that were taken up to the first error.
func (a *app) addBuilds(cmd *cobra.Command, all []fileBuild, id string) ([]addedBuild, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	added := []addedBuild{}
	for i := range all {
		taken, err := a.addBuild(cmd, c, &all[i], id)
		if err != nil {
			return added, fmt.Errorf("add %s: %w", all[i].name, err)
		}
		added = append(added, addedBuild{all[i].name, taken})
	}
	return added, nil
}

func (a *app) addBuild(cmd *cobra.Command, c *client.Client, b *fileBuild, id string) (string, error) {
	body, err := b.body(id)
	if err != nil {
		return "", err
	}
	ctx, cancel := a.within(cmd.Context())
	defer cancel()
	var answer struct {
		Build struct {
			ID string `json:"id"`
		} `json:"build"`
	}
	err = c.Post(ctx, "/api/v1/builds", body, &answer)
	return answer.Build.ID, err
}
