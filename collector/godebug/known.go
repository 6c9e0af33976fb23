package godebug

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
)

// KnownOf returns what a scan knows of the processes whose logs may be followed; labelsOf returns the labels of a process's series, false for one that is left alone. The first process of a
// container is the one whose logs are the container's.
func KnownOf(r discover.Report, labelsOf func(pid int) (labels.Labels, bool)) []Known {
	out := make([]Known, 0, len(r.Processes))
	for i := range r.Processes {
		p := &r.Processes[i]
		ls, ok := labelsOf(p.PID)
		if !ok {
			continue
		}
		out = append(out, Known{Labels: ls, Started: p.Started.UnixMilli(), ContainerID: p.ContainerID, PodUID: p.PodUID, Container: ls.Get("k8s_container_name"), PID: p.PID})
	}
	return out
}
