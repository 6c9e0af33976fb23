// Package kubernetes holds the manifests to run Sonde on Kubernetes, and the test that they are what an API server takes: strictly decoded, with the rights that README.md says.
package kubernetes
