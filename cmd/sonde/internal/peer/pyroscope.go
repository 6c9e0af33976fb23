package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// pyroscope asks Grafana Pyroscope for flame graphs, by connect with JSON.
type pyroscope struct {
	base   *url.URL
	header http.Header
}

// maxNodes is how many nodes of a flame graph are asked for.
const maxNodes = 65536

var pyroscopeTypes = map[string]string{
	"cpu:cpu": "process_cpu:cpu:nanoseconds:cpu:nanoseconds", "cpu:samples": "process_cpu:samples:count:cpu:nanoseconds",
	"heap:inuse_space": "memory:inuse_space:bytes:space:bytes", "heap:inuse_objects": "memory:inuse_objects:count:space:bytes",
	"heap:alloc_space": "memory:alloc_space:bytes:space:bytes", "heap:alloc_objects": "memory:alloc_objects:count:space:bytes",
	"goroutine:goroutine": "goroutines:goroutine:count:goroutine:count",
	"mutex:delay":         "mutex:delay:nanoseconds:contentions:count", "mutex:contentions": "mutex:contentions:count:contentions:count",
	"block:delay": "block:delay:nanoseconds:contentions:count", "block:contentions": "block:contentions:count:contentions:count",
}

func (p *pyroscope) Type(id string) string { return pyroscopeTypes[id] }

// number is an int64, which protobuf's JSON writes as a string.
type number int64

func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	*n = number(v)
	return err
}

type pyroscopeAnswer struct {
	Flamegraph struct {
		Names  []string `json:"names"`
		Levels []struct {
			Values []number `json:"values"` // of each bar: distance to the one before, total, self, name
		} `json:"levels"`
		Total number `json:"total"`
	} `json:"flamegraph"`
}

func (p *pyroscope) Ask(ctx context.Context, q Query) (*Answer, error) {
	body, err := json.Marshal(map[string]any{
		"profileTypeID": q.Type, "labelSelector": q.Selector, "start": strconv.FormatInt(q.From.UnixMilli(), 10), "end": strconv.FormatInt(q.To.UnixMilli(), 10), "maxNodes": strconv.Itoa(maxNodes),
	})
	if err != nil {
		return nil, err
	}
	u := p.base.JoinPath("querier.v1.QuerierService", "SelectMergeStacktraces")
	_, data, took, err := post(ctx, http.DefaultClient, u, "application/json", p.header, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	a, err := parsePyroscope(data)
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", u.Host, err)
	}
	a.Took, a.Bytes = took, int64(len(data))
	return a, nil
}

// parsePyroscope adds up the bars of a flame graph by function.
func parsePyroscope(data []byte) (*Answer, error) {
	var f pyroscopeAnswer
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	g := &f.Flamegraph
	a := &Answer{Total: int64(g.Total), Self: map[string]int64{}}
	for i, l := range g.Levels {
		if len(l.Values)%4 != 0 {
			return nil, fmt.Errorf("level %d has %d numbers: want four a bar", i, len(l.Values))
		}
		for v := l.Values; len(v) > 0; v = v[4:] {
			self, name := int64(v[2]), int64(v[3])
			if name < 0 || name >= int64(len(g.Names)) || self < 0 {
				return nil, errors.New("a bar has a name that there is not, or less than nothing")
			}
			if self == 0 || i == 0 { // the root is nobody
				continue
			}
			if g.Names[name] == "other" {
				a.Cut = true
			}
			a.Self[g.Names[name]] += self
		}
	}
	return a, nil
}
