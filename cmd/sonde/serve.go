package main

import (
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/collector"
)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a collector: find, profile, store, answer",
		Long: `Run a collector: it finds the Go processes of this machine that it may see, profiles those that serve /debug/pprof or run a
gops agent, takes what agents push, stores all of it, and serves the API and the web page.

Flags beat the environment (SONDE_…), the environment beats the file of --config; sonde config prints what is in force.
SIGTERM and Ctrl-C end it once what was taken is stored; a second one ends it at once. SIGHUP reads targets and agent rules again.`,
		Example: `  sonde serve
  sonde serve --data /var/lib/sonde --retention-age 30d --retention-size 50GB
  sonde serve --listen 10.0.0.5:7070 --token-file token --tls-cert cert.pem --tls-key key.pem`,
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
		return collector.Run(cmd.Context(), cfg, collector.Options{Version: currentVersion().Version, Stdout: a.stdout, Stderr: a.stderr,
			Reload: reload, Load: func() (collector.Config, error) { return collector.Load(cmd.Flags(), a.lookupEnv) }})
	}
	return cmd
}

// config reads the configuration that cmd's flags, the environment and the file make.
func (a *app) config(cmd *cobra.Command) (collector.Config, error) {
	cfg, err := collector.Load(cmd.Flags(), a.lookupEnv)
	if err != nil {
		return collector.Config{}, &usageError{err: withHint(err, "`sonde config` shows every setting, its value and where it came from; with -o json what each means, and collector/CONFIG.md has examples"), command: cmd.CommandPath()}
	}
	return cfg, nil
}

// notifyReload sends on the returned channel for each SIGHUP, until stop is called.
func notifyReload() (reload <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	if len(reloadSignals) > 0 {
		signal.Notify(c, reloadSignals...)
	}
	return c, func() { signal.Stop(c) }
}
