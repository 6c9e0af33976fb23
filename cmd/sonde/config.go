package main

import (
	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/collector"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the settings in force, and where each came from",
		Long: `Print the settings that sonde serve would run with, given the same flags, environment and file, and where each came from: flag,
env, file or default. No value is a secret: tokens and keys are in files, of which the paths are shown.`,
		Example: `  sonde config --config sonde.yaml
  SONDE_RETENTION_AGE=30d sonde config -o json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().SortFlags = false
	out := outputFlag(cmd, "table", "json")
	collector.RegisterFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := a.config(cmd)
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, cfg.Effective())
		}
		tab := a.newTable("SETTING", "VALUE", "SOURCE")
		for _, s := range cfg.Effective() {
			tab.add(s.Name, dash(s.Value), string(s.Source))
		}
		return tab.write(a.stdout)
	}
	return cmd
}
