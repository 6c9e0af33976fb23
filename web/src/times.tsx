import { useState } from "preact/hooks";
import { Popover } from "./popover";
import { clock, formatDuration, parseTime, presets, rangeLabel, toParam, type Zone } from "./time";

interface RangeProps {
  from: string; // as the address has them
  to: string;
  zone: Zone;
  range: { from: number; to: number }; // what they are now, Unix ms
  /** apply chooses another range; fixed: it ends at a time and not now. */
  apply: (from: string, to: string, fixed: boolean) => void;
}

/** RangeMenu chooses a range: a preset that ends now, or two times. */
export function RangeMenu(p: RangeProps) {
  const label = (short: boolean) => rangeLabel(p.from, p.to, p.zone, Date.now(), short);
  const exact = (from: number, to: number) => p.apply(toParam(Math.round(from)), toParam(Math.round(to)), true);
  const { from, to } = p.range, length = to - from;
  return (
    <Popover class="range" title={`Time range: ${label(false)}`} label={<span class="num">{label(true)} ▾</span>}>
      {(close) => (
        <>
          <div class="presets">
            {presets.map((d) => (
              <button
                key={d} aria-pressed={p.from === `now-${d}` && p.to === "now"}
                onClick={() => {
                  p.apply(`now-${d}`, "now", false);
                  close();
                }}
              >
                {d}
              </button>
            ))}
          </div>
          <TimesForm
            from={p.from} to={p.to} zone={p.zone}
            apply={(from, to) => {
              p.apply(from, to, true);
              close();
            }}
          />
          <div class="row">
            <button onClick={() => exact(from - length, to - length)} title="Earlier by the range's length">← earlier</button>
            <button onClick={() => exact(from + length, to + length)} title="Later by the range's length">later →</button>
            <button onClick={() => exact(from - length / 2, to + length / 2)} title="Twice as long, around the same middle">wider</button>
          </div>
        </>
      )}
    </Popover>
  );
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
