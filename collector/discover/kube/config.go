package kube

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Config says which pods are watched and which of them are scraped. The zero Config watches, with the service account of the pod that it runs in, the pods of the node that
// SONDE_NODE_NAME names, of all nodes where that is not set.
type Config struct {
	Kubeconfig string   `yaml:"kubeconfig"` // file; "": the pod's own service account
	Node       string   `yaml:"node"`       // "": SONDE_NODE_NAME; "*": all nodes, whatever that says
	Namespaces []string `yaml:"namespaces"` // none: all that may be read
	Scrape     string   `yaml:"scrape"`     // annotated: pods that ask for it; all: every declared port, for relabeling to choose from; none. "": annotated
	Prefixes   []string `yaml:"prefixes"`   // of annotations that are obeyed; none: sonde.io, profiles.grafana.com, prometheus.io
}

// The values of Config.Scrape.
const (
	ScrapeAnnotated = "annotated"
	ScrapeAll       = "all"
	ScrapeNone      = "none"
)

// NodeVariable names the node in the environment; deploy/kubernetes sets it from spec.nodeName.
const NodeVariable = "SONDE_NODE_NAME"

// maxNamespaces bounds the informers: there is one for each namespace listed.
const maxNamespaces = 100

var knownPrefixes = []string{prefixSonde, prefixGrafana, prefixPrometheus}

// Validate checks c and returns the first thing that is wrong.
func (c *Config) Validate() error {
	if c.Scrape != "" && !slices.Contains([]string{ScrapeAnnotated, ScrapeAll, ScrapeNone}, c.Scrape) {
		return fmt.Errorf("scrape: %q is none of annotated, all, none", c.Scrape)
	}
	if len(c.Namespaces) > maxNamespaces {
		return fmt.Errorf("namespaces: %d are more than %d: leave them out to watch all", len(c.Namespaces), maxNamespaces)
	}
	for _, ns := range c.Namespaces {
		if errs := validation.IsDNS1123Label(ns); len(errs) > 0 {
			return fmt.Errorf("namespaces: %q: %s", ns, strings.Join(errs, "; "))
		}
	}
	if c.Node != "" && c.Node != "*" {
		if errs := validation.IsDNS1123Subdomain(c.Node); len(errs) > 0 {
			return fmt.Errorf("node: %q: %s", c.Node, strings.Join(errs, "; "))
		}
	}
	for _, p := range c.Prefixes {
		if !slices.Contains(knownPrefixes, p) {
			return fmt.Errorf("prefixes: %q is none of %s", p, strings.Join(knownPrefixes, ", "))
		}
	}
	return nil
}

// node returns the node to watch, "" for all.
func (c *Config) node() string {
	switch {
	case c.Node == "*":
		return ""
	case c.Node != "":
		return c.Node
	}
	return os.Getenv(NodeVariable)
}

// errNoCluster says that there is no API server to ask.
var errNoCluster = errors.New("not in a pod with a service account, and no kubeconfig is named")
