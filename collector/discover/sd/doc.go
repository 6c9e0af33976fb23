// Package sd lists targets as Prometheus does: static ones, files (file_sd), DNS (SRV, A, AAAA, MX, NS) and the pods of Kubernetes, each relabeled in
// Prometheus' syntax.
//
//	m, err := sd.New(cfg, sd.Options{})          // cfg is one setting of the configuration file
//	discover.Config{Placed: m.Placed(), Relabel: m.Relabel()}
//	err = m.Run(ctx, scraper.SetSource)          // gives the scraper each source's targets whenever they change
//
// A source that fails (a file that is half written, a name server that is silent, an API server that is away) keeps its last good list; Status says why. A target is a set of
// labels. Those that begin with __ say where it is and go no further: __address__, __scheme__, __profile_path__ (the base, /debug/pprof), __profile_types__ (cpu,heap; empty for
// all), __meta_*; the others are labels of its series, service_name its service. What relabeling drops is not scraped; of a local process that it drops no port is asked either.
//
// The Manager has one goroutine for each source. All methods are safe for concurrent use. The package imports scrape, discover and kube; of Prometheus only model/labels and
// model/relabel.
package sd
