// Package kubetest makes client-go's clientsets, the fake one among them, what kube watches pods by. For tests.
package kubetest

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// Client is a kube.Client.
type Client struct{ kubernetes.Interface }

// ListPods implements kube.Client.
func (c Client) ListPods(ctx context.Context, namespace string, opts metav1.ListOptions) (*corev1.PodList, error) {
	return c.CoreV1().Pods(namespace).List(ctx, opts)
}

// WatchPods implements kube.Client.
func (c Client) WatchPods(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	return c.CoreV1().Pods(namespace).Watch(ctx, opts)
}

// IsWatchListSemanticsUnSupported tells client-go's informers what its fake clientset says of itself.
func (c Client) IsWatchListSemanticsUnSupported() bool {
	f, ok := c.Interface.(interface{ IsWatchListSemanticsUnSupported() bool })
	return ok && f.IsWatchListSemanticsUnSupported()
}
