package agent

import (
	"maps"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

func TestLabelsComeFromWhereTheyShould(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		env  []string
		want map[string]string
	}{
		{"config wins", Config{Service: "cart", Environment: "prod"}, []string{"SONDE_SERVICE", "x", "OTEL_SERVICE_NAME", "y", "OTEL_RESOURCE_ATTRIBUTES", "service.name=z,deployment.environment.name=dev"},
			map[string]string{"service_name": "cart", "deployment_environment_name": "prod"}},
		{"otel", Config{}, []string{"OTEL_SERVICE_NAME", "cart", "OTEL_RESOURCE_ATTRIBUTES", "service.version=v2,team=a%20b%2Cc, broken ,service.instance.id=evil"},
			map[string]string{"service_name": "cart", "service_version": "v2", "team": "a b,c", "sonde_stripped": "2"}},
		{"own labels win over attributes", Config{Labels: map[string]string{"team": "c", "host.name": "h"}}, []string{"SONDE_LABELS", "team=b,zone=1", "OTEL_RESOURCE_ATTRIBUTES", "team=a"},
			map[string]string{"team": "c", "zone": "1", "host_name": "h"}},
		{"kubernetes", Config{}, []string{"POD_NAME", "cart-7f", "POD_NAMESPACE", "shop", "NODE_NAME", "n1"},
			map[string]string{"k8s_pod_name": "cart-7f", "k8s_namespace_name": "shop", "k8s_node_name": "n1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := tc.cfg
			if problems := cfg.resolve(env(tc.env...)); len(problems) > 0 {
				t.Fatal(problems)
			}
			p, _ := describeProcess(&cfg, env(tc.env...))
			for k, want := range tc.want {
				if p.Labels[k] != want {
					t.Errorf("%s is %q, want %q", k, p.Labels[k], want)
				}
			}
			if p.Labels["service_instance_id"] != "" {
				t.Error("service_instance_id is the collector's to set")
			}
		})
	}
}

// TestTooManyLabels checks that the process stays below the collector's limit of 64 with service_name kept.
func TestTooManyLabels(t *testing.T) {
	many := map[string]string{}
	for i := range 500 {
		many["l"+strconv.Itoa(i)] = "v"
	}
	cfg := Config{Service: "cart", Labels: many}
	cfg.resolve(env())
	p, stripped := describeProcess(&cfg, env())
	if stripped != 500-MaxLabels || len(p.Labels) > 63 || p.Labels["service_name"] != "cart" || p.Labels["sonde_stripped"] != strconv.Itoa(stripped) {
		t.Errorf("stripped %d, %d labels left", stripped, len(p.Labels))
	}
}

func TestDefaultNames(t *testing.T) {
	for _, tc := range []struct{ path, exe, want string }{
		{"example.com/shop/cmd/cart", "/app/x", "cart"},
		{"example.com/cart/v2", "/app/x", "cart"},
		{"command-line-arguments", "/app/cart", "cart"},
		{"", `cart.exe`, "cart"},
		{"", "", "unknown_service"},
	} {
		if got := defaultService(&debug.BuildInfo{Path: tc.path}, tc.exe); got != tc.want {
			t.Errorf("path %q, executable %q: service %q, want %q", tc.path, tc.exe, got, tc.want)
		}
	}
	rev := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}}}
	if got := defaultVersion(rev); got != "0123456789ab" {
		t.Errorf("version %q", got)
	}
}

func TestURL(t *testing.T) {
	for _, tc := range []struct {
		in, want, problem string
		token             bool
	}{
		{"", defaultURL, "", false},
		{"https://sonde.example.com/base/", "https://sonde.example.com/base", "", true},
		{"sonde:7070", defaultURL, "want http://HOST:PORT", false},
		{"http://10.0.0.1:7070", "http://10.0.0.1:7070", "in the clear", true},
		{"http://127.0.0.1:7070", "http://127.0.0.1:7070", "", true},
	} {
		r := &resolver{getenv: env()}
		got := r.url(tc.in, tc.token)
		all := strings.Join(r.problems, "\n")
		if got != tc.want || (tc.problem == "") != (all == "") || !strings.Contains(all, tc.problem) {
			t.Errorf("%q: %q with problems %q, want %q and %q", tc.in, got, all, tc.want, tc.problem)
		}
	}
}

func TestLabelNames(t *testing.T) {
	for in, want := range map[string]string{"service.name": "service_name", "a-b/c": "a_b_c", "9lives": "_9lives", "größe": "gr__e", "": ""} {
		if got := labelName(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzParsePairs(f *testing.F) {
	f.Add("a=b,c=d")
	f.Add("a.b=%2C,=x,%zz=%zz")
	f.Fuzz(func(t *testing.T, s string) {
		pairs, _ := parsePairs(s)
		m := &labelMap{labels: map[string]string{}}
		m.add(pairs, sortedKeys(pairs))
		for k, v := range m.labels {
			if !fits(k, v) || labelName(k) != k {
				t.Errorf("label %q=%q from %q", k, v, s)
			}
		}
	})
}

func sortedKeys(m map[string]string) (keys []string) {
	for k := range maps.Keys(m) {
		keys = append(keys, k)
	}
	return keys
}
