package agent_test

import (
	"context"
	"net/http"
	"os"

	"github.com/sonde-io/sonde/agent"
)

// The whole integration of a program that is called cart.
func Example() {
	os.Setenv("SONDE_DISABLED", "1") // only so that this example sends nothing when it runs as a test
	defer os.Unsetenv("SONDE_DISABLED")

	defer agent.Start(agent.Config{Service: "cart"}).Close()

	// The program's own /debug/pprof/profile shares the agent's running CPU profile.
	http.Handle("/debug/pprof/profile", agent.CPUHandler())

	// Samples of this call carry the label route.
	agent.Do(context.Background(), agent.Labels("route", "/checkout"), func(ctx context.Context) {
		checkout(ctx)
	})
	// Output:
}

func checkout(context.Context) {}
