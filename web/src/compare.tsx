import { useEffect, useState } from "preact/hooks";
import { Popover } from "./popover";
import { TimesForm } from "./times";
import { currentType, defaultNormalize, fromText, go, range, scale, view } from "./state";
import { formatDuration, parseDuration, rangeLabel, toParam } from "./time";
import type { Normalize, View } from "./url";

/** previousOf is the baseline right before a range; relative where the range is. */
export function previousOf(from: string, to: string): Pick<View, "baseFrom" | "baseTo"> {
  const rel = /^now-(\S+)$/.exec(from);
  const d = rel && to === "now" ? parseDuration(rel[1]) : null;
  if (d !== null) return { baseFrom: `now-${formatDuration(2 * d)}`, baseTo: from };
  const r = range.value;
  return { baseFrom: toParam(r.from - (r.to - r.from)), baseTo: toParam(r.from) };
}

// What the sides are divided by, of what is counted and of gauges.
const names: Record<Normalize, [string, string]> = {
  interval: ["per second profiled", "per process"],
  instance: ["per process", ""],
  cpu: ["per CPU second", "per core in use"],
  share: ["share of total", "share of total"],
  none: ["as they are", "means as they are"],
};

const shifts = ["1h", "1d", "7d"];

/** CompareBar chooses the baseline of a diff and how its two sides are made comparable. */
export function CompareBar() {
  const v = view.value;
  const gauge = currentType.value?.kind === "gauge";
  const norm = v.normalize || defaultNormalize.value;
  return (
    <div class="bar second" role="group" aria-label="Baseline">
      <span class="label">compared with</span>
      <Popover
        title={`Baseline: ${rangeLabel(v.baseFrom, v.baseTo, v.zone, Date.now())}`}
        label={<span class="num">{rangeLabel(v.baseFrom, v.baseTo, v.zone, Date.now(), true)} ▾</span>}
      >
        {(close) => (
          <>
            <div class="presets">
              <button onClick={() => (go(previousOf(fromText.value, v.to)), close())}>previous range</button>
              {shifts.map((s) => <button key={s} onClick={() => (go(earlier(s)), close())}>{s} before</button>)}
            </div>
            <TimesForm from={v.baseFrom} to={v.baseTo} zone={v.zone} apply={(baseFrom, baseTo) => (go({ baseFrom, baseTo }), close())} />
            <div class="note">or drag over the chart with Shift held</div>
          </>
        )}
      </Popover>
      <BaseSelector />
      <select aria-label="Make the sides comparable" value={norm} title={scale.value.missing} onChange={(e) => go({ normalize: e.currentTarget.value as Normalize }, true)}>
        {(Object.keys(names) as Normalize[]).filter((n) => !gauge || n !== "instance").map((n) => <option key={n} value={n}>{names[n][gauge ? 1 : 0]}</option>)}
      </select>
      {scale.value.missing && <span class="note" role="status" title={scale.value.missing}>as they are: {scale.value.missing}</span>}
      <button onClick={swap} title="Exchange the baseline and the range">swap</button>
      <button onClick={() => go({ baseFrom: "", baseTo: "", baseQuery: "", normalize: "", sort: "" })}>end comparison</button>
    </div>
  );
}

function earlier(shift: string): Pick<View, "baseFrom" | "baseTo"> {
  const d = parseDuration(shift) ?? 0;
  const { from, to } = range.value;
  return { baseFrom: toParam(from - d), baseTo: toParam(to - d) };
}

function swap(): void {
  const v = view.value;
  go({ from: v.baseFrom, to: v.baseTo, baseFrom: fromText.value, baseTo: v.to, query: v.baseQuery || v.query, baseQuery: v.baseQuery ? v.query : "", live: false });
}

function BaseSelector() {
  const [text, setText] = useState(view.value.baseQuery);
  useEffect(() => setText(view.value.baseQuery), [view.value.baseQuery]);
  const apply = () => {
    if (text.trim() !== view.value.baseQuery) go({ baseQuery: text.trim() });
  };
  return (
    <input
      class="mono selector" aria-label="Selector of the baseline" placeholder="same selector" spellcheck={false} autocomplete="off" value={text}
      onInput={(e) => setText(e.currentTarget.value)} onKeyDown={(e) => e.key === "Enter" && apply()} onBlur={apply}
    />
  );
}
