package capture

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// buildIsNew is how long after its first process a build counts as new.
const buildIsNew = time.Hour

// Claim implements Source: of the processes of a service and build that trip a trigger one takes its captures, until the trigger's cool-down is over.
func (b *Broker) Claim(ctx context.Context, c Claim) (Grant, error) {
	if err := c.check(); err != nil {
		return Grant{}, err
	}
	rule := b.ruleOf(c)
	if p, err := b.cfg.Catalog.Process(ctx, c.Instance); err == nil {
		// What the catalogue knows of it is what the others of its kind are known by.
		c.Service = p.Service
		if p.BuildID != "" {
			c.Build = p.BuildID
		}
	} else if !errors.Is(err, catalog.ErrNotFound) {
		return Grant{}, err
	}
	if reason, err := b.denied(ctx, c, rule); reason != "" || err != nil {
		return Grant{Reason: reason}, err
	}
	return b.claim(ctx, c, rule)
}

func (c *Claim) check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	switch {
	case c.Instance == "" || len(c.Instance) > 128:
		return wrong("instance %.64q cannot name a process", c.Instance)
	case !profiles.ValidName(c.Trigger):
		return wrong("trigger %.64q cannot be a rule's name", c.Trigger)
	case len(c.Service) > 256 || len(c.Build) > 256:
		return wrong("service or build is too long")
	case len(c.Kinds) == 0 || len(c.Kinds) > maxTake:
		return wrong("kinds: want 1 to %d", maxTake)
	case math.IsNaN(c.Value) || math.IsInf(c.Value, 0):
		return wrong("value is no number")
	}
	for _, k := range c.Kinds {
		if !ValidKind(k) {
			return wrong("kind %.64q is none of %s", k, strings.Join(Kinds, ", "))
		}
	}
	return nil
}

// ruleOf returns the rule of a claim; one that is not configured is of what the claim says of it.
func (b *Broker) ruleOf(c Claim) Rule {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, ok := b.rules[c.Trigger]; ok {
		return r
	}
	return Rule{Name: c.Trigger, Metric: c.Metric}
}

// denied returns why a claim is not granted as far as can be told without the catalogue's transaction.
func (b *Broker) denied(ctx context.Context, c Claim, rule Rule) (string, error) {
	now := b.cfg.Now()
	b.mu.Lock()
	in, ok := b.claimed[[3]string{c.Service, c.Build, c.Trigger}]
	limit := ""
	for _, k := range c.Kinds {
		// What was taken before it was asked for costs nobody anything any more.
		if limit == "" && rule.Metric != MetricMemory && rule.Metric != MetricPressure {
			limit = b.room(k)
		}
	}
	if limit == "" && !b.spend(c.Service, now, 0) {
		limit = "max_captures_per_minute"
	}
	b.mu.Unlock()
	switch {
	case ok && in.Until > now.UnixMilli():
		b.met.claims.WithLabelValues("taken").Inc()
		return taken(in), nil
	case limit != "":
		b.met.claims.WithLabelValues("limit").Inc()
		b.met.refused.WithLabelValues(limit).Inc()
		return "too many captures at once (limit " + limit + ")", nil
	}
	if rule.Metric != MetricNewBuild || c.Build == "" {
		return "", nil
	}
	build, err := b.cfg.Catalog.Build(ctx, c.Build)
	if errors.Is(err, catalog.ErrNotFound) {
		return "", nil
	}
	if err == nil && now.Sub(time.UnixMilli(build.FirstSeen)) > buildIsNew {
		b.met.claims.WithLabelValues("taken").Inc()
		return "the build is not new: it is known since " + stamp(build.FirstSeen), nil
	}
	return "", err
}

