import { computed, signal } from "@preact/signals";
import { scaledText } from "../display";
import { formatChange, formatRate, formatShare, formatValue, type TypeInfo } from "../format";
import { matcher, splitName } from "../names";
import { NearPanel } from "../near";
import { ErrorNote } from "../notices";
import { flame, go, only, scale, view } from "../state";
import { allFrames, isDiff, type Frames } from "../url";
import { FlameCanvas } from "./canvas";
import { kindLabel, kindNames } from "./colour";
import { rowHeight } from "./paint";
import { buildModel, findZoom, marks, matched, path, zoomKey, type Model } from "./model";

const wantedOnly = computed(() => view.value.only);

/** whole is the answer laid out. */
export const whole = computed<Model | null>(() => {
  const f = flame.value.data;
  return f ? buildModel(f, scale.value) : null;
});

/** focused is the function that is shown alone: what it calls and who calls it, as the server cut them out of all stacks. */
export const focused = computed<{ down: Model; up: Model } | null>(() => {
  const c = only.value.data;
  if (!wantedOnly.value || !c || (!c.total && !c.base_total)) return null;
  return { down: buildModel(c.callees, scale.value), up: buildModel(c.callers, scale.value) };
});

/** shown is the model that zoom and table work on. */
export const shown = computed<Model | null>(() => focused.value?.down ?? whole.value);
export const zoomNode = computed(() => (shown.value ? findZoom(shown.value, view.value.zoom) : 0));

const highlight = computed(() => {
  const { fn, q } = view.value;
  return fn ? (name: string) => name === fn : matcher(q);
});

const selectedName = signal("");

const setFocus = (name: string) => go({ only: name, zoom: "" });

/** stepBack is Escape: zoom first, then focus, then the search. */
function stepBack(): void {
  const v = view.value;
  if (v.zoom) go({ zoom: "" });
  else if (v.only) go({ only: "" });
  else if (v.q || v.fn) go({ q: "", fn: "" }, true);
}

export function FlamePanel() {
  const { data, error } = flame.value;
  const v = view.value;
  const loading = flame.value.loading || (v.only !== "" && only.value.loading);
  const m = shown.value;
  const empty = m !== null && m.width[0] === 0;
  return (
    <section class="flame-panel" aria-label="Flame graph" aria-busy={loading}>
      <Tools m={m} />
      <Crumbs m={m} />
      <div class={`flame-area ${loading ? "stale" : ""}`}>
        {error && <ErrorNote message={error.message} hint={error.hint} />}
        {v.only && only.value.error && <ErrorNote message={only.value.error.message} hint={only.value.error.hint} />}
        {v.only && only.value.data && !only.value.loading && !focused.value && !empty && (
          <div class="nothing"><p><span class="mono">{v.only}</span> is not in this range.</p><button onClick={() => go({ only: "" })}>show all functions</button></div>
        )}
        {!error && data && m && !empty && (!v.only || focused.value) && <Canvases m={m} />}
        {!error && data && empty && <div class="nothing"><p>No stacks here: nothing was recorded of this type in this range.</p></div>}
        {!error && !data && !loading && <div class="nothing"><p>Nothing to show: no profiles in this range.</p></div>}
      </div>
      {v.fn && data && <NearPanel type={data.type} />}
      <Foot />
    </section>
  );
}

function Canvases(p: { m: Model }) {
  const v = view.value;
  const diff = p.m.base !== null;
  const label = (what: string, m: Model) =>
    `${diff ? "Difference flame graph" : "Flame graph"} of ${what}, ${m.n} frames, total ${formatValue(m.value[0], flame.value.data!.type.unit)}; the table beside it shows the same functions`;
  const f = focused.value;
  return (
    <>
      {f && (
        <div class="callers" ref={(el) => void (el && (el.style.height = `${f.up.rows * rowHeight + 3}px`))}>
          <FlameCanvas
            model={f.up} marks={null} zoom={0} up selfless label={label(`the callers of ${v.only}`, f.up)}
            onZoom={(i) => i > 0 && setFocus(f.up.names[f.up.name[i]])} onFocus={(i) => setFocus(f.up.names[f.up.name[i]])} onEscape={stepBack}
          />
        </div>
      )}
      <FlameCanvas
        id="flame" model={p.m} marks={marks(p.m, highlight.value)} zoom={zoomNode.value} up={v.layout === "flame" && !f}
        label={label(f ? `what ${v.only} calls` : "all functions", p.m)}
        onZoom={(i) => go({ zoom: zoomKey(p.m, i) })}
        onFocus={(i) => setFocus(p.m.names[p.m.name[i]])}
        onSelect={(i) => (selectedName.value = i > 0 ? p.m.names[p.m.name[i]] : "")}
        onEscape={stepBack}
      />
    </>
  );
}

