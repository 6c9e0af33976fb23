import { useEffect, useState } from "preact/hooks";
import { Popover } from "./popover";
import { TimesForm } from "./range";
import { flame, fromText, go, range, scale, view } from "./state";
import { formatDuration, parseDuration, rangeLabel, toParam } from "./time";
import type { View } from "./url";

/** previousOf is the baseline right before a range; relative where the range is. */
export function previousOf(from: string, to: string): Pick<View, "baseFrom" | "baseTo"> {
  const rel = /^now-(\S+)$/.exec(from);
  const d = rel && to === "now" ? parseDuration(rel[1]) : null;
  if (d !== null) return { baseFrom: `now-${formatDuration(2 * d)}`, baseTo: from };
  const r = range.value;
  return { baseFrom: toParam(r.from - (r.to - r.from)), baseTo: toParam(r.from) };
}

const shifts = ["1h", "1d", "7d"];

/** CompareBar chooses the baseline of a diff and how its two sides are made comparable. */
export function CompareBar() {
  const v = view.value;
  const gauge = flame.value.data?.type.kind === "gauge";
  const norm = scale.value.norm;
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
      <span class="group" role="group" aria-label="Make the sides comparable">
        <button
          aria-pressed={norm !== "share"} onClick={() => go({ norm: "" }, true)}
          title={gauge ? "Means over each range, as they are" : "Each side divided by the time in which its processes were profiled: what one of them used"}
        >
          {gauge ? "mean" : "per second"}
        </button>
        <button aria-pressed={norm === "share"} onClick={() => go({ norm: "share" }, true)} title="Each frame as a share of its side's total">share of total</button>
      </span>
      <button onClick={swap} title="Exchange the baseline and the range">swap</button>
      <button onClick={() => go({ baseFrom: "", baseTo: "", baseQuery: "", norm: "", sort: "" })}>end comparison</button>
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
