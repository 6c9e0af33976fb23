// Command sonde is the flight recorder for fleets of Go programs: the collector (serve), a demo, and the verbs that ask a collector.
//
// main wires the process to run; every verb is in a file of its own and owns its flags. A verb writes what it was asked for to
// standard output and everything else (notes, hints, errors) to standard error, so that a pipe reads answers only.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end; from then on the default is back, so that the second one kills.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	os.Exit(report(os.Stderr, err))
}

// run is the program: it reads nothing but what it is given and the environment, and returns instead of exiting.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	return newApp(stdin, stdout, stderr).run(ctx, args)
}
