import { useState } from "preact/hooks";
import { Popover } from "./popover";
import { fromText, go, range, view } from "./state";
import { clock, formatDuration, parseTime, presets, rangeLabel, toParam, type Zone } from "./time";

/** RangePicker chooses the range: a preset that ends now, or two times. */
export function RangePicker() {
  const v = view.value;
  const from = fromText.value;
  return (
    <Popover class="range" title={`Time range: ${rangeLabel(from, v.to, v.zone, Date.now())}`} label={<span class="num">{rangeLabel(from, v.to, v.zone, Date.now(), true)} ▾</span>}>
      {(close) => (
        <>
          <div class="presets">
            {presets.map((p) => (
              <button
                key={p} aria-pressed={from === `now-${p}` && v.to === "now"}
                onClick={() => {
                  go({ from: `now-${p}`, to: "now" });
                  close();
                }}
              >
                {p}
              </button>
            ))}
          </div>
          <TimesForm
            from={from} to={v.to} zone={v.zone}
            apply={(from, to) => {
              go({ from, to, live: false });
              close();
            }}
          />
          <div class="row">
            <button onClick={() => shift(-1)} title="Earlier by the range's length">← earlier</button>
            <button onClick={() => shift(1)} title="Later by the range's length">later →</button>
            <button onClick={() => widen()} title="Twice as long, around the same middle">wider</button>
          </div>
        </>
      )}
    </Popover>
  );
}

function shift(sign: number): void {
  const { from, to } = range.value;
  const d = sign * (to - from);
  go({ from: toParam(from + d), to: toParam(to + d), live: false });
}

function widen(): void {
  const { from, to } = range.value;
  const d = (to - from) / 2;
  go({ from: toParam(Math.round(from - d)), to: toParam(Math.round(to + d)), live: false });
}

interface TimesProps {
  from: string;
  to: string;
  zone: Zone;
  apply: (from: string, to: string) => void;
}

/** TimesForm asks for two times in any form that parseTime reads; dates without a zone are in the zone shown. */
export function TimesForm(p: TimesProps) {
  const shown = (s: string) => (/^\d{4}-.*T/.test(s) ? clock(parseTime(s, 0) ?? 0, p.zone) : s);
  const [from, setFrom] = useState(shown(p.from));
  const [to, setTo] = useState(shown(p.to));
  const now = Date.now();
  const a = parseTime(from, now, p.zone), b = parseTime(to, now, p.zone);
  const problem = a === null ? "The first time cannot be read." : b === null ? "The second time cannot be read." : a >= b ? "The range ends before it starts." : "";
  const param = (s: string, t: number) => (s.trim().startsWith("now") ? s.trim() : toParam(t));
  return (
    <form
      class="times"
      onSubmit={(e) => {
        e.preventDefault();
        if (!problem) p.apply(param(from, a!), param(to, b!));
      }}
    >
      <label>from<input class="mono" value={from} spellcheck={false} onInput={(e) => setFrom(e.currentTarget.value)} /></label>
      <label>to<input class="mono" value={to} spellcheck={false} onInput={(e) => setTo(e.currentTarget.value)} /></label>
      <div class="row">
        <button type="submit" class="primary" disabled={problem !== ""}>apply</button>
        <span class={problem ? "bad" : "note"} role="status">{problem || `${formatDuration(Math.round((b! - a!) / 1000) * 1000)}, ${p.zone === "utc" ? "UTC" : "local time"}`}</span>
      </div>
      <div class="note">now-90m, 2026-01-31 14:05, RFC 3339, or Unix</div>
    </form>
  );
}
