package kubernetes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/sonde-io/sonde/collector/discover/sd"
)

// objects decodes every document of a manifest as an API server with strict field validation does.
func objects(t *testing.T, name string) (out []runtime.Object) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	decode := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer().Decode
	for doc := range bytes.SplitSeq(b, []byte("\n---\n")) {
		obj, _, err := decode(doc, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out = append(out, obj)
	}
	return out
}

func TestManifestsAreStrictlyValid(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, name := range files {
		if name == "kustomization.yaml" {
			continue
		}
		for _, obj := range objects(t, name) {
			kinds = append(kinds, obj.GetObjectKind().GroupVersionKind().Kind)
		}
	}
	slices.Sort(kinds)
	want := []string{"ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "Deployment", "Namespace", "Service", "ServiceAccount", "StatefulSet"}
	if !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
	var k struct {
		APIVersion, Kind string
		Resources        []string
	}
	b, err := os.ReadFile("kustomization.yaml")
	if err == nil {
		err = yaml.Unmarshal(b, &k)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if listed := slices.Contains(k.Resources, name); listed == (name == "kustomization.yaml" || name == "sidecar-example.yaml") {
			t.Errorf("%s: listed in kustomization.yaml is %v", name, listed)
		}
	}
}

// TestRightsAreTheLeast: whoever widens them has to say so here.
func TestRightsAreTheLeast(t *testing.T) {
	for _, obj := range objects(t, "rbac.yaml") {
		if role, ok := obj.(*rbacv1.ClusterRole); ok {
			if got := fmt.Sprint(role.Rules); got != fmt.Sprint([]rbacv1.PolicyRule{{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"pods"}}}) {
				t.Errorf("rules %s", got)
			}
		}
	}
	b, err := os.ReadFile("daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objects(t, "daemonset.yaml") {
		ds, ok := obj.(*appsv1.DaemonSet)
		if !ok {
			continue
		}
		spec := ds.Spec.Template.Spec
		sc := spec.Containers[0].SecurityContext
		if !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || sc.Privileged != nil || !*sc.ReadOnlyRootFilesystem || !spec.HostPID {
			t.Errorf("security context %+v", sc)
		}
		if want := []corev1.Capability{"SYS_PTRACE", "DAC_READ_SEARCH", "PERFMON", "SYS_ADMIN"}; !slices.Equal(sc.Capabilities.Add, want) {
			t.Errorf("capabilities %v, want %v", sc.Capabilities.Add, want)
		}
		for _, c := range sc.Capabilities.Add {
			for line := range strings.SplitSeq(string(b), "\n") {
				if strings.Contains(line, "- "+string(c)) && !strings.Contains(line, " # to ") {
					t.Errorf("it is not said why it needs %s", c)
				}
			}
		}
	}
}

func TestConfigOfTheSidecarIsRead(t *testing.T) {
	for _, obj := range objects(t, "daemonset.yaml") {
		cm, ok := obj.(*corev1.ConfigMap)
		if !ok {
			continue
		}
		var file struct {
			Upstream  string    `yaml:"upstream"`
			Token     string    `yaml:"upstream_token_file"`
			Listen    string    `yaml:"listen"`
			Discovery sd.Config `yaml:"service_discovery"`
		}
		dec := yaml.NewDecoder(strings.NewReader(cm.Data["sonde.yaml"]))
		dec.KnownFields(true)
		if err := errors.Join(dec.Decode(&file), file.Discovery.Validate()); err != nil {
			t.Fatal(err)
		}
		if file.Discovery.Kubernetes == nil || file.Upstream == "" || file.Token == "" || file.Listen == "" {
			t.Errorf("%+v", file)
		}
		return
	}
	t.Error("no ConfigMap")
}
