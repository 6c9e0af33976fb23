package rotate

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

const (
	// DefaultSlot is how long a group is profiled at a time: many windows of an agent, so that what is cut at its edges does not count.
	DefaultSlot = 5 * time.Minute
	// MinSlot bounds the cut edges from the other side: an agent's window is 15 s.
	MinSlot = time.Minute
	// MaxGroups bounds k, and so the weight of a profile. What it would take more than 10,000 for is profiled by more replicas than was asked for.
	MaxGroups = 10_000
)

// Settings is what an agent is told, and what the collector's own gatherers go by. nil: all are profiled all the time.
type Settings struct {
	Types  []string `json:"types"`   // of profiles; others are taken of all replicas, unweighted
	Groups int      `json:"groups"`  // k, 1 to MaxGroups
	SlotMs int64    `json:"slot_ms"` // length of a slot, ms
}

// Rule says how many replicas of a service are profiled at a time.
type Rule struct {
	Replicas int           // 0: all of them
	Types    []string      // of profiles that rotate; nil: cpu
	Slot     time.Duration // 0: DefaultSlot
}

// Validate returns what is wrong with r.
func (r Rule) Validate() error {
	switch {
	case r.Replicas < 0:
		return fmt.Errorf("replicas: %d is less than 0 (0 profiles all)", r.Replicas)
	case r.Slot != 0 && r.Slot < MinSlot:
		return fmt.Errorf("slot: %v is shorter than %v", r.Slot, MinSlot)
	case r.Replicas > 0 && slices.Contains(r.Types, ""):
		return errors.New("rotate_types: a type is empty")
	case r.Replicas == 0 && len(r.Types) > 0:
		return errors.New("rotate_types: they rotate only where replicas says among how many")
	}
	return nil
}

// Groups returns k for a service with so many live replicas: 1 where all are profiled.
func (r Rule) Groups(alive int) int {
	if r.Replicas <= 0 || alive <= r.Replicas {
		return 1
	}
	return min((alive+r.Replicas-1)/r.Replicas, MaxGroups)
}

// Rotate returns the settings for the replicas of service, of which so many are alive; nil where all of them are to be profiled. It is a pure function; Fleet.Rotate holds its answer still
// while the count wavers.
func Rotate(rule Rule, service string, alive int) *Settings {
	return rule.settings(rule.Groups(alive))
}

func (r Rule) settings(groups int) *Settings {
	if groups <= 1 {
		return nil
	}
	s := &Settings{Types: slices.Clone(r.Types), Groups: groups, SlotMs: r.Slot.Milliseconds()}
	if len(s.Types) == 0 {
		s.Types = []string{"cpu"}
	}
	if s.SlotMs == 0 {
		s.SlotMs = DefaultSlot.Milliseconds()
	}
	return s
}

// Validate returns what is wrong with settings that came from outside.
func (s *Settings) Validate() error {
	switch {
	case s == nil:
		return nil
	case s.Groups < 1 || s.Groups > MaxGroups:
		return fmt.Errorf("rotate: %d groups, want 1 to %d", s.Groups, MaxGroups)
	case s.SlotMs < 1000 || s.SlotMs > 24*3_600_000:
		return fmt.Errorf("rotate: a slot of %d ms, want 1 s to 24 h", s.SlotMs)
	case len(s.Types) > 64:
		return fmt.Errorf("rotate: %d types, at most 64 are accepted", len(s.Types))
	}
	return nil
}

// Turn reports whether profiles of type typ are taken of instance at now, and with which weight: every value is multiplied by it. It is (true, 1) for types that do not rotate.
func (s *Settings) Turn(typ, instance string, now time.Time) (active bool, weight int64) {
	if !s.Rotates(typ) {
		return true, 1
	}
	slot := now.UnixMilli() / s.SlotMs
	return slot%int64(s.Groups) == group(instance, s.Groups), int64(s.Groups)
}

// Rotates reports whether profiles of type typ are taken of some replicas at a time.
func (s *Settings) Rotates(typ string) bool {
	return s != nil && s.Groups > 1 && slices.Contains(s.Types, typ)
}

// Slot returns the slot that now is in, [start, end): what Turn said holds until end, and a profile that reaches beyond belongs to the slot in which it starts.
func (s *Settings) Slot(now time.Time) (start, end time.Time) {
	n := now.UnixMilli() / s.SlotMs
	return time.UnixMilli(n * s.SlotMs), time.UnixMilli((n + 1) * s.SlotMs)
}

// group is the group of instance among k.
func group(instance string, k int) int64 {
	h := fnv.New64a()
	h.Write([]byte(instance))
	return int64(h.Sum64() % uint64(k))
}
