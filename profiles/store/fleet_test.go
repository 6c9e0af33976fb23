package store

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/testcorpus"
	"github.com/sonde-io/sonde/profiles"
)

// corpusFiles are the corpus' profiles by service and type, in order of time, gzipped. allocs is left out: it is the same data as heap.
type corpusFiles struct {
	services []string
	types    map[string][]string            // by service, sorted
	data     map[string]map[string][][]byte // by service and type
}

func loadCorpus(t testing.TB) *corpusFiles {
	c := &corpusFiles{types: map[string][]string{}, data: map[string]map[string][][]byte{}}
	for _, f := range testcorpus.Files(t) {
		if f.Type == "allocs" {
			continue
		}
		if c.data[f.Service] == nil {
			c.data[f.Service] = map[string][][]byte{}
			c.services = append(c.services, f.Service)
		}
		if c.data[f.Service][f.Type] == nil {
			c.types[f.Service] = append(c.types[f.Service], f.Type)
		}
		data, err := os.ReadFile(f.Path)
		must(t, err)
		c.data[f.Service][f.Type] = append(c.data[f.Service][f.Type], data)
	}
	slices.Sort(c.services)
	for _, types := range c.types {
		slices.Sort(types)
	}
	return c
}

// fleet is the corpus sent by many instances: in each window an instance sends one file of each type of its service.
type fleet struct {
	*corpusFiles
	instances, windows int
	period             int64 // ms
	pushers            int   // instances that push at the same time; 0: all
}

// service returns the instance's service.
func (f *fleet) service(instance int) string { return f.services[instance%len(f.services)] }

// file returns the file that instance sends in window.
func (f *fleet) file(instance, window int, typ string) int {
	return (window + 7*instance) % len(f.data[f.service(instance)][typ])
}

// times returns the window's interval: instances are shifted against each other.
func (f *fleet) times(instance, window int) (start, end int64) {
	start = epoch + int64(window)*f.period + int64(instance)*f.period/int64(f.instances)
	return start, start + f.period
}

// decoders are shared by the pushers, as a collector shares its own among its requests.
var decoders = sync.Pool{New: func() any { return new(profiles.Decoder) }}

// send pushes all of it, window by window. each runs after every window.
func (f *fleet) send(t testing.TB, s *Store, each func(window int)) (sent, gzipped int) {
	type job struct{ instance, window int }
	var mu sync.Mutex
	for w := range f.windows {
		jobs := make(chan job, f.instances)
		for i := range f.instances {
			jobs <- job{i, w}
		}
		close(jobs)
		var wg sync.WaitGroup
		for range cmp.Or(f.pushers, f.instances) {
			wg.Go(func() {
				for j := range jobs {
					n, bytes, err := f.push(t, s, j.instance, j.window)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					sent, gzipped = sent+n, gzipped+bytes
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if each != nil {
			each(w)
		}
	}
	return sent, gzipped
}

func (f *fleet) push(t testing.TB, s *Store, instance, window int) (sent, gzipped int, err error) {
	service := f.service(instance)
	name := fmt.Sprintf("%032x", instance+1)
	ls := labels.FromStrings("service_name", service, "service_instance_id", name, "service_version", "v1", "host_name", fmt.Sprintf("node%d", instance%5))
	p := Push{Key: catalog.Key{Instance: name, Window: uint64(window + 1)}}
	start, end := f.times(instance, window)
	for _, typ := range f.types[service] {
		data := f.data[service][typ][f.file(instance, window, typ)]
		decoder := decoders.Get().(*profiles.Decoder)
		defer decoders.Put(decoder)
		decoded, err := decoder.Decode(data, profiles.Limits{})
		if err != nil {
			return 0, 0, err
		}
		p.Profiles = append(p.Profiles, Profile{Labels: ls, Type: typ, Start: start, End: end, Data: decoded})
		gzipped += len(data)
	}
	return len(p.Profiles), gzipped, s.Append(t.Context(), p)
}

// settle advances the clock until nothing is left to compact, as a running store does in time.
func settle(t testing.TB, e *env, now int64) {
	e.clock.set(now)
	must(t, e.store.Compact(t.Context(), false))
	e.clock.set(now + 24*3_600_000)
	must(t, e.store.Compact(t.Context(), false))
	e.clock.set(now + 48*3_600_000)
	must(t, e.store.Compact(t.Context(), false))
}
