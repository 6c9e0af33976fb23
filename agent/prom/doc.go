// Package prom makes a Sonde agent's account of itself a Prometheus collector, for programs that have a /metrics endpoint already:
//
//	a := agent.Start(agent.Config{Service: "cart"})
//	defer a.Close()
//	prometheus.MustRegister(prom.NewCollector(a))
//
// It tells what the agent sends and loses, what it costs and what it skips for that; the metrics of the program and its runtime are client_golang's own collectors' and are sent by
// the agent besides. It is a module of its own: importing the agent alone requires nothing.
package prom