func taken(in catalog.CaptureClaim) string {
	return fmt.Sprintf("taken already for this build and trigger: at %s of process %s (captures %s), the next after %s", stamp(in.Taken), in.Instance, in.Request, stamp(in.Until))
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// claim asks the catalogue, which decides.
func (b *Broker) claim(ctx context.Context, c Claim, rule Rule) (Grant, error) {
	now := b.cfg.Now()
	shadow := c.Shadow || rule.Shadow || b.cfg.Shadow
	request := newID(now)
	deadline := now.Add(time.Duration(rule.DurationMs)*time.Millisecond + claimSlack).UnixMilli()
	var cs []catalog.Capture
	for _, k := range c.Kinds {
		row := catalog.Capture{ID: newID(now), Request: request, Kind: k, Service: c.Service, Instance: c.Instance, Build: c.Build, Trigger: c.Trigger, Attempt: 1,
			Reason: reason(c, rule), State: catalog.CaptureRunning, Created: now.UnixMilli(), Started: now.UnixMilli(), Deadline: deadline, Duration: rule.DurationMs}
		if shadow {
			row.State, row.Finished, row.Deadline = catalog.CaptureShadow, now.UnixMilli(), 0
		}
		cs = append(cs, row)
	}
	in, granted, err := b.cfg.Catalog.ClaimCaptures(ctx, catalog.CaptureClaim{Service: c.Service, Build: c.Build, Trigger: c.Trigger, Request: request, Instance: c.Instance}, cs, rule.Cooldown())
	if err != nil {
		return Grant{}, err
	}
	b.mu.Lock()
	b.claimed[[3]string{c.Service, c.Build, c.Trigger}] = in
	if granted && !shadow {
		for _, row := range cs {
			e := &entry{c: row}
			b.tasks[row.ID] = e
			b.count(e, 1)
			b.spend(c.Service, now, 1)
		}
	}
	b.mu.Unlock()
	switch {
	case !granted:
		b.met.claims.WithLabelValues("taken").Inc()
		return Grant{Reason: taken(in)}, nil
	case shadow:
		b.met.claims.WithLabelValues("shadow").Inc()
		for _, row := range cs {
			b.met.ended.WithLabelValues(row.Kind, row.State).Inc()
		}
		b.event(ctx, cs[0], "would have captured "+strings.Join(c.Kinds, ", ")+" of "+c.Service+": "+cs[0].Reason)
		return Grant{Reason: "shadow: it would have been granted"}, nil
	}
	b.met.claims.WithLabelValues("granted").Inc()
	b.log.Info("a trigger takes captures", "trigger", c.Trigger, "service", c.Service, "instance", c.Instance, "value", c.Value, "kinds", c.Kinds)
	return Grant{Granted: true, ID: request}, nil
}

// reason says in words what tripped.
func reason(c Claim, rule Rule) string {
	text := "trigger " + c.Trigger
	if rule.Metric != "" {
		text += ": " + rule.Metric
		if rule.Metric != MetricNewBuild && rule.Metric != MetricStop {
			text += " is " + strconv.FormatFloat(c.Value, 'g', 4, 64)
		}
	}
	switch {
	case rule.Above > 0:
		text += ", above " + strconv.FormatFloat(rule.Above, 'g', 4, 64)
	case rule.Jump > 0:
		text += ", more than " + strconv.FormatFloat(rule.Jump, 'g', 4, 64) + " times the mean of the last hour"
	}
	return text
}

// Attach adds to events of an OOM kill the captures of their process that were taken within the quarter of an hour before, where they name none, and where its profiles are.
func (b *Broker) Attach(ctx context.Context, es []catalog.Event) []catalog.Event {
	for i := range es {
		e := &es[i]
		if e.Kind != EventOOMKill || e.Attrs["instance"] == "" {
			continue
		}
		cs, err := b.cfg.Catalog.Captures(ctx, catalog.CaptureFilter{Instance: e.Attrs["instance"], From: e.Time - beforeKill.Milliseconds(), States: []string{catalog.CaptureDone}, Limit: 16})
		if err != nil {
			b.log.Error("cannot find the captures of a killed process", "instance", e.Attrs["instance"], "error", err)
			continue
		}
		AttachCaptures(e, cs)
	}
	return es
}

// EventOOMKill is the kind of the event of a process that the kernel killed for its memory.
const EventOOMKill = "oom_kill"

// beforeKill is how long before a process's end its captures tell of it.
const beforeKill = 15 * time.Minute

// AttachCaptures adds the ids of captures, newest first, to an event: all of them under captures, and of each kind the newest under capture_KIND.
func AttachCaptures(e *catalog.Event, cs []catalog.Capture) {
	ids := strings.FieldsFunc(e.Attrs["captures"], func(r rune) bool { return r == ',' })
	for _, c := range cs {
		if !strings.Contains(","+strings.Join(ids, ",")+",", ","+c.ID+",") {
			ids = append(ids, c.ID)
		}
		if key := "capture_" + c.Kind; e.Attrs[key] == "" {
			e.Attrs[key] = c.ID
		}
	}
	if len(ids) > 0 {
		e.Attrs["captures"] = strings.Join(ids, ",")
	}
}
