package prom_test

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/agent"
	"github.com/sonde-io/sonde/agent/prom"
)

func ExampleNewCollector() {
	a := agent.Start(agent.Config{Service: "cart"})
	defer a.Close()
	prometheus.MustRegister(prom.NewCollector(a))
}
