package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/sonde-io/sonde/collector/discover"
)

// maxTargets bounds the targets that one Watcher lists.
const maxTargets = 10_000

// Options are what a Watcher uses besides its Config.
type Options struct {
	Version string        // Sonde's, for the User-Agent
	Client  Client        // nil: made from the Config
	Settle  time.Duration // changes are gathered for so long before they are told; 0: 1 s
	Logger  *slog.Logger  // nil: discard
}

// Watcher watches pods. Make one with New.
type Watcher struct {
	cfg    Config
	node   string
	client Client
	settle time.Duration
	log    *slog.Logger

	mu       sync.RWMutex
	synced   bool
	failing  string // why the API server does not tell; "" while it does
	ids      map[string]*discover.Placement
	pods     map[string]*known // by uid, and by the hash of a static pod's file
	byName   map[string]*known // by namespace and name
	wrong    map[string]string // what is wrong with the annotations of a pod, by its name; said once
	left     int               // targets beyond maxTargets
	changing chan struct{}
}

// known is what is known of a pod.
type known struct {
	pod        *corev1.Pod
	uids       []string
	ids        []string // of its containers
	whole      bool     // every container that runs has its id
	containers map[string]*discover.Placement
	alone      *discover.Placement // of a process of which only the pod is known
}

// New makes the client. It does not connect: an API server that does not answer is waited for in Run.
func New(cfg Config, opts Options) (*Watcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	w := &Watcher{
		cfg: cfg, node: cfg.node(), client: opts.Client, settle: opts.Settle, log: opts.Logger, changing: make(chan struct{}, 1),
		ids: map[string]*discover.Placement{}, pods: map[string]*known{}, byName: map[string]*known{}, wrong: map[string]string{},
	}
	if w.settle <= 0 {
		w.settle = time.Second
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.client != nil {
		return w, nil
	}
	klog.SetSlogLogger(w.log) // client-go's own words, which else go to stderr in a form of their own
	rc, err := clientConfig(cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	rc.UserAgent = discover.UserAgent(opts.Version)
	rc.ContentType, rc.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	if w.client, err = newPodClient(rc); err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	return w, nil
}

func clientConfig(file string) (*rest.Config, error) {
	if file != "" {
		c, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig: %w", err)
		}
		return c, nil
	}
	c, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errNoCluster
	}
	return c, err
}

// Run watches until ctx is done, and gives told every target at first and after each change. It returns nil when every goroutine has ended. It can be called once.
func (w *Watcher) Run(ctx context.Context, told func([]Target)) error {
	ctx, cancel := context.WithCancel(ctx)
	namespaces := w.cfg.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	var running sync.WaitGroup
	var synced []cache.InformerSynced
	defer func() {
		cancel()
		running.Wait()
	}()
	for _, ns := range namespaces {
		inf := w.informer(ns)
		if err := inf.SetTransform(slim); err != nil {
			return fmt.Errorf("watch pods: %w", err)
		}
		if err := inf.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { w.failed(err) }); err != nil {
			return fmt.Errorf("watch pods: %w", err)
		}
		reg, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: w.put, UpdateFunc: func(_, obj any) { w.put(obj) }, DeleteFunc: w.remove})
		if err != nil {
			return fmt.Errorf("watch pods: %w", err)
		}
		synced = append(synced, reg.HasSynced)
		running.Go(func() { inf.RunWithContext(ctx) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // ctx is done
	}
	w.mu.Lock()
	w.synced, w.failing = true, ""
	n := len(w.byName)
	w.mu.Unlock()
	w.log.Info("watching the pods of Kubernetes", "node", w.node, "namespaces", w.cfg.Namespaces, "pods", n)
	w.tell(ctx, told)
	return nil
}

// informer keeps the pods of a namespace, of the node alone where one is named.
func (w *Watcher) informer(namespace string) cache.SharedIndexInformer {
	selected := func(o metav1.ListOptions) metav1.ListOptions {
		if w.node != "" {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", w.node).String()
		}
		return o
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return w.client.ListPods(ctx, namespace, selected(o))
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			return w.client.WatchPods(ctx, namespace, selected(o))
		},
	}
	return cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(lw, w.client), &corev1.Pod{}, 0, cache.Indexers{})
}

