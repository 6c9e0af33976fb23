package prom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/agent"
)

// collector reads an agent's Stats whenever it is gathered.
type collector struct {
	agent *agent.Agent

	info, windows, waiting, queue, limit, cpu, budget, skipped, stripped, enabled, paused, sent *prometheus.Desc
}

// NewCollector returns a collector of a's account of itself. It may be called with a nil or a disabled agent, which has sonde_agent_enabled 0 and nothing else. One gathering
// waits for a capture that runs, some milliseconds. The collector is safe for concurrent use, also after a.Close.
func NewCollector(a *agent.Agent) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sonde_agent_"+name, help, labels, nil)
	}
	return &collector{
		agent:    a,
		info:     desc("info", "The agent's version and the process's instance id.", "version", "instance"),
		windows:  desc("windows_total", "Windows by what became of them: sent, dropped (the queue was full), failed (refused by the collector, or not encoded).", "outcome"),
		waiting:  desc("windows_waiting", "Windows that wait to be sent."),
		queue:    desc("queue_bytes", "Bytes of the windows that wait."),
		limit:    desc("queue_limit_bytes", "Bytes that may wait; beyond them the oldest windows are dropped."),
		cpu:      desc("cpu_seconds_total", "CPU time that the agent used for captures, encoding and sending."),
		budget:   desc("budget_seconds", "CPU time that the agent may still use; below 0 it owes some and skips captures."),
		skipped:  desc("skipped_total", "Windows that lack a type of profile, the metrics, or a part of them, by type.", "type"),
		stripped: desc("labels_stripped_total", "Labels that were left out because they are too many or too long."),
		enabled:  desc("enabled", "Whether the agent profiles: 0 where it is disabled, paused, closed or turned off by the collector."),
		paused:   desc("paused", "Whether the program paused the agent."),
		sent:     desc("last_sent_timestamp_seconds", "When the collector accepted the newest window; absent before the first."),
	}
}

// Describe sends the descriptions of all metrics.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.info, c.windows, c.waiting, c.queue, c.limit, c.cpu, c.budget, c.skipped, c.stripped, c.enabled, c.paused, c.sent} {
		ch <- d
	}
}

// Collect sends the metrics of this moment.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.agent.Stats()
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.enabled, one(s.Enabled))
	if s.Instance == "" {
		return
	}
	gauge(c.info, 1, agent.Version, s.Instance)
	counter(c.windows, float64(s.WindowsSent), "sent")
	counter(c.windows, float64(s.WindowsDropped), "dropped")
	counter(c.windows, float64(s.WindowsFailed), "failed")
	gauge(c.waiting, float64(s.WindowsWaiting))
	gauge(c.queue, float64(s.QueueBytes))
	gauge(c.limit, float64(s.QueueLimit))
	counter(c.cpu, s.CPU.Seconds())
	gauge(c.budget, s.Budget.Seconds())
	for typ, n := range s.Skipped {
		counter(c.skipped, float64(n), string(typ))
	}
	counter(c.stripped, float64(s.LabelsStripped))
	gauge(c.paused, one(s.Paused))
	if !s.LastSent.IsZero() {
		gauge(c.sent, float64(s.LastSent.UnixMilli())/1000)
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
