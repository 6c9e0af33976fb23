package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// namespaces are network namespaces of this test: a collector's, connected to those of the nodes and to the test's own.
type namespaces struct{ t *testing.T }

func (n *namespaces) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// add makes a namespace. It goes, with what leads to it, when the test ends.
func (n *namespaces) add(name string) string {
	name = fmt.Sprintf("sonde-e2e-%d-%s", os.Getpid(), name)
	n.ip("netns", "add", name)
	n.t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	n.ip("-n", name, "link", "set", "lo", "up")
	return name
}

// connect connects the namespace hub, as 10.231.NET.1, with another one, "" for the test's own, as 10.231.NET.2.
func (n *namespaces) connect(hub, other string, net int) {
	a, b := fmt.Sprintf("se%d-%da", os.Getpid()%100000, net), fmt.Sprintf("se%d-%db", os.Getpid()%100000, net)
	n.ip("link", "add", a, "type", "veth", "peer", "name", b)
	n.t.Cleanup(func() { exec.Command("ip", "link", "del", b).Run() }) // where it is still here
	n.ip("link", "set", a, "netns", hub)
	n.ip("-n", hub, "addr", "add", fmt.Sprintf("10.231.%d.1/30", net), "dev", a)
	n.ip("-n", hub, "link", "set", a, "up")
	var in []string
	if other != "" {
		n.ip("link", "set", b, "netns", other)
		in = []string{"-n", other}
	}
	n.ip(append(in, "addr", "add", fmt.Sprintf("10.231.%d.2/30", net), "dev", b)...)
	n.ip(append(in, "link", "set", b, "up")...)
}

// inside returns the command that runs argv in a namespace, on a node of that name.
func inside(namespace, node string, argv ...string) []string {
	return append([]string{"ip", "netns", "exec", namespace, "unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, node}, argv...)
}

// TestTwoNodes runs two nodes as namespaces of this machine, each with a sidecar, a program with an agent and one with nothing, and a
// collector in a third namespace, which sees the processes and profiles of both.
func TestTwoNodes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces need root")
	}
	for _, tool := range []string{"ip", "unshare", "hostname"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: this machine has no %s", tool)
		}
	}
	if out, err := exec.Command("unshare", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this machine allows no namespaces: %v %s", err, out)
	}
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	n := &namespaces{t: t}
	hub := n.add("c")
	n.connect(hub, "", 1)
	dir := t.TempDir()
	srv := spawnCommand(t, "10.231.1.1:7070", inside(hub, "collector", bin, "serve", "--listen", "0.0.0.0:7070", "--insecure", "--data", dir+"/collector", "--discover=false")...)
	srv.await(t)

	programs := t.TempDir()
	bare, withAgent := fixture(t, programs, "bare"), fixture(t, programs, "withagent")
	for i, node := range []string{"one", "two"} {
		startNode(t, n, hub, i+2, node, bin, dir, bare, withAgent)
	}
	for _, node := range []string{"one", "two"} {
		for _, service := range []string{"bare-" + node, "withagent"} {
			eventually(t, 90*time.Second, "the hot function of "+service+" on "+node, func() error { return hotOn(srv, service, node) })
		}
	}
	eventually(t, 30*time.Second, "both nodes' processes", func() error { return nodesListed(srv) })
}

// nodeScript is what a node runs: its sidecar, and once that listens a program with nothing and one with an agent.
const nodeScript = `"$SONDE" sidecar --upstream "$UPSTREAM" --data "$NODE_HOME/data" --scrape-period 2s --cpu-period 5s --cpu-duration 2s --spool-bytes 32MiB &
until [ -S "$NODE_HOME/data/agent.sock" ]; do sleep 0.1; done
OTEL_SERVICE_NAME="bare-$NODE" "$BARE" &
SONDE_URL="$AGENT_URL" "$WITH_AGENT" &
wait`

// startNode starts a node in namespaces of its own: of the network, the host's name and the processes.
func startNode(t *testing.T, n *namespaces, hub string, net int, node, bin, dir, bare, withAgent string) {
	t.Helper()
	ns := n.add(node)
	n.connect(hub, ns, net)
	home := filepath.Join(dir, node)
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	url := "http://127.0.0.1:7070" // by the node's loopback
	if node == "two" {
		url = "unix:" + home + "/data/agent.sock"
	}
	spawnCommand(t, "", "ip", "netns", "exec", ns, "env", "SONDE="+bin, "NODE="+node, "NODE_HOME="+home, "BARE="+bare, "WITH_AGENT="+withAgent, "AGENT_URL="+url,
		fmt.Sprintf("UPSTREAM=http://10.231.%d.1:7070", net), "unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", `hostname "$NODE"; `+nodeScript)
}

// hotOn reports nil where most of a service's CPU on a node is in its hot function.
func hotOn(srv *server, service, node string) error {
	out, err := tryCLI(srv, "top", "--service", service, "--query", fmt.Sprintf("{host_name=%q}", node), "--type", "cpu", "-o", "json")
	if err != nil {
		return err
	}
	var top profiles.Top
	if err := json.Unmarshal(out, &top); err != nil {
		return err
	}
	for _, r := range top.Rows {
		if r.Function == "main.hotspot" && r.Total > top.Total/2 {
			return nil
		}
	}
	return fmt.Errorf("main.hotspot is not most of %d ns in %d functions", top.Total, len(top.Rows))
}

// nodesListed reports nil where the collector lists the programs of both nodes, each gathered as it should be.
func nodesListed(srv *server) error {
	out, err := tryCLI(srv, "ps", "-o", "json")
	if err != nil {
		return err
	}
	var ps struct {
		Processes []struct {
			Service, Host string
			Gatherers     []string
		}
	}
	if err := json.Unmarshal(out, &ps); err != nil {
		return err
	}
	got := map[string][]string{}
	for _, p := range ps.Processes {
		got[p.Host+" "+p.Service] = append(got[p.Host+" "+p.Service], p.Gatherers...)
	}
	// A program with an agent may have been watched from outside until its first push.
	for program, gatherer := range map[string]string{"one bare-one": "perf", "one withagent": "agent", "two bare-two": "perf", "two withagent": "agent"} {
		if !slices.Contains(got[program], gatherer) {
			return fmt.Errorf("processes %v: no %s gathered by %s", got, program, gatherer)
		}
	}
	if got["one bare-two"] != nil || got["two bare-one"] != nil {
		return fmt.Errorf("processes %v: one node sees the other's", got)
	}
	return nil
}
