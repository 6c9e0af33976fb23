package collector

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/internal/catalog"
)

// What an agent reported lately is left to it, whoever looks and whatever pid he sees; the index is read again once it is stale.
func TestAgentIndex(t *testing.T) {
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), CatalogFile))
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	clock := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	put := func(p catalog.Process) {
		t.Helper()
		p.Service, p.BootID, p.State, p.LastSeen = "cart", "boot", "running", p.LastSeen+clock.UnixMilli()
		p.FirstSeen = p.LastSeen
		if err := cat.PutProcesses(t.Context(), []catalog.Process{p}); err != nil {
			t.Fatal(err)
		}
	}
	put(catalog.Process{Instance: "a", StartTicks: 7, PIDNS: 5, PID: 1, NSPIDs: []int{1}, LabelsHash: "h", Gatherer: "agent"})
	put(catalog.Process{Instance: "b", StartTicks: 8, PID: 80, LabelsHash: "h", Gatherer: "agent", LastSeen: -time.Hour.Milliseconds()})
	put(catalog.Process{Instance: "c", StartTicks: 9, PID: 90, Gatherer: "scrape"})
	a := &agentIndex{cat: cat, now: func() time.Time { return clock }}
	seen := func(boot string, pidns, ticks uint64, pids []int) bool {
		_, ok := a.of(discover.Identity{BootID: boot, PIDNS: pidns, StartTicks: ticks, PIDs: pids})
		return ok
	}
	for _, tt := range []struct {
		name         string
		boot         string
		pidns, ticks uint64
		pids         []int
		want         bool
	}{
		{"seen from the node", "boot", 5, 7, []int{4000, 1}, true},
		{"namespace not readable", "boot", 0, 7, []int{4000, 1}, true},
		{"another namespace", "boot", 6, 7, []int{4001, 1}, false},
		{"another boot", "other", 5, 7, []int{4000, 1}, false},
		{"said nothing for an hour", "boot", 0, 8, []int{80}, false},
		{"scraped", "boot", 0, 9, []int{90}, false},
	} {
		if got := seen(tt.boot, tt.pidns, tt.ticks, tt.pids); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	put(catalog.Process{Instance: "p", PID: 1, LabelsHash: "h", Gatherer: "agent", Labels: labels.FromStrings("host_name", "cart-5d9c-x2", "k8s_pod_uid", "u-1")})
	put(catalog.Process{Instance: "q", PID: 1, Gatherer: "scrape", Labels: labels.FromStrings("host_name", "pay-7f-aa", "k8s_pod_uid", "u-2")})
	for _, tt := range []struct {
		uid, name string
		want      bool
	}{{"u-1", "cart-5d9c-x2", true}, {"", "cart-5d9c-x2", true}, {"u-1", "", true}, {"u-2", "pay-7f-aa", false}, {"", "", false}} {
		if got := a.ofPod(map[string]string{"k8s_pod_uid": tt.uid, "k8s_pod_name": tt.name}); got != tt.want {
			t.Errorf("an agent in pod %q %q: %v, want %v", tt.uid, tt.name, got, tt.want)
		}
	}
	put(catalog.Process{Instance: "d", StartTicks: 10, PID: 100, LabelsHash: "h", Gatherer: "agent"})
	if seen("boot", 0, 10, []int{100}) {
		t.Error("the catalogue was read again within one scan")
	}
	clock = clock.Add(agentsFresh)
	if !seen("boot", 0, 10, []int{100}) {
		t.Error("a new agent is not seen in the next scan")
	}
}
