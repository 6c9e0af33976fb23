package main

import (
	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/collector"
)

func (a *app) sidecarCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sidecar --upstream URL",
		Short: "Gather on one node or in one pod, and forward to a collector",
		Long: `Run a sidecar: it finds and profiles the Go processes of this machine as sonde serve does, takes what agents push, and forwards all of it to the
collector at --upstream. What it took is first written to a spool in --data, so that nothing is lost while the collector is away, up to --spool-bytes:
beyond that the oldest windows are dropped and counted, and an event of the kind gap says whose they were.

Agents send to http://127.0.0.1:7070 (--listen, which takes several addresses with commas between them) or to the socket agent.sock in --data
(SONDE_URL=unix:PATH). In a pod it needs shareProcessNamespace, on a node hostPID, to see processes that are not its own.

Flags beat the environment (SONDE_…), the environment beats the file of --config. SIGTERM and Ctrl-C end it once what is left is sent, or
--shutdown-timeout is over; what is not sent by then stays in the spool. A second one ends it at once. SIGHUP reads targets and triggers again.`,
		Example: `  sonde sidecar --upstream https://sonde.example:7070 --upstream-token-file token
  sonde sidecar --upstream http://10.0.0.5:7070 --data /var/lib/sonde --spool-bytes 4GiB
  sonde sidecar --upstream http://127.0.0.1:7070 --listen 127.0.0.1:7071,unix:/run/sonde/agent.sock`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().SortFlags = false
	collector.RegisterFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := a.config(cmd)
		if err != nil {
			return err
		}
		reload, stop := notifyReload()
		defer stop()
		return collector.RunSidecar(cmd.Context(), cfg, collector.Options{Version: currentVersion().Version, Stdout: a.stdout, Stderr: a.stderr,
			Reload: reload, Load: func() (collector.Config, error) { return collector.Load(cmd.Flags(), a.lookupEnv) }})
	}
	return cmd
}