function Tools(p: { m: Model | null }) {
  const v = view.value;
  const type = flame.value.data?.type;
  const name = v.fn || selectedName.value;
  return (
    <div class="tools">
      <h2>{isDiff(v) ? "difference" : "flame graph"}</h2>
      <span class="num total">{p.m && type ? totalText(p.m, type) : " "}{coresText() && <span title="CPU time divided by the time that processes were profiled, all together: what a process used on average">, {coresText()}</span>}</span>
      <span class="match num" role="status">{matchText(p.m)}</span>
      <span class="spring" />
      <button disabled={!name || name === v.only} onClick={() => setFocus(name)} title={name ? `Only ${name}: its callers above, what it calls below (f)` : "Choose a frame first"}>only this function</button>
      <button disabled={!v.zoom && !v.only && !v.q && !v.fn} onClick={() => go({ zoom: "", only: "", q: "", fn: "" })}>reset</button>
      <select aria-label="What a frame is" value={v.frames} onChange={(e) => go({ frames: e.currentTarget.value as Frames, zoom: "", only: "", fn: "" })}>
        {allFrames.map((f) => <option key={f} value={f}>by {f}</option>)}
      </select>
      <span class="group" role="group" aria-label="Direction">
        <button aria-pressed={v.layout === "icicle"} onClick={() => go({ layout: "icicle" }, true)} title="Root at the top">icicle</button>
        <button aria-pressed={v.layout === "flame"} onClick={() => go({ layout: "flame" }, true)} title="Root at the bottom">flame</button>
      </span>
    </div>
  );
}

/** totalText is what is shown in numbers: its total, and its share where it is a part; in a diff both sides. */
function totalText(m: Model, type: TypeInfo): string {
  const i = zoomNode.value;
  if (m.base) {
    const base = m.base[i] * m.scale.base, now = m.value[i] * m.scale.now;
    // As shares both totals are 100 %: say of what.
    if (i === 0 && scale.value.norm === "share") return `100 % of ${formatValue(m.base[0], type.unit)} → 100 % of ${formatValue(m.value[0], type.unit)}`;
    return `${scaledText(base, type)} → ${scaledText(now, type)} (${formatChange(now, base)})`;
  }
  const all = whole.value?.value[0] ?? 0;
  const value = formatValue(m.value[i], type.unit);
  return i > 0 || m !== whole.value ? `${value}, ${formatShare(m.value[i], all)} of all` : value;
}

/** coresText is what a process used while it was profiled. Scraped processes are so for some seconds of each minute only: divided by the range it would be too little. */
function coresText(): string {
  const f = flame.value.data;
  if (!f || isDiff(view.value) || zoomNode.value > 0 || view.value.only || f.type.id !== "cpu:cpu" || !f.stats.covered_ms) return "";
  return formatRate(f.total / (f.stats.covered_ms / 1000), f.type) + " a process";
}

function matchText(m: Model | null): string {
  if (!m || !highlight.value) return "";
  const marked = marks(m, highlight.value)!;
  const hit = matched(m, marked, zoomNode.value);
  if (!hit.frames) return "no match";
  const names = marked.reduce((a, b) => a + b, 0);
  return `${formatShare(hit.value, m.value[zoomNode.value])} in ${names} function${names === 1 ? "" : "s"}`;
}

/** Crumbs is the way from the root to what is shown; each step can be gone back to. Its line is kept when there is none. */
function Crumbs(p: { m: Model | null }) {
  const v = view.value;
  const m = p.m;
  const steps = m ? path(m, zoomNode.value) : [];
  return (
    <nav class="crumbs mono" aria-label="Zoomed into">
      {v.only && focused.value && <><button onClick={() => go({ only: "", zoom: "" })}>all functions</button><span>›</span></>}
      {steps.map((i, k) => {
        const { pkg, func } = splitName(m!.names[m!.name[i]]);
        const last = k === steps.length - 1;
        return (
          <>
            {k > 0 && <span>›</span>}
            {last ? <b title={m!.names[m!.name[i]]}>{pkg + func}</b> : <button title={m!.names[m!.name[i]]} onClick={() => go({ zoom: zoomKey(m!, i) })}>{pkg + func}</button>}
          </>
        );
      })}
    </nav>
  );
}

/** Foot says what the colours mean and what the answer leaves out. */
function Foot() {
  const f = flame.value.data;
  const diff = whole.value?.base;
  return (
    <div class="foot note">
      {diff ? (
        <span class="key"><span><i class="swatch less" />less</span><span><i class="swatch same" />same</span><span><i class="swatch more" />more than the baseline; width: both sides together</span></span>
      ) : (
        <span class="key">{kindNames.map((k) => <span key={k}><i class={`swatch k-${k}`} />{kindLabel[k]}</span>)}</span>
      )}
      <span class="spring" />
      {f && <span class="num" title={f.dropped > 0 ? "The smallest frames are folded into (other)" : undefined}>{f.stats.profiles.toLocaleString("en")} profiles, {f.nodes.toLocaleString("en")} frames{f.dropped > 0 ? `, ${f.dropped.toLocaleString("en")} folded` : ""}</span>}
    </div>
  );
}
