package series

import (
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// WithTarget returns the labels of a process with job and instance, as OpenTelemetry's compatibility with Prometheus has them: job is service_namespace/service_name, or service_name alone,
// and instance is service_instance_id. What the process has already stays.
func WithTarget(process labels.Labels) labels.Labels {
	job, instance := process.Get("service_name"), process.Get("service_instance_id")
	if ns := process.Get("service_namespace"); ns != "" && job != "" {
		job = ns + "/" + job
	}
	b := labels.NewBuilder(process)
	for name, value := range map[string]string{model.JobLabel: job, model.InstanceLabel: instance} {
		if value != "" && !process.Has(name) {
			b.Set(name, value)
		}
	}
	return b.Labels()
}
