package bench

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// ReplicaService is the service of the corpus with the largest CPU profiles and nearly the largest heaps.
const ReplicaService = "etcd-go126"

// ReplicaPeriod is the length of a window in ms.
const ReplicaPeriod = 15_000

// Replicas are many instances of one service. Their profiles are made out of the corpus' few: each is a copy of a file with a fifth of its samples left out and
// the counts of a CPU profile drawn anew, so that no two are the same bytes. They are the same in every run.
type Replicas struct {
	Start     int64 // Unix ms, of window 0
	instances int
	types     []string
	files     map[string][]*profiles.Profile
	labels    []labels.Labels
	memory    [][]profiles.Profile // by instance and type
}

// NewReplicas makes instances of ReplicaService that send the types named.
func NewReplicas(t testing.TB, instances int, types ...string) *Replicas {
	t.Helper()
	c := LoadCorpus(t, types...)
	r := &Replicas{Start: Epoch, instances: instances, types: types, files: map[string][]*profiles.Profile{}}
	for _, typ := range types {
		for _, data := range c.Data[ReplicaService][typ] {
			p, err := profiles.Parse(data, profiles.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			r.files[typ] = append(r.files[typ], p)
		}
		if len(r.files[typ]) == 0 {
			t.Fatalf("the corpus has no %s profiles of %s", typ, ReplicaService)
		}
	}
	for i := range instances {
		r.labels = append(r.labels, labels.FromStrings("service_name", ReplicaService, "service_instance_id", r.Instance(i), "service_version", "v1", "host_name", fmt.Sprintf("node%d", i%5)))
		r.memory = append(r.memory, make([]profiles.Profile, len(types)))
	}
	return r
}

// Instance returns the id of the number'th instance.
func (r *Replicas) Instance(number int) string { return fmt.Sprintf("%032x", number+1) }

// Window is what one instance sends at once.
type Window struct {
	Instance   string
	Number     uint64 // from 1
	Labels     labels.Labels
	Start, End int64 // Unix ms
	Types      []string
	Profiles   []*profiles.Profile // of the types; valid until push returns
}

// Send calls push for window number w, from 0, of every instance, all at the same time, and returns when all have returned.
func (r *Replicas) Send(t testing.TB, w int, push func(Window) error) {
	var wg sync.WaitGroup
	for i := range r.instances {
		wg.Go(func() {
			start := r.Start + int64(w)*ReplicaPeriod + int64(i)*ReplicaPeriod/int64(r.instances)
			out := Window{Instance: r.Instance(i), Number: uint64(w + 1), Labels: r.labels[i], Start: start, End: start + ReplicaPeriod, Types: r.types}
			for k := range r.types {
				out.Profiles = append(out.Profiles, r.make(i, w, k))
			}
			if err := push(out); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// make makes the profile of the k'th type that an instance sends in a window. But for samples and values it is the file's.
func (r *Replicas) make(instance, window, k int) *profiles.Profile {
	files := r.files[r.types[k]]
	from := files[(window+7*instance)%len(files)]
	p := &r.memory[instance][k]
	samples, values := p.Samples[:0], p.Values[:0]
	*p = *from
	rng := rand.New(rand.NewPCG(uint64(instance), uint64(window)<<8|uint64(k)))
	for i, s := range from.Samples {
		if rng.IntN(10) < 2 {
			continue
		}
		row := from.Row(i)
		samples = append(samples, s)
		if r.types[k] != "cpu" || row[0] <= 0 {
			values = append(values, row...)
			continue
		}
		n, each := row[0], row[1]/row[0]
		if n > 1 {
			n = 1 + rng.Int64N(2*n-1)
		}
		values = append(values, n, n*each)
	}
	p.Samples, p.Values = samples, values
	return p
}
