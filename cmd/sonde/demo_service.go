package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/internal/demo/billing"
	"github.com/sonde-io/sonde/internal/demo/cart"
	"github.com/sonde-io/sonde/internal/demo/checkout"
	"github.com/sonde-io/sonde/internal/demo/service"
)

// demoServices are the services of the demo by name; each runs on an address until it is told to stop.
var demoServices = map[string]func(addr string) error{
	"cart":     cart.Main,
	"checkout": func(addr string) error { return service.Main(addr, checkout.Handler()) },
	"billing":  billing.Main,
}

// demoServiceCommand is how `sonde demo` starts this binary again as one of its services.
func (a *app) demoServiceCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "demo-service NAME ADDRESS",
		Short:  "Run one of the demo's services",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, ok := demoServices[args[0]]
			if !ok {
				return usage(cmd, "there is no service %q", args[0])
			}
			if err := run(args[1]); err != nil {
				return fmt.Errorf("run %s: %w", args[0], err)
			}
			return nil
		},
	}
}
