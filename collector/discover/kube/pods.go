package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// Client lists and watches pods. client-go's clientsets do the same for every kind of object that there is, at twice the size of the rest of the program.
type Client interface {
	// ListPods lists the pods of a namespace, "" for all.
	ListPods(ctx context.Context, namespace string, opts metav1.ListOptions) (*corev1.PodList, error)
	// WatchPods tells of their changes.
	WatchPods(ctx context.Context, namespace string, opts metav1.ListOptions) (apiwatch.Interface, error)
}

// podClient is the Client of a real API server.
type podClient struct {
	rest   rest.Interface
	params runtime.ParameterCodec
}

func newPodClient(c *rest.Config) (*podClient, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register pods: %w", err)
	}
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	c = rest.CopyConfig(c)
	c.APIPath, c.GroupVersion = "/api", &corev1.SchemeGroupVersion
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	r, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, err
	}
	return &podClient{r, runtime.NewParameterCodec(scheme)}, nil
}

func (c *podClient) pods(namespace string, opts *metav1.ListOptions) *rest.Request {
	return c.rest.Get().NamespaceIfScoped(namespace, namespace != "").Resource("pods").VersionedParams(opts, c.params)
}

// ListPods implements Client.
func (c *podClient) ListPods(ctx context.Context, namespace string, opts metav1.ListOptions) (*corev1.PodList, error) {
	list := new(corev1.PodList)
	err := c.pods(namespace, &opts).Do(ctx).Into(list)
	return list, err
}

// WatchPods implements Client.
func (c *podClient) WatchPods(ctx context.Context, namespace string, opts metav1.ListOptions) (apiwatch.Interface, error) {
	opts.Watch = true
	return c.pods(namespace, &opts).Watch(ctx)
}
