package store

import (
	"maps"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// batch is the pushes that go into one segment, and their outcome.
type batch struct {
	pushes   []batchPush
	services map[string]*batchDataset
	bytes    int // estimate of the segment's size
	profiles int
	samples  int
	rested   bool        // GatherPause has passed since the batch before was cut, or GatherQuiet since the last push
	due      bool        // has gathered for GatherDelay
	quiet    *time.Timer // started again by each push; nil where the batch need not rest
	timers   []*time.Timer

	done chan struct{} // closed when the fields below are set
	err  error         // of all pushes that are not duplicates
}

type batchPush struct {
	key       catalog.Key
	process   *catalog.Process
	build     *catalog.Build
	events    []catalog.Event
	duplicate bool
}

// batchDataset is what a batch holds of one service.
type batchDataset struct {
	dict    *profiles.Symbols // the service's dictionary; grows under Store.mu
	symbols *profiles.Symbols // a snapshot of it once the batch is cut, and then what is used of it
	origin  *origin           // of symbols in dict
	series  map[string]*batchSeries
}

type batchSeries struct {
	series
	groups [kinds][]int
	owners []int // of each record: index into batch.pushes
}

func newBatch() *batch {
	return &batch{services: map[string]*batchDataset{}, done: make(chan struct{})}
}

// add takes a valid push. keys are the seriesKeys of its profiles.
func (b *batch) add(p *Push, keys []string, staleness time.Duration, rec *recorder, dict *dictionaries) {
	owner := len(b.pushes)
	b.pushes = append(b.pushes, batchPush{key: p.Key, process: p.Process, build: p.Build, events: p.Events})
	for i := range p.Profiles {
		pr := &p.Profiles[i]
		ds := b.services[pr.Labels.Get(serviceLabel)]
		if ds == nil {
			ds = &batchDataset{dict: dict.get(pr.Labels.Get(serviceLabel)), series: map[string]*batchSeries{}}
			b.services[pr.Labels.Get(serviceLabel)] = ds
		}
		s := ds.series[keys[i]]
		if s == nil {
			s = &batchSeries{series: series{labels: pr.Labels.Copy(), typ: pr.Type, columns: rec.keep(columnsOf(pr.Type, pr.Data.SampleTypes))}}
			s.groups = groupsOf(s.columns)
			ds.series[keys[i]] = s
		}
		r := record{start: pr.Start, end: pr.End, covered: min(pr.End-pr.Start, staleness.Milliseconds())}
		r.groups, r.spans = rec.record(ds.dict, pr.Data, &s.groups)
		if n := len(s.records); n == 0 || pr.Start >= s.records[n-1].start {
			s.period = pr.Data.Period
		}
		s.records, s.owners = append(s.records, r), append(s.owners, owner)
		b.bytes += 256 + 16*len(pr.Data.Locations) + 3*len(pr.Data.Values)
		b.profiles++
		b.samples += len(pr.Data.Samples)
	}
}

// registration returns what to register without the duplicates, and of each of its keys the push.
func (b *batch) registration() (r catalog.Registration, owners []int) {
	for i := range b.pushes {
		p := &b.pushes[i]
		if p.duplicate {
			continue
		}
		if p.key != (catalog.Key{}) {
			r.Keys, owners = append(r.Keys, p.key), append(owners, i)
		}
		if p.process != nil {
			r.Processes = append(r.Processes, *p.process)
		}
		if p.build != nil {
			r.Builds = append(r.Builds, *p.build)
		}
		r.Events = append(r.Events, p.events...)
	}
	return r, owners
}

// cut ends the gathering: from here on the dictionaries grow without it.
func (b *batch) cut() {
	for _, t := range b.timers {
		t.Stop()
	}
	for _, ds := range b.services {
		ds.symbols = snapshot(ds.dict)
	}
}

// dropDuplicates removes the records of duplicate pushes.
func (b *batch) dropDuplicates() {
	b.profiles = 0
	for service, ds := range b.services {
		for key, s := range ds.series {
			kept := 0
			for i := range s.records {
				if !b.pushes[s.owners[i]].duplicate {
					s.records[kept], s.owners[kept] = s.records[i], s.owners[i]
					kept++
				}
			}
			s.records, s.owners = s.records[:kept], s.owners[:kept]
			b.profiles += kept
			if kept == 0 {
				delete(ds.series, key)
			}
		}
		if len(ds.series) == 0 {
			delete(b.services, service)
		}
	}
}

// compact moves the records to a table that holds no more than they use. The order of the stacks stays.
func (ds *batchDataset) compact(sub *subset) {
	sub.reset(ds.symbols)
	ds.eachRows(func(r *rows[int64]) {
		for _, id := range r.stacks {
			sub.use(id)
		}
	})
	ds.eachSpan(func(r *spanRow) { sub.use(r.stack) })
	ds.symbols = sub.copy()
	if ds.origin == nil {
		ds.origin = sub.origin(ds.dict)
	} else { // encoded again, without duplicates
		ds.origin = ds.origin.subset(sub)
	}
	ds.eachRows(func(r *rows[int64]) {
		for i, id := range r.stacks {
			r.stacks[i] = sub.stacks[id]
		}
	})
	ds.eachSpan(func(r *spanRow) { r.stack = sub.stacks[r.stack] })
}

func (ds *batchDataset) eachSpan(fn func(*spanRow)) {
	for _, s := range ds.series {
		for i := range s.records {
			for j := range s.records[i].spans {
				fn(&s.records[i].spans[j])
			}
		}
	}
}

func (ds *batchDataset) eachRows(fn func(*rows[int64])) {
	for _, s := range ds.series {
		for i := range s.records {
			for k := range s.records[i].groups {
				fn(&s.records[i].groups[k])
			}
		}
	}
}

// encode writes the batch as a segment.
func (b *batch) encode(w *fileWriter, id blockID, now time.Time) ([]byte, catalog.Block, error) {
	w.reset(id, 0, now.UnixMilli(), 0)
	for _, service := range slices.Sorted(maps.Keys(b.services)) {
		ds := b.services[service]
		ds.compact(&w.subset)
		w.begin(service, nil)
		all := make([]*series, 0, len(ds.series))
		for _, s := range ds.series {
			all = append(all, &s.series)
		}
		slices.SortFunc(all, func(a, b *series) int { return compareSeries(a, b, w.version) })
		for _, s := range all {
			sortRecords(s.records)
			w.add(s)
		}
		if err := w.end(ds.symbols, ds.origin); err != nil {
			return nil, catalog.Block{}, err
		}
	}
	data, row := w.finish(nil)
	return data, row, nil
}

// sortRecords orders by start; records of the same start keep their order.
func sortRecords(rs []record) {
	slices.SortStableFunc(rs, func(a, b record) int { return int(max(-1, min(1, a.start-b.start))) })
}
