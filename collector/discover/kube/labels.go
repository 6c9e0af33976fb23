package kube

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sonde-io/sonde/collector/discover"
)

// owner is what made a pod.
type owner struct {
	label string // such as k8s_deployment_name
	kind  string // of its controller, as Kubernetes names it
	name  string // of its controller
	shown string // what a person would call it: a ReplicaSet's hash and a Job's time are left out
}

// cronTime is the end of the name of a CronJob's Job: minutes since 1970.
var cronTime = regexp.MustCompile(`-[0-9]{8,10}$`)

// ownerOf finds the controller of a pod.
func ownerOf(pod *corev1.Pod) owner {
	for _, ref := range pod.OwnerReferences {
		if ref.Controller == nil || !*ref.Controller {
			continue
		}
		o := owner{kind: ref.Kind, name: ref.Name, shown: ref.Name}
		switch ref.Kind {
		case "ReplicaSet":
			o.label = "k8s_replicaset_name"
			for label, of := range map[string]string{"pod-template-hash": "k8s_deployment_name", "rollouts-pod-template-hash": "k8s_rollout_name"} {
				if base, ok := strings.CutSuffix(ref.Name, "-"+pod.Labels[label]); ok && pod.Labels[label] != "" {
					o.label, o.shown = of, base
				}
			}
		case "StatefulSet", "DaemonSet":
			o.label = "k8s_" + strings.ToLower(ref.Kind) + "_name"
		case "Job":
			o.label = "k8s_job_name"
			if cronTime.MatchString(ref.Name) {
				o.label, o.shown = "k8s_cronjob_name", cronTime.ReplaceAllString(ref.Name, "")
			}
		case "Node": // a static pod: its name ends in the node's
			o.label, o.shown = "", strings.TrimSuffix(pod.Name, "-"+ref.Name)
		}
		return o
	}
	return owner{}
}

// mainContainer is the container that the pod's name stands for: the one that kubectl would take, else the first.
func mainContainer(pod *corev1.Pod) string {
	if name := pod.Annotations["kubectl.kubernetes.io/default-container"]; name != "" {
		return name
	}
	if len(pod.Spec.Containers) == 0 {
		return ""
	}
	return pod.Spec.Containers[0].Name
}

// service names what runs in a container. A container beside the main one is named by itself: a mesh's proxy is no part of each service that it stands before.
func service(pod *corev1.Pod, container string) (name string, named bool) {
	if container != "" && container != mainContainer(pod) {
		return container, false
	}
	if s := pod.Annotations[prefixSonde+"/service"]; s != "" {
		return s, true
	}
	for _, s := range []string{pod.Labels["app.kubernetes.io/name"], ownerOf(pod).shown, pod.Name} {
		if s != "" {
			return s, false
		}
	}
	return "", false
}

// podLabels are the labels of every series from a container; with "" of one of which only the pod is known.
func podLabels(pod *corev1.Pod, container string) map[string]string {
	ls := map[string]string{"k8s_namespace_name": pod.Namespace, "k8s_pod_name": pod.Name, "k8s_pod_uid": string(pod.UID)}
	if pod.Spec.NodeName != "" {
		ls["k8s_node_name"] = pod.Spec.NodeName
	}
	if container != "" {
		ls["k8s_container_name"] = container
	}
	if o := ownerOf(pod); o.label != "" {
		ls[o.label] = o.shown
	}
	return ls
}

// placement is what a process in a container is told by.
func placement(pod *corev1.Pod, container string) *discover.Placement {
	p := &discover.Placement{Labels: podLabels(pod, container), Meta: func() map[string]string { return meta(pod, container, 0) }}
	p.Service, p.Named = service(pod, container)
	if container == mainContainer(pod) {
		p.Version = pod.Labels["app.kubernetes.io/version"]
	}
	if isFalse(pod.Annotations[prefixSonde+"/profile"]) {
		p.Off = "denied by its pod: sonde.io/profile is " + pod.Annotations[prefixSonde+"/profile"]
	}
	return p
}

// slim drops what is not used of a pod, so that a cluster's pods fit into memory.
func slim(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	out := &corev1.Pod{TypeMeta: pod.TypeMeta}
	m := &out.ObjectMeta
	m.Name, m.Namespace, m.UID, m.ResourceVersion, m.Labels, m.OwnerReferences = pod.Name, pod.Namespace, pod.UID, pod.ResourceVersion, pod.Labels, pod.OwnerReferences
	m.Annotations = map[string]string{}
	for k, v := range pod.Annotations {
		if len(v) <= maxAnnotation && k != corev1.LastAppliedConfigAnnotation {
			m.Annotations[k] = v
		}
	}
	out.Spec.NodeName, out.Spec.HostNetwork = pod.Spec.NodeName, pod.Spec.HostNetwork
	keep := func(cs []corev1.Container) []corev1.Container {
		var kept []corev1.Container
		for _, c := range cs {
			kept = append(kept, corev1.Container{Name: c.Name, Image: c.Image, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
		}
		return kept
	}
	out.Spec.Containers, out.Spec.InitContainers = keep(pod.Spec.Containers), keep(pod.Spec.InitContainers)
	st := &out.Status
	st.Phase, st.PodIP, st.PodIPs, st.HostIP = pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs, pod.Status.HostIP
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			st.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	ids := func(cs []corev1.ContainerStatus) []corev1.ContainerStatus {
		var kept []corev1.ContainerStatus
		for _, c := range cs {
			kept = append(kept, corev1.ContainerStatus{Name: c.Name, ContainerID: c.ContainerID})
		}
		return kept
	}
	st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses = ids(pod.Status.ContainerStatuses), ids(pod.Status.InitContainerStatuses), ids(pod.Status.EphemeralContainerStatuses)
	return out, nil
}

// maxAnnotation bounds an annotation's value that is kept, in bytes: some hold whole documents.
const maxAnnotation = 1024
