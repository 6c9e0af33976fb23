package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

// localType is the type that --type asks of a file; zero where the flag is not given and the file's own main column counts.
func localType(cmd *cobra.Command, q *queryFlags) (t profiles.Type, err error) {
	for _, name := range []string{"service", "query", "sample", "focus", "ignore", "since", "from", "to"} {
		if cmd.Flags().Changed(name) {
			return t, usage(cmd, "--%s is for the collector, and a FILE is given", name)
		}
	}
	if !cmd.Flags().Changed("type") {
		return t, nil
	}
	if t, err = profiles.ParseType(q.typ); err != nil {
		return t, usage(cmd, "read --type: %w", err)
	}
	return t, nil
}

// loadFile reads a pprof file into stacks of type t, or of the file's own main type where t is zero.
func (a *app) loadFile(name string, t profiles.Type) (*profiles.Stacks, error) {
	data, err := a.readFile(name)
	if err != nil {
		return nil, noSuchFile(err, "a FILE is a pprof profile on this machine; without one the collector is asked (--service, --query)")
	}
	p, err := profiles.Parse(data, profiles.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	column, err := pickColumn(p, &t)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	start := p.TimeNanos / 1e6
	ms := max(p.DurationNanos/1e6, 1) // a gauge stands for the whole range, whatever it is
	b := profiles.NewBuilder(t, start, start+ms)
	if err := b.Add(p, column, ms); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b.Stacks(), nil
}

// pickColumn finds the column of t, or fills in t from the profile's default column, which is the last one where it names none.
func pickColumn(p *profiles.Profile, t *profiles.Type) (int, error) {
	if p.Columns() == 0 {
		return 0, fmt.Errorf("the profile has no sample types")
	}
	column := p.Columns() - 1
	if t.Sample == "" {
		if c := p.Column(p.DefaultSample); c >= 0 {
			column = c
		}
		t.Sample = p.SampleTypes[column].Type
		t.Profile = profileOf(t.Sample)
	} else if column = p.Column(t.Sample); column < 0 {
		var has []string
		for _, st := range p.SampleTypes {
			has = append(has, st.Type)
		}
		return 0, withHint(fmt.Errorf("the profile has no column %s", t.Sample), "it has %s", strings.Join(has, ", "))
	}
	t.Unit = p.SampleTypes[column].Unit
	return column, nil
}

// profileOf names the type of profile that a column comes from, as far as its name tells.
func profileOf(sample string) string {
	switch {
	case sample == "samples":
		return "cpu"
	case strings.HasPrefix(sample, "inuse_"), strings.HasPrefix(sample, "alloc_"):
		return "heap"
	case sample == "delay", sample == "contentions":
		return "mutex"
	}
	return sample
}

// diffFiles compares two files, by the type of the second.
func (a *app) diffFiles(cmd *cobra.Command, q *queryFlags, b *baseFlags, baseName, name string) (*profiles.Top, error) {
	t, err := localType(cmd, q)
	if err != nil {
		return nil, err
	}
	s, err := a.loadFile(name, t)
	if err != nil {
		return nil, err
	}
	base, err := a.loadFile(baseName, profiles.Type{Profile: s.Type.Profile, Sample: s.Type.Sample})
	if err != nil {
		return nil, err
	}
	if s.Type.Unit != base.Type.Unit {
		return nil, fmt.Errorf("compare %s with %s: one is in %s, the other in %s", baseName, name, base.Type.Unit, s.Type.Unit)
	}
	opt := profiles.TopOptions{Limit: manyRows, Frames: b.frames}
	if n := profiles.Normalization(b.normalize); n != "" && n != profiles.NormalizeNone {
		now, was := profiles.Side{Stacks: s}, profiles.Side{Stacks: base}
		if s.Type.String() == "cpu:cpu" {
			now.CPU, was.CPU = s, base
		}
		scale := profiles.NewScale(n, now, was)
		opt.Scale = &scale
	}
	return profiles.NewTop(s, base, opt), nil
}