// tell gives told the targets until ctx is done.
func (w *Watcher) tell(ctx context.Context, told func([]Target)) {
	var last []Target
	for first := true; ; first = false {
		if next := w.Targets(); first || !reflect.DeepEqual(next, last) {
			told(next)
			last = next
		}
		select {
		case <-ctx.Done():
			return
		case <-w.changing:
		}
		t := time.NewTimer(w.settle)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// failed says why the API server does not tell, once for each reason.
func (w *Watcher) failed(err error) {
	if errors.Is(err, context.Canceled) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return // part of the protocol
	}
	hint := ""
	if apierrors.IsForbidden(err) {
		hint = "the service account needs get, list and watch of pods: see deploy/kubernetes/rbac.yaml"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if text := err.Error(); w.failing != text {
		w.failing = text
		w.log.Warn("cannot watch the pods of Kubernetes; what was known of them stays in force", "error", err, "hint", hint)
	}
}

// Failing says why the API server does not tell what changes, "" while it does.
func (w *Watcher) Failing() string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.failing
}

// Placed is discover.Config.Placed.
func (w *Watcher) Placed(containerID, podUID, container string) *discover.Placement {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if p := w.ids[containerID]; p != nil && containerID != "" {
		return p
	}
	k := w.pods[podUID]
	switch {
	case k == nil || podUID == "":
		return nil
	case container != "" && k.containers[container] != nil:
		return k.containers[container]
	case containerID != "" && !k.whole:
		return nil // which of them it is will be told in a moment
	case len(k.pod.Spec.Containers) == 1:
		return k.containers[k.pod.Spec.Containers[0].Name]
	}
	return k.alone
}

// Targets returns what is to be scraped of all pods, in the order of their names.
func (w *Watcher) Targets() []Target {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Target
	w.left = 0
	for _, name := range slices.Sorted(maps.Keys(w.byName)) {
		ts, err := targets(w.byName[name].pod, &w.cfg)
		w.complain(name, err)
		for _, t := range ts {
			if len(out) >= maxTargets {
				w.left++
				continue
			}
			out = append(out, t)
		}
	}
	if w.left > 0 {
		w.log.Warn("more targets in Kubernetes than one collector takes", "limit", maxTargets, "left_out", w.left, "hint", "watch namespaces, or a node with each sidecar")
	}
	return out
}

// Left returns how many targets are left out for being beyond the limit of 10,000.
func (w *Watcher) Left() int {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.left
}

// complain says once what is wrong with a pod's annotations. w.mu is held.
func (w *Watcher) complain(name string, err error) {
	if err == nil {
		delete(w.wrong, name)
		return
	}
	if text := err.Error(); w.wrong[name] != text {
		w.wrong[name] = text
		w.log.Warn("annotations of a pod cannot be used", "pod", name, "error", err)
	}
}

func (w *Watcher) changed() {
	select {
	case w.changing <- struct{}{}:
	default:
	}
}

// put takes over a pod as it is now.
func (w *Watcher) put(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.synced {
		w.failing = ""
	}
	name := pod.Namespace + "/" + pod.Name
	old := w.byName[name]
	k := describe(pod)
	if old != nil && old.pod.UID == pod.UID {
		k.reuse(old)
	}
	w.drop(name)
	w.byName[name] = k
	for _, uid := range k.uids {
		w.pods[uid] = k
	}
	for _, c := range statuses(pod) {
		if _, id, ok := strings.Cut(c.ContainerID, "://"); ok && id != "" && k.containers[c.Name] != nil {
			w.ids[id] = k.containers[c.Name]
			k.ids = append(k.ids, id)
		}
	}
	w.changed()
}

// remove forgets a pod that is gone.
func (w *Watcher) remove(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(pod.Namespace + "/" + pod.Name)
	delete(w.wrong, pod.Namespace+"/"+pod.Name)
	w.changed()
}

// drop takes a pod out of every index. w.mu is held.
func (w *Watcher) drop(name string) {
	k := w.byName[name]
	if k == nil {
		return
	}
	delete(w.byName, name)
	for _, uid := range k.uids {
		if w.pods[uid] == k {
			delete(w.pods, uid)
		}
	}
	for _, id := range k.ids {
		delete(w.ids, id)
	}
}

// describe makes the placements of a pod's containers.
func describe(pod *corev1.Pod) *known {
	k := &known{pod: pod, uids: []string{string(pod.UID)}, whole: true, containers: map[string]*discover.Placement{}, alone: placement(pod, "")}
	// The kubelet names a static pod by the hash of its file, the API server knows it by another uid.
	if hash := pod.Annotations["kubernetes.io/config.hash"]; hash != "" {
		k.uids = append(k.uids, hash)
	}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		k.containers[c.Name] = placement(pod, c.Name)
	}
	for _, c := range statuses(pod) {
		if k.containers[c.Name] == nil {
			k.containers[c.Name] = placement(pod, c.Name) // an ephemeral one
		}
	}
	have := map[string]bool{}
	for _, c := range statuses(pod) {
		have[c.Name] = c.ContainerID != ""
	}
	for _, c := range pod.Spec.Containers {
		k.whole = k.whole && have[c.Name]
	}
	return k
}

// reuse keeps the placements that did not change: a new pointer is news to who was given it.
func (k *known) reuse(old *known) {
	for name, p := range k.containers {
		if o := old.containers[name]; same(o, p) {
			k.containers[name] = o
		}
	}
	if same(old.alone, k.alone) {
		k.alone = old.alone
	}
}

func same(a, b *discover.Placement) bool {
	return a != nil && a.Service == b.Service && a.Named == b.Named && a.Version == b.Version && a.Off == b.Off && maps.Equal(a.Labels, b.Labels)
}
