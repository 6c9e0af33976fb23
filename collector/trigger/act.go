package trigger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/sonde-io/sonde/collector/capture"
)

// action is what is done when a rule fires.
type action struct {
	rule  *ruleState
	value float64
	keep  bool // take first and keep it: there is no time to ask
	claim bool // ask whether it may be delivered
}

// act begins an action unless too many are under way. e.mu is held.
func (e *Engine) act(ctx context.Context, w *watch, a action) bool {
	select {
	case e.actions <- struct{}{}:
	default:
		e.met.skipped.Inc()
		return false
	}
	w.busy = true
	t, rule, used := w.t, a.rule.rule, w.mem.used
	e.wg.Go(func() {
		defer func() {
			<-e.actions
			e.mu.Lock()
			w.busy = false
			e.mu.Unlock()
		}()
		if a.keep {
			e.takeFirst(ctx, w, t, rule, used)
		}
		if a.claim {
			e.fire(ctx, w, t, a, rule)
		}
	})
	return true
}

// takeTime bounds one capture of the urgent kind.
const takeTime = 20 * time.Second

// takeFirst takes what the rule names and keeps it in the place of what was kept before.
func (e *Engine) takeFirst(ctx context.Context, w *watch, t Target, rule capture.Rule, used int64) {
	var got []kept
	for _, kind := range rule.Take {
		k, err := e.take(ctx, t, kind, time.Duration(rule.DurationMs)*time.Millisecond)
		if err != nil {
			e.met.failed.WithLabelValues(kind).Inc()
			level := slog.LevelWarn
			if errors.Is(err, capture.ErrKind) { // as of every process of its kind, again and again
				level = slog.LevelDebug
			}
			e.log.Log(ctx, level, "a trigger's capture could not be taken", "trigger", rule.Name, "kind", kind, "service", t.Process.Service, "pid", t.PID, "error", err)
			continue
		}
		got = append(got, k)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	w.keptAt, w.keptUsed = e.cfg.Now(), used
	if !w.freed {
		e.replace(w, got)
	}
}

// replace keeps what was taken in the place of what was of the same kinds, within the bound. e.mu is held.
func (e *Engine) replace(w *watch, got []kept) {
	for _, k := range got {
		old := -1
		for i, was := range w.kept {
			if was.kind == k.kind {
				old = i
			}
		}
		grow := int64(len(k.data))
		if old >= 0 {
			grow -= int64(len(w.kept[old].data))
		}
		if e.kept+grow > maxKept {
			e.met.skipped.Inc()
			e.log.Warn("a capture is not kept: too much is", "limit", "max_kept_bytes", "max", maxKept, "service", w.t.Process.Service)
			continue
		}
		e.kept += grow
		if old >= 0 {
			w.kept[old] = k
		} else {
			w.kept = append(w.kept, k)
		}
	}
	e.met.kept.Set(float64(e.kept))
}

// take takes one capture into memory.
func (e *Engine) take(ctx context.Context, t Target, kind string, d time.Duration) (kept, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d+takeTime, fmt.Errorf("not done %v after it should be", takeTime))
	defer cancel()
	if !capture.Lasting(kind) {
		d = 0
	}
	k := kept{kind: kind, from: e.cfg.Now().UnixMilli()}
	_, body, err := e.cfg.Executor.Capture(ctx, capture.Task{Instance: t.Process.Instance, Kind: kind, DurationMs: d.Milliseconds(), MaxBytes: maxCapture})
	if err != nil {
		return k, err
	}
	defer body.Close()
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(body, maxCapture+1))
	if err != nil {
		return k, err
	}
	if n > maxCapture {
		return k, fmt.Errorf("it is larger than %d bytes (limit max_trigger_bytes)", maxCapture)
	}
	k.data, k.to = b.Bytes(), e.cfg.Now().UnixMilli()
	e.met.taken.WithLabelValues(kind).Inc()
	return k, nil
}

// maxCapture bounds a capture that is held in memory, in bytes: heap profiles of the largest programs have some megabytes.
const maxCapture = 32 << 20

// fire asks whether the rule's captures may be taken, and delivers them.
func (e *Engine) fire(ctx context.Context, w *watch, t Target, a action, rule capture.Rule) {
	g, err := e.claim(ctx, t, rule, a.value, rule.Take)
	e.mu.Lock()
	now := e.cfg.Now()
	switch {
	case err != nil:
		a.rule.rest = now.Add(time.Minute)
	case g.Granted:
		a.rule.rest = now.Add(rule.Cooldown())
	}
	have := append([]kept(nil), w.kept...)
	e.mu.Unlock()
	if err != nil {
		e.log.Warn("cannot ask for a trigger's captures", "trigger", rule.Name, "service", t.Process.Service, "error", err)
		return
	}
	if !g.Granted {
		e.log.Debug("a trigger's captures are not taken", "trigger", rule.Name, "service", t.Process.Service, "reason", g.Reason)
		return
	}
	for _, kind := range rule.Take {
		k, err := find(have, kind)
		if err != nil && !a.keep {
			k, err = e.take(ctx, t, kind, time.Duration(rule.DurationMs)*time.Millisecond)
		}
		e.deliver(ctx, t, g.ID, kind, k, err)
	}
}

func find(have []kept, kind string) (kept, error) {
	for _, k := range have {
		if k.kind == kind {
			return k, nil
		}
	}
	return kept{}, errors.New("it could not be taken in time")
}

// claimTime bounds one claim, and one delivery.
const claimTime = 30 * time.Second

func (e *Engine) claim(ctx context.Context, t Target, rule capture.Rule, v float64, kinds []string) (capture.Grant, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTime)
	defer cancel()
	p := t.Process
	g, err := e.cfg.Source.Claim(ctx, capture.Claim{Instance: p.Instance, Service: p.Service, Build: p.BuildID, Trigger: rule.Name, Metric: rule.Metric, Value: v, Kinds: kinds, Shadow: rule.Shadow})
	switch {
	case err != nil:
		e.met.claims.WithLabelValues("error").Inc()
	case g.Granted:
		e.met.claims.WithLabelValues("granted").Inc()
	default:
		e.met.claims.WithLabelValues("denied").Inc()
	}
	return g, err
}

// deliver hands in a capture, or why there is none.
func (e *Engine) deliver(ctx context.Context, t Target, id, kind string, k kept, err error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTime)
	defer cancel()
	r := capture.Result{ID: id, Instance: t.Process.Instance, Kind: kind, ContentType: capture.ContentType(kind), From: k.from, To: k.to}
	if err != nil {
		r.Error = err.Error()
	} else {
		r.Body = bytes.NewReader(k.data)
	}
	if derr := e.cfg.Source.Deliver(ctx, r); derr != nil {
		e.log.Warn("cannot deliver a trigger's capture", "id", id, "kind", kind, "service", t.Process.Service, "error", derr)
		return false
	}
	return err == nil
}
