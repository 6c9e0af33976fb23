// Package kube watches the pods of a Kubernetes node, or of a whole cluster, through one client-go informer, and tells two things of them: what the
// processes in them are called, and which of them ask to be scraped.
//
//	w, err := kube.New(kube.Config{Node: "n1"}, kube.Options{})
//	discover.Config{Placed: w.Placed}
//	err = w.Run(ctx, func(targets []kube.Target) { … }) // again on every change
//
// Nothing is written to the cluster, and nothing but pods is read: list and watch of pods are all the rights that it needs. With a node's name the API server sends that node's
// pods only (a field selector), so that a fleet of sidecars costs it what kubelets cost; what is kept of a pod is what is used here. Without one the pods of the cluster, or of the
// namespaces that are listed, are watched: one collector does that, not each.
//
// Pods opt in to being scraped by annotations (annotations.go); a pod opts out of everything by sonde.io/profile: "false". When the API server does not answer, what was
// known stays in force.
//
// A Watcher is safe for concurrent use. The package imports discover, and of the rest of the project nothing.
package kube
