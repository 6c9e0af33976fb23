package peers

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
)

// The bounds of one OTLP request: processes in it, what each resource says, frames of all stacks for each sample that it may have, and lines of all locations.
const (
	maxProcesses    = 4096
	maxAttributes   = 128 // of one resource; the rest is left out
	framesPerSample = 8
	maxLines        = 2_000_000
)

// converter turns an OTLP request into items: one for each process, type and time. Each Profile of OTLP has one column; those of one type and time become one.
type converter struct {
	pd     pprofile.Profiles
	dict   *dictionary
	limits receive.Limits

	items     []item
	builders  []*builder
	processes int
	samples   int
	frames    int
	lines     int // of locations, which each profile has copies of
	stripped  int // labels of samples left out
}

func newConverter(pd pprofile.Profiles, l receive.Limits) *converter {
	return &converter{pd: pd, limits: l}
}

// over says that a request passes one of its bounds.
func over(limit, what string, most int) error {
	return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "OTLP request: too many " + what, Limit: limit, Max: int64(most), Hint: "send smaller batches"}
}

// convert fills items.
func (c *converter) convert() (err error) {
	if c.dict, err = newDictionary(c.pd.Dictionary()); err != nil {
		return err
	}
	resources := c.pd.ResourceProfiles()
	for i := range resources.Len() {
		rp := resources.At(i)
		r := resource{c: c, attributes: map[string]string{}, origins: map[string]*origin{}}
		for k, v := range rp.Resource().Attributes().All() {
			if len(r.attributes) == maxAttributes {
				c.stripped++
				continue
			}
			r.attributes[k] = strings.ToValidUTF8(cut(v.AsString(), maxText), "�")
		}
		for k := range rp.ScopeProfiles().Len() {
			r.builders = map[builderKey]*builder{}
			ps := rp.ScopeProfiles().At(k).Profiles()
			for n := range ps.Len() {
				if err := r.profile(fmt.Sprintf("resource_profiles[%d].scope_profiles[%d].profiles[%d]", i, k, n), ps.At(n)); err != nil {
					return err
				}
			}
		}
	}
	for _, b := range c.builders {
		c.items = append(c.items, b.item())
	}
	return nil
}

// resource is one ResourceProfiles.
type resource struct {
	c          *converter
	attributes map[string]string
	origins    map[string]*origin // by the attributes of samples that say whose they are
	builders   map[builderKey]*builder
}

type builderKey struct {
	origin     *origin
	typ        string
	start, end int64
}

// profile converts one Profile.
func (r *resource) profile(what string, p pprofile.Profile) error {
	head := profiles.Profile{SampleTypes: make([]profiles.ValueType, 1), Period: p.Period()}
	for _, v := range []struct {
		in  pprofile.ValueType
		out *profiles.ValueType
	}{{p.SampleType(), &head.SampleTypes[0]}, {p.PeriodType(), &head.PeriodType}} {
		var err error
		if v.out.Type, err = r.c.dict.text(v.in.TypeStrindex(), place{what, -1}); err != nil {
			return err
		}
		if v.out.Unit, err = r.c.dict.text(v.in.UnitStrindex(), place{what, -1}); err != nil {
			return err
		}
	}
	own, err := r.ownAttributes(what, p)
	if err != nil {
		return err
	}
	key := builderKey{typ: typeOf(&head, "", nil)}
	key.start, key.end = interval(p)
	for i := range p.Samples().Len() {
		s := p.Samples().At(i)
		if err := r.sample(what, key, &head, own, s); err != nil {
			return err
		}
	}
	return nil
}

// ownAttributes returns the attributes of a Profile that say whose it is. Others are left out.
func (r *resource) ownAttributes(what string, p pprofile.Profile) (own []int32, err error) {
	for _, a := range p.AttributeIndices().All() {
		if err := within(a, len(r.c.dict.attributes), place{what, -1}, "attribute"); err != nil {
			return nil, err
		}
		if int(a) < len(r.c.dict.attributes) && r.c.dict.attributes[a].use == ofProcess {
			own = append(own, a)
		}
	}
	return own, nil
}

