package peer

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sonde-io/sonde/profiles"
)

// OfPprof adds up a column of a pprof profile by function: that of a type of Sonde's, or where it has none of that name, or id is "", the last one. unit is the column's.
func OfPprof(raw []byte, id string) (a *Answer, unit string, err error) {
	p, err := profiles.Parse(raw, profiles.Limits{})
	if err != nil {
		return nil, "", err
	}
	column := p.Columns() - 1
	if t, err := profiles.ParseType(id); err == nil && p.Column(t.Sample) >= 0 {
		column = p.Column(t.Sample)
	}
	if column < 0 {
		return nil, "", errors.New("the profile has no sample types")
	}
	b := profiles.NewBuilder(profiles.Type{Profile: "any", Sample: "any"}, 0, 1)
	if err := b.Add(p, column, 1); err != nil {
		return nil, "", err
	}
	top := profiles.NewTop(b.Stacks(), nil, profiles.TopOptions{Limit: -1})
	a = &Answer{Total: top.Total, Self: map[string]int64{}}
	for _, r := range top.Rows {
		if r.Self != 0 {
			a.Self[r.Function] += r.Self
		}
	}
	return a, p.SampleTypes[column].Unit, nil
}

// OfFlame adds up a flame graph of Sonde's by function.
func OfFlame(data []byte) (a *Answer, unit string, err error) {
	var f profiles.Flame
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, "", err
	}
	if len(f.Self) != len(f.Name) {
		return nil, "", fmt.Errorf("it has %d values of %d nodes", len(f.Self), len(f.Name))
	}
	a = &Answer{Total: f.Total, Self: map[string]int64{}, Cut: f.Dropped > 0}
	for i, name := range f.Name {
		if int(name) >= len(f.Names) {
			return nil, "", errors.New("a node has a name that there is not")
		}
		if i > 0 && f.Self[i] != 0 {
			a.Self[f.Names[name]] += f.Self[i]
		}
	}
	return a, f.Type.Unit, nil
}
