package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
)

// app is what the verbs share: the outside world and the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)
	now            func() time.Time
	terminal       bool // stdout is one: box drawing is welcome, binary is not
	columns        int  // width of that terminal; 0: none, or not known

	server, tokenFile string
	timeout           time.Duration

	started bool // a verb's own code runs: what fails from now on is no mistake on the command line
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, lookupEnv: os.LookupEnv, now: time.Now, terminal: isTerminal(stdout)}
	if a.terminal {
		a.columns = terminalColumns(stdout.(*os.File).Fd())
	}
	return a
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminalFD(f.Fd())
}

// run parses args and runs the verb that they name.
func (a *app) run(ctx context.Context, args []string) error {
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*usageError](err); !ok && !a.started {
		err = &usageError{err: err, command: cmd.CommandPath()}
	}
	return err
}

const rootLong = `Sonde is the flight recorder for fleets of Go programs: it finds the Go processes
of a machine, profiles them all the time, keeps what it gathers, and answers what changed.

  sonde demo     try it: a collector and three small services, in a temporary directory
  sonde serve    run a collector on this machine
  sonde sidecar  gather here, and forward to a collector
  sonde ps       which processes are profiled, and why the others are not

Verbs that read ask the collector at --server. Times are now, now-1h (ms s m h d w),
RFC 3339, or Unix seconds or milliseconds.`

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "sonde",
		Short:         "The flight recorder for fleets of Go programs",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       currentVersion().String(),
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.AddCommand(
		a.serveCommand(), a.sidecarCommand(), a.demoCommand(),
		a.psCommand(), a.coverageCommand(),
		a.topCommand(), a.flameCommand(), a.callersCommand(), a.getCommand(), a.diffCommand(), a.pushCommand(),
		a.captureCommand(),
		a.buildsCommand(), a.eventCommand(),
		a.runCommand(), a.gcCommand(), a.schedCommand(),
		a.vulnsCommand(), a.compareCommand(),
		a.promqlCommand(),
		a.pinCommand(), a.deleteCommand(), a.backupCommand(), a.restoreCommand(), a.checkCommand(), a.migrateCommand(),
		a.configCommand(), a.doctorCommand(), a.versionCommand(),
		a.demoServiceCommand(), a.doctorWorkloadCommand(), a.runRestCommand(),
	)
	for _, c := range root.Commands() {
		// What cobra finds wrong, it finds before RunE.
		verb := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			a.started = true
			return verb(cmd, args)
		}
	}
	root.InitDefaultHelpCmd()
	knownTopic(root)
	root.InitDefaultCompletionCmd(root.Name()) // so that the documentation holds it too
	return root
}

// knownCommand refuses the name of a command that there is not, and names the one that may be meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := usage(cmd, "unknown command %q", args[0])
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return withHint(err, "did you mean `%s %s`?", cmd.CommandPath(), strings.Join(like, "` or `"+cmd.CommandPath()+" "))
	}
	return err
}

// knownTopic has `sonde help` refuse the name of a command that there is not, where cobra prints the help of what it does know and is content.
func knownTopic(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			continue
		}
		c.Args = func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) == 0 {
				return err
			}
			return knownCommand(about, rest)
		}
	}
}

// clientFlags adds to cmd what says which collector it asks. serve has a --token-file too, which says the opposite: what it asks of others.
func (a *app) clientFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&a.server, "server", "", "the collector's URL (SONDE_URL; default "+defaultServer+")")
	fs.StringVar(&a.tokenFile, "token-file", "", "file with the token that the collector wants (SONDE_TOKEN holds the token itself)")
	fs.DurationVar(&a.timeout, "timeout", 30*time.Second, "longest time to wait for the collector; 0: no limit")
}

const defaultServer = "http://127.0.0.1:7070"

// client returns a client of the collector that the flags and the environment name.
func (a *app) client() (*client.Client, error) {
	server := a.server
	if server == "" {
		server, _ = a.lookupEnv("SONDE_URL")
	}
	if server == "" {
		server = defaultServer
	}
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{URL: server, Token: token, UserAgent: "sonde/" + currentVersion().Version})
	if err != nil {
		return nil, withHint(err, "set it with --server or SONDE_URL")
	}
	return c, nil
}

func (a *app) token() (string, error) {
	if a.tokenFile == "" {
		token, _ := a.lookupEnv("SONDE_TOKEN")
		return strings.TrimSpace(token), nil
	}
	data, err := os.ReadFile(a.tokenFile)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("read token: %s is empty", a.tokenFile)
	}
	return token, nil
}

// within bounds ctx by --timeout.
func (a *app) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.timeout)
}

// usage marks err as a mistake on cmd's command line.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), command: cmd.CommandPath()}
}
