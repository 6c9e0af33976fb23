// Package privacy decides what leaves a machine: which labels of samples are kept, and what is blotted out of texts.
//
//	f, err := privacy.New(privacy.Config{DropLabels: []string{"user_*"}, Redact: []string{`[\w.]+@[\w.]+`}})
//	sink = f.Sink(sink)                   // profiles, processes, builds and events on their way to a store or an upstream
//	appender = f.Series(appender)         // metrics
//	exec = f.Executor(exec)               // captures
//	text, complete := f.Text(panicText)   // and texts that come by other ways
//
// It stands between whoever gathers and whoever takes: in a sidecar before anything goes onto its spool, in a collector before anything is stored. Agents do the same
// for themselves before they send. A Filter of an empty Config is nil and costs nothing: its Sink is the sink itself.
//
// Invariant: what a pattern matches is in no text, no label value, no comment and no build setting behind the filter. The labels service_name and service_instance_id are let through, since they
// are what a process is known by, and so are numbers, times and names of functions, files and metrics. The push that is handed in is not changed.
//
// A Filter is safe for concurrent use. The package imports profiles, the types of the store, the catalogue, captures, metrics and lines.
package privacy