// interval returns the time of a Profile, in Unix ms; zeros where it does not say.
func interval(p pprofile.Profile) (start, end int64) {
	if t := uint64(p.Time()); t > 0 && p.DurationNano() > 0 {
		return clampMs(t), max(clampMs(t+p.DurationNano()), clampMs(t)+1)
	}
	first, last := uint64(p.Time()), uint64(0)
	for i := range p.Samples().Len() {
		for _, t := range p.Samples().At(i).TimestampsUnixNano().All() {
			if t > 0 && (first == 0 || t < first) {
				first = t
			}
			last = max(last, t)
		}
	}
	if last == 0 {
		return 0, clampMs(first)
	}
	return clampMs(first), max(clampMs(last), clampMs(first)+1)
}

// sample converts one sample.
func (r *resource) sample(what string, key builderKey, head *profiles.Profile, own []int32, s pprofile.Sample) error {
	c := r.c
	if c.samples++; c.samples > c.limits.Samples {
		return over("max_samples", "samples", c.limits.Samples)
	}
	if err := within(s.StackIndex(), c.dict.d.StackTable().Len(), place{what, -1}, "stack"); err != nil {
		return err
	}
	if err := within(s.LinkIndex(), len(c.dict.links), place{what, -1}, "link"); err != nil {
		return err
	}
	v, err := valueOf(what, s)
	if err != nil {
		return err
	}
	whose, labels := slices.Clone(own), []profiles.SampleLabel(nil)
	for _, a := range s.AttributeIndices().All() {
		if err := within(a, len(c.dict.attributes), place{what, -1}, "attribute"); err != nil {
			return err
		}
		if int(a) >= len(c.dict.attributes) {
			continue
		}
		switch at := &c.dict.attributes[a]; at.use {
		case ofProcess:
			whose = append(whose, a)
		case ofSample:
			labels = append(labels, at.label)
		default:
			c.stripped++
		}
	}
	if k := int(s.LinkIndex()); k < len(c.dict.links) {
		labels = append(labels, c.dict.links[k]...)
	}
	if n := len(labels) - maxSampleLabels; n > 0 {
		c.stripped += n
		labels = labels[:maxSampleLabels]
	}
	sortLabels(labels)
	if key.origin, err = r.origin(whose); err != nil {
		return err
	}
	b := r.builders[key]
	if b == nil {
		b = newBuilder(c, key, what, head)
		r.builders[key] = b
		c.builders = append(c.builders, b)
	}
	stack := pcommon.NewInt32Slice()
	if int(s.StackIndex()) < c.dict.d.StackTable().Len() {
		stack = c.dict.d.StackTable().At(int(s.StackIndex())).LocationIndices()
		if c.frames += stack.Len(); c.frames > framesPerSample*c.limits.Samples {
			return over(profiles.LimitFrames, "frames", framesPerSample*c.limits.Samples)
		}
	}
	b.add(head, stack.All(), labels, v)
	if c.lines > maxLines {
		return over(profiles.LimitLines, "lines", maxLines)
	}
	return nil
}

// valueOf adds up the values of a sample; where it has only times, each of them counts one.
func valueOf(what string, s pprofile.Sample) (int64, error) {
	values, times := s.Values(), s.TimestampsUnixNano().Len()
	if n := values.Len(); n != times && n != 0 && times != 0 {
		return 0, reply.Errorf(http.StatusUnprocessableEntity, "OTLP request: %s: a sample has %d values and %d times", what, n, times)
	}
	if values.Len() == 0 {
		return int64(times), nil
	}
	sum := profiles.Int128{}
	for _, v := range values.All() {
		sum = sum.Add(profiles.Int128From(v))
	}
	v, _ := sum.Int64()
	return v, nil
}

// origin returns the process that the attributes of the resource and these describe.
func (r *resource) origin(whose []int32) (*origin, error) {
	slices.Sort(whose)
	var key strings.Builder
	for _, a := range slices.Compact(whose) {
		fmt.Fprintf(&key, "%d ", a)
	}
	if o := r.origins[key.String()]; o != nil {
		return o, nil
	}
	if r.c.processes++; r.c.processes > maxProcesses {
		return nil, over("max_processes", "processes", maxProcesses)
	}
	all := make(map[string]string, len(r.attributes)+len(whose))
	for k, v := range r.attributes {
		all[k] = v
	}
	for _, a := range whose {
		all[r.c.dict.attributes[a].key] = r.c.dict.attributes[a].text
	}
	o := newOrigin(all)
	o.labels["service_name"] = service(o.labels)
	o.fit(r.c.limits) // at once: there may be thousands, of a resource that says much
	r.origins[key.String()] = o
	return o, nil
}
