package bench

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/sonde-io/sonde/internal/testcorpus"
)

// Epoch is where benchmarks' time starts, Unix ms: on a full hour, at the start of a block's window of 2 h.
const Epoch = int64(1_795_240_800_000)

// Corpus is the corpus' profiles by service and type, in order of time, gzipped. allocs is left out: it is the same capture as heap.
type Corpus struct {
	Services []string
	Types    map[string][]string            // by service, sorted
	Data     map[string]map[string][][]byte // by service and type
}

// LoadCorpus reads the corpus, of the types named, or of all.
func LoadCorpus(t testing.TB, types ...string) *Corpus {
	t.Helper()
	c := &Corpus{Types: map[string][]string{}, Data: map[string]map[string][][]byte{}}
	for _, f := range testcorpus.Files(t) {
		if f.Type == "allocs" || len(types) > 0 && !slices.Contains(types, f.Type) {
			continue
		}
		if c.Data[f.Service] == nil {
			c.Data[f.Service] = map[string][][]byte{}
			c.Services = append(c.Services, f.Service)
		}
		if c.Data[f.Service][f.Type] == nil {
			c.Types[f.Service] = append(c.Types[f.Service], f.Type)
		}
		data, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		c.Data[f.Service][f.Type] = append(c.Data[f.Service][f.Type], data)
	}
	return c
}

// Fleet is the corpus sent by many instances: in each window an instance sends one file of each type of its service.
type Fleet struct {
	*Corpus
	Instances, Windows int
	Period             int64 // ms, of a window
	Once               bool  // each file is sent once: an instance has no profile of a type in the windows after the last file
}

// Entry is one profile that an instance sends.
type Entry struct {
	Type string
	Data []byte // gzipped
}

// Service returns the instance's service.
func (f *Fleet) Service(instance int) string { return f.Services[instance%len(f.Services)] }

// Name returns the instance's id, 32 hex digits.
func (f *Fleet) Name(instance int) string { return fmt.Sprintf("%032x", instance+1) }

// Times returns the window's interval, Unix ms: instances are shifted against each other.
func (f *Fleet) Times(instance, window int) (start, end int64) {
	start = Epoch + int64(window)*f.Period + int64(instance)*f.Period/int64(f.Instances)
	return start, start + f.Period
}

// End returns when the last window of the last instance ends, Unix ms.
func (f *Fleet) End() int64 {
	_, end := f.Times(f.Instances-1, f.Windows-1)
	return end
}

// Entries returns what the instance sends in the window.
func (f *Fleet) Entries(instance, window int) []Entry {
	service := f.Service(instance)
	var out []Entry
	for _, typ := range f.Types[service] {
		files := f.Data[service][typ]
		i := (window + 7*instance) % len(files)
		if f.Once {
			if i = window; i >= len(files) {
				continue
			}
		}
		out = append(out, Entry{typ, files[i]})
	}
	return out
}
