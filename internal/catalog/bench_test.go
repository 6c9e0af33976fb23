//go:build unix

package catalog

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

// BenchmarkRegister is the latency of one commit: a segment of services with the windows of some instances, each of which was seen before.
func BenchmarkRegister(b *testing.B) {
	for _, instances := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("instances=%d", instances), func(b *testing.B) {
			db := open(b)
			ps := make([]Process, instances)
			for i := range ps {
				ps[i] = Process{Instance: fmt.Sprintf("%032d", i), Service: "s", BuildID: "b", Labels: labels.FromStrings("service_name", "s", "host_name", "n1")}
			}
			must(b, db.PutProcesses(b.Context(), ps))
			n, before := 0, cpuTime(b)
			for b.Loop() {
				n++
				blk := block(fmt.Sprintf("%010d", n), 0, int64(n), int64(n), "cart", "pay", "shop")
				keys := make([]Key, instances)
				for i := range keys { // an agent tells of its process once
					ps[i] = Process{Instance: ps[i].Instance, Service: "s", Gatherer: "agent", State: "running", LastSeen: int64(n) * 15_000}
					keys[i] = Key{Instance: ps[i].Instance, Window: uint64(n)}
				}
				if err := db.Register(b.Context(), Registration{Block: &blk, Keys: keys, Processes: ps}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N*instances), "cpu-µs/push")
		})
	}
}

// BenchmarkBlocks is the selection of a query: one service and one hour of a week of blocks.
func BenchmarkBlocks(b *testing.B) {
	db := open(b)
	const hour = 3600_000
	for h := range int64(24 * 7) {
		register(b, db, block(fmt.Sprintf("%010d", h), 1, h*hour, (h+1)*hour-1, "cart", "pay", "shop", "mail", "auth"))
	}
	for b.Loop() {
		got, err := db.Blocks(b.Context(), BlockFilter{From: 100 * hour, To: 101 * hour, Services: []string{"pay"}})
		if err != nil || len(got) != 1 {
			b.Fatalf("%d blocks, %v", len(got), err)
		}
	}
}
