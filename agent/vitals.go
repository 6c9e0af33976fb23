package agent

import (
	"math"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cgroup"
	"github.com/sonde-io/sonde/agent/internal/cputime"
)

// vitals reads what triggers look at, without allocating.
type vitals struct {
	samples []metrics.Sample
	group   *cgroup.Group
	limits  time.Time // when the cgroup was looked up
	cpuAt   time.Time
	cpuUsed time.Duration
	gcTime  float64 // CPU of the collector so far, in seconds
	gcAll   float64 // CPU of the program so far
	gcAt    time.Time
}

// The indices of vitals.samples.
const (
	sampleHeap = iota
	sampleGC
	sampleGCIdle
	sampleTotal
	sampleIdle
	sampleNames
)

func newVitals(now time.Time) *vitals {
	names := [sampleNames]string{"/gc/heap/live:bytes", "/cpu/classes/gc/total:cpu-seconds",
		"/cpu/classes/gc/mark/idle:cpu-seconds", "/cpu/classes/total:cpu-seconds", "/cpu/classes/idle:cpu-seconds"}
	v := &vitals{cpuAt: now, cpuUsed: cputime.Process(), gcAt: now, limits: now, group: cgroup.Self()}
	for _, name := range names {
		v.samples = append(v.samples, metrics.Sample{Name: name})
	}
	metrics.Read(v.samples)
	v.gcTime, v.gcAll = v.gc()
	return v
}

func (v *vitals) close() { v.group.Close() }

// gc returns the CPU that the garbage collector took and that the program took in all, since its start. What the collector did with a CPU that
// had nothing else to do counts for neither.
func (v *vitals) gc() (collector, all float64) {
	idle := v.samples[sampleGCIdle].Value.Float64()
	collector = v.samples[sampleGC].Value.Float64() - idle
	return collector, v.samples[sampleTotal].Value.Float64() - v.samples[sampleIdle].Value.Float64() - idle
}

// quietGC is after how long without a collection its share is 0: the runtime counts its CPU when one ends.
const quietGC = 10 * time.Second

// read puts the values at now into to; NaN stands for what cannot be known here. A rate whose time is too short for one keeps its value.
func (v *vitals) read(now time.Time, to *[sampledMetrics]float64) {
	if now.Sub(v.limits) >= limitsEvery {
		v.group.Close()
		v.group, v.limits = cgroup.Self(), now
	}
	metrics.Read(v.samples)
	to[metricHeap] = float64(v.samples[sampleHeap].Value.Uint64())
	to[metricGoroutines] = float64(runtime.NumGoroutine()) // runtime/metrics counts the runtime's own as well
	if elapsed := now.Sub(v.cpuAt); elapsed >= shortestRate {
		used := cputime.Process()
		cores := min(float64(runtime.GOMAXPROCS(0)), v.group.Cores())
		to[metricCPU] = float64(used-v.cpuUsed) / float64(elapsed) / cores
		v.cpuAt, v.cpuUsed = now, used
	}
	collector, all := v.gc()
	switch {
	case all > v.gcAll:
		to[metricGC] = math.Max(0, math.Min(1, (collector-v.gcTime)/(all-v.gcAll)))
		v.gcTime, v.gcAll, v.gcAt = collector, all, now
	case now.Sub(v.gcAt) >= quietGC:
		to[metricGC] = 0
	}
	to[metricMemory], to[metricPressure] = v.group.Memory(), v.group.Pressure()
}
