// Package coverage tells a collector what it should see: every node reports the Go programs that run there, watched or not, with the reason for each that is not.
//
//	r := coverage.New(coverage.Config{Node: host, Deliver: coverage.Into(catalogue)}) // or coverage.Post(url, client) in a sidecar
//	scrapeConfig.Report = r.Report                                                    // after every scan of /proc
//	http.Handle("POST /api/v1/coverage", coverage.NewReceiver(coverage.ReceiverConfig{Catalog: catalogue}))
//
// Expected are all Go processes that discovery sees, told apart by what they belong to: a pod's container, a systemd unit (whose name is in /proc/PID/cgroup; nobody is asked over
// D-Bus), or neither. A report is whole: it replaces the node's last one, so nothing that is gone has to be told of. It is small (about 40 bytes gzipped for a process), is sent when it changes,
// at most every 15 s, and at least once a minute. A node whose reports stop is a gap by itself: that is how the loss of a sidecar shows.
//
// What a reason comes down to, and what cures it, is said by Classify in one place, for the API, the command line and the page.
//
// Reporter and Receiver are safe for concurrent use and start no goroutine. The package imports discover's types, the catalogue's, and collector/reply.
package coverage
