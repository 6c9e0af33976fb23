package archtest_test

import "strings"

// module is the root module's path; the agent's is below it.
const module = "github.com/sonde-io/sonde"

// component is a folder with all below it that is in no other component, and the components that its packages may import. Its own packages it
// may import too, unless inward says otherwise. Tests follow the same arrows.
type component struct {
	folder string
	may    []string
}

// components are the arrows of ARCHITECTURE.md:
//
//	cmd/sonde → collector → {profiles, symbols, coredump} → internal/{catalog, blob}
//
// A folder that is missing here is an error, so that a new one gets its place.
var components = []component{
	{folder: "cmd/sonde", may: []string{"collector", "profiles", "symbols", "coredump", "web", "agent", "internal", "internal/demo"}},
	{folder: "collector", may: []string{"profiles", "symbols", "coredump", "web", "agent", "internal"}},
	{folder: "profiles", may: []string{"internal"}},
	{folder: "symbols", may: []string{"internal"}},
	{folder: "coredump", may: []string{"symbols", "internal"}},
	{folder: "web"},
	{folder: "internal"},
	{folder: "internal/demo", may: []string{"internal", "agent"}},
	{folder: "internal/bench", may: everything},
	{folder: "internal/e2e", may: everything},
	{folder: "internal/release", may: everything},
	{folder: "internal/archtest", may: everything},
	{folder: "deploy", may: everything},
	{folder: "agent"},
	{folder: "agent/prom", may: []string{"agent"}},
	{folder: "agent/otelspan"},
}

var everything = []string{"cmd/sonde", "collector", "profiles", "symbols", "coredump", "web", "internal", "internal/demo", "agent"}

// inward are arrows within a component: packages that the rest of theirs may not import.
var inward = []struct{ importer, imported, why string }{
	{"collector/", "collector", "the parts of a collector are wired by package collector and do not know it"},
	{"internal/blob", "internal/catalog", "blobs know nothing of the catalogue"},
	{"internal/fsys", "internal/blob", "the file system is below blobs"},
	{"internal/catalog", "internal/blob", "the catalogue knows the names of blobs only"},
}

// testOnly are packages that only tests, and each other, may import: the binary must not hold code that fails on purpose.
var testOnly = []string{"internal/fsys/faultfs", "internal/catalog/faultcat", "internal/testcorpus", "internal/testgo", "internal/bench", "collector/discover/discovertest", "collector/discover/kube/kubetest"}

// outside says which packages of other modules only some folders may import, directly or through others.
var outside = []struct {
	packages   string   // a path prefix
	except     []string // paths below it that anybody may import
	only       []string // folders that may
	transitive bool     // also through packages of other modules
	why        string
}{
	{packages: "github.com/go-delve/delve", only: []string{"coredump"}, transitive: true,
		why: "delve runs in the analysis child only: one truncated core has taken it more than 22 GB"},
	{packages: "github.com/prometheus/prometheus/tsdb", only: []string{"collector/metrics"}, transitive: true, why: "the time series database is behind collector/metrics"},
	{packages: "github.com/prometheus/prometheus/promql", only: []string{"collector/metrics"}, transitive: true, why: "the time series database is behind collector/metrics"},
	{packages: "github.com/prometheus/prometheus", except: []string{"/model/labels", "/model/relabel", "/model/histogram", "/model/exemplar", "/model/metadata", "/model/timestamp", "/model/value", "/prompb"}, only: []string{"collector/metrics"},
		why: "of Prometheus only its small packages for labels are used elsewhere"},
	{packages: "modernc.org/sqlite", only: []string{"internal/catalog"}, why: "the database is behind the catalogue"},
	{packages: "k8s.io", only: []string{"collector/discover/kube", "collector/discover/sd", "deploy"}, why: "Kubernetes is behind collector/discover/kube"},
	{packages: "github.com/spf13/cobra", only: []string{"cmd/sonde"}, why: "commands are the command line's"},
}

// standardOnly are the folders that import nothing but the standard library and the module's packages named beside.
var standardOnly = map[string][]string{
	"agent":             {"agent"},
	"internal/rungroup": nil,
	"internal/listen":   nil,
	"internal/blob":     {"internal/fsys"},
	"web":               nil,
}

// bridges are modules of their own below a folder of standardOnly, for what it must not require: nobody imports them here.
var bridges = []string{"agent/prom", "agent/otelspan"}

// componentOf returns the component that holds the folder, nil if none does.
func componentOf(folder string) *component {
	var best *component
	for i, c := range components {
		if within(folder, c.folder) && (best == nil || len(c.folder) > len(best.folder)) {
			best = &components[i]
		}
	}
	return best
}

// within reports whether path is folder or below it.
func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func withinAny(path string, folders []string) bool {
	for _, f := range folders {
		if within(path, f) {
			return true
		}
	}
	return false
}
