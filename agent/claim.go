package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"
)

// claim is what a trigger asks the collector before it sends.
type claim struct {
	Instance string   `json:"instance"`
	Service  string   `json:"service"`
	Build    string   `json:"build"`
	Trigger  string   `json:"trigger"`
	Metric   string   `json:"metric"`
	Value    float64  `json:"value"`
	Kinds    []string `json:"kinds"`
	Shadow   bool     `json:"shadow"`
}

// granted is the answer.
type granted struct {
	Granted bool   `json:"granted"`
	ID      string `json:"id"`
	Reason  string `json:"reason"`
}

// handle asks for a trigger's capture and, where it is granted, takes and sends it. A window that came with it is sent first, granted or not.
func (t *taker) handle(ctx context.Context, f firing) {
	id := t.claim(ctx, f)
	if w := f.window; w != nil {
		if id != "" {
			if err := w.mark(f.marked, id); err != nil {
				t.a.say("window", "sonde agent: window not marked", "err", err)
			}
		}
		if res := t.a.up.attempt(ctx, t.client, w); !res.done {
			t.a.up.push(w) // with its process, should the collector have asked for it
		}
	}
	if id == "" || f.rule.Shadow {
		return
	}
	for _, k := range f.taken {
		t.deliver(ctx, id, k.kind, 0, &captured{data: k.data, from: k.from, to: k.to}, k.err)
	}
	for _, kind := range f.rule.Take {
		if slices.ContainsFunc(f.taken, func(k takenKind) bool { return k.kind == kind }) {
			continue
		}
		if !momentary(kind) && isClosed(t.stopping) {
			t.deliver(ctx, id, kind, 0, nil, errors.New("the program is ending: there is no time for a capture that takes any"))
			continue
		}
		d := time.Duration(0)
		if !momentary(kind) {
			d = f.rule.duration()
		}
		c, err := t.capture(ctx, kind, d, maxCaptureSize)
		t.deliver(ctx, id, kind, d, c, err)
	}
}

// claim returns the id of the capture that f may take; empty where it may not.
func (t *taker) claim(ctx context.Context, f firing) string {
	wait := claimWait
	if f.window != nil {
		wait = urgentWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	service, build := t.a.identity()
	var g granted
	err := t.call(ctx, "/api/v1/captures/claim", claim{Instance: t.a.instance, Service: service, Build: build, Trigger: f.rule.Name, Metric: f.rule.Metric, Value: f.value,
		Kinds: f.rule.Take, Shadow: f.rule.Shadow}, &g)
	switch {
	case err != nil:
		t.a.say("claim", "sonde agent: cannot ask for a trigger's capture; will try again", "trigger", f.rule.Name, "err", err)
		t.a.rec.again(f.rule.Name)
	case g.Granted && g.ID != "":
		return g.ID
	}
	return ""
}

// identity returns the service and the build as the collector knows them.
func (a *Agent) identity() (service, build string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	build = a.info.GNUBuildID
	if build == "" && a.info.GoBuildID != "" {
		sum := sha256.Sum256([]byte(a.info.GoBuildID))
		build = hex.EncodeToString(sum[:20])
	}
	return a.info.Labels["service_name"], build
}
