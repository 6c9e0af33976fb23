import { useEffect, useRef } from "preact/hooks";
import { Command } from "../command";
import { Problem } from "../fleet/problem";
import { token, palette } from "../theme";
import { clock, toParam } from "../time";
import { withLabel } from "../selector";
import { draw, tickCount, ticks, unitText, type Stroke } from "./draw";
import { Events, Lane, Marks } from "./events";
import { charts, type Chart } from "./queries";
import { chartData, go, hover, lineOf, linkTo, profilesAt, service, shown, view, type ChartData, type Shown } from "./state";
import { choose, toggle } from "./url";

/** ChartsTab is the time line: events over charts that share their times, the cursor and the zoom. */
export function ChartsTab() {
  const { data: s, error, loading } = shown.value;
  const all = charts.map((c) => chartData[c.id].value);
  const busy = loading || (s !== undefined && all.some((c) => c.loading));
  const empty = s && !busy && all.every((c) => !c.error && !c.data?.lines.length);
  return (
    <section class="runtime" aria-label="Time line" aria-busy={busy}>
      {error && <Problem error={error} what="metrics" />}
      {s && <Groups s={s} />}
      {empty && <NoMetrics />}
      {s && !empty && <Stack s={s} />}
      {s && <Events s={s} />}
    </section>
  );
}

const groupBy = [["none", "sum of all"], ["max", "largest of all"], ["service_instance_id", "instance"], ["service_version", "version"], ["service_name", "service"], ["host_name", "host"], ["k8s_pod_name", "pod"], ["k8s_namespace_name", "namespace"]] as const;

const groupColour = (i: number) => `--s${(i % 10) + 1}`;

/** Groups chooses what charts are grouped by, and is the legend of all of them. */
function Groups(p: { s: Shown }) {
  const { s } = p;
  const options = groupBy.some(([l]) => l === s.by) || !s.by ? groupBy : [...groupBy, [s.by, s.by] as const];
  return (
    <div class="tools">
      <label class="by">by
        <select value={s.by || (s.how === "max" ? "max" : "none")} aria-label="Group by" onChange={(e) => go({ by: e.currentTarget.value, show: "" }, true)}>
          {options.map(([l, name]) => <option key={l} value={l}>{name}</option>)}
        </select>
      </label>
      {s.by && <span class="note">{s.groups.length ? "those that use the most CPU" : ""}</span>}
      <ul class="legend groups" aria-label="Groups">
        {s.groups.map((g, i) => {
          const patch = { query: withLabel(view.value.query, s.by, g.value), by: "none" };
          return (
            <li key={g.value}>
              <Swatch colour={groupColour(i)} />
              {g.value ? <a href={linkTo(patch)} title={`Only ${g.value}`} onClick={(e) => (e.preventDefault(), go(patch))}>{g.name}</a> : <span>{g.name}</span>}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function Swatch(p: { colour: string; limit?: boolean }) {
  void palette.value; // the theme
  return <i class={`swatch ${p.limit ? "limit" : ""}`} style={{ [p.limit ? "borderColor" : "background"]: `var(${p.colour})` }} />;
}

function NoMetrics() {
  const name = service.value || "cart";
  return (
    <div class="none" role="status">
      <p>No runtime metrics{service.value ? ` of ${service.value}` : ""} in this range. They come with the agent every 10 s, from a scraped /metrics, gops or /proc every 15 s; or start the program with its traces:</p>
      <Command what="the command" text={`sonde run --service ${name} -- ./${name}`} />
      <p><button onClick={() => go({ from: "now-1d", to: "now" })}>show the last day</button></p>
    </div>
  );
}

/** place is the time under the pointer on the part of the stack where times are. */
function place(stack: HTMLElement, s: Shown, clientX: number): { at: number; x: number } {
  const box = stack.querySelector(".over")!.getBoundingClientRect();
  const x = Math.max(0, Math.min(1, (clientX - box.left) / box.width));
  return { at: s.from + x * (s.to - s.from), x };
}

const snap = (s: Shown, at: number) => s.grid.start + Math.max(0, Math.min(s.grid.n - 1, Math.round((at - s.grid.start) / s.grid.step))) * s.grid.step;

/** openProfile goes to the explorer around a time: as long as two steps of the chart, a minute at least. */
function openProfile(s: Shown, profile: string, at: number, tab: boolean): void {
  const half = Math.max(30_000, s.grid.step);
  const url = profilesAt({ type: profile, from: at - half, to: at + half });
  if (tab) open(url, "_blank", "noopener");
  else location.assign(url);
}

const zoom = (from: number, to: number) => go({ from: toParam(Math.round(from)), to: toParam(Math.round(to)), live: false });

function keys(e: KeyboardEvent, s: Shown): void {
  const profile = (e.target as HTMLElement).closest<HTMLElement>("[data-profile]")?.dataset.profile;
  if (!profile || e.ctrlKey || e.metaKey || e.altKey) return;
  const at = hover.value ?? s.to, length = s.to - s.from;
  if (e.key === "ArrowLeft" || e.key === "ArrowRight") hover.value = snap(s, at + (e.key === "ArrowLeft" ? -1 : 1) * (e.shiftKey ? 10 : 1) * s.grid.step);
  else if (e.key === "Enter" || e.key === " ") openProfile(s, profile, at, false);
  else if (e.key === "+" || e.key === "=") zoom(at - length / 4, at + length / 4);
  else if (e.key === "-") zoom(at - length, at + length);
  else if (e.key === "Escape") hover.value = null;
  else return;
  e.preventDefault();
}

/** Stack is all charts below each other, the lane of events above them, and what moves over all of it. */
function Stack(p: { s: Shown }) {
  const { s } = p;
  const stack = useRef<HTMLDivElement>(null), selection = useRef<HTMLDivElement>(null);
  const drag = useRef<{ at: number; clientX: number; profile: string } | null>(null);
  const onPlot = (e: PointerEvent) => (e.target as HTMLElement).closest<HTMLElement>("[data-profile]");
  const select = (a?: number, b?: number) => {
    const el = selection.current!;
    el.hidden = a === undefined;
    if (a === undefined) return;
    const share = (t: number) => (100 * (t - s.from)) / (s.to - s.from);
    el.style.left = `${share(Math.min(a, b!))}%`;
    el.style.width = `${Math.abs(share(b!) - share(a))}%`;
  };
  const end = (e: PointerEvent) => {
    const d = drag.current;
    drag.current = null;
    select();
    if (!d) return;
    const { at } = place(stack.current!, s, e.clientX);
    if (Math.abs(e.clientX - d.clientX) < 4) openProfile(s, d.profile, snap(s, at), e.ctrlKey || e.metaKey);
    else if (Math.abs(at - d.at) >= 1000) zoom(Math.min(at, d.at), Math.max(at, d.at));
  };
  return (
    <div
      class="stack" ref={stack} role="group" aria-label="Charts: arrow keys move the cursor, Enter opens the profile of that time, + and − zoom"
      onKeyDown={(e) => keys(e, s)}
      onPointerMove={(e) => {
        if (!drag.current && !onPlot(e)) return void (hover.value = null);
        const { at } = place(stack.current!, s, e.clientX);
        hover.value = snap(s, at);
        if (drag.current && Math.abs(e.clientX - drag.current.clientX) >= 4) select(drag.current.at, at);
      }}
      onPointerLeave={() => !drag.current && (hover.value = null)}
      onPointerDown={(e) => {
        const el = onPlot(e);
        if (!el || e.button !== 0) return;
        drag.current = { at: place(stack.current!, s, e.clientX).at, clientX: e.clientX, profile: el.dataset.profile! };
        el.setPointerCapture(e.pointerId);
      }}
      onPointerUp={end}
      onPointerCancel={() => ((drag.current = null), select())}
    >
      <Lane s={s} />
      {charts.map((c) => <Row key={c.id} chart={c} s={s} />)}
      <div class="over" aria-hidden="true">
        <Marks s={s} />
        <Cursor s={s} />
        <div class="selection" ref={selection} hidden />
      </div>
    </div>
  );
}

function Cursor(p: { s: Shown }) {
  const at = hover.value;
  if (at === null || at < p.s.from || at > p.s.to) return null;
  return <div class="cursor" style={{ left: `${(100 * (at - p.s.from)) / (p.s.to - p.s.from)}%` }} />;
}

/** Named is a line of a chart with its name and how it is drawn. */
interface Named {
  name: string;
  colour: string;
  limit: boolean;
  values: (number | null)[];
}

/** named orders a chart's lines: as the chart lists them, or as the groups are. */
function named(c: Chart, d: ChartData): Named[] {
  const { by, groups } = d.shown;
  const order = by
    ? groups.map((g, i) => ({ key: g.value, name: g.name, colour: groupColour(i), limit: false }))
    : [...c.lines.map((l, i) => ({ key: l.id, name: l.name, colour: l.limit ? "--text-2" : groupColour(i), limit: !!l.limit })), { key: "profiled", name: "in profiles", colour: groupColour(c.lines.length), limit: false }];
  return order.flatMap((o) => d.lines.filter((l) => (by ? l.group : l.line) === o.key).map((l) => ({ ...o, values: l.values })));
}

function Row(p: { chart: Chart; s: Shown }) {
  const { chart: c, s } = p;
  const { data, error, loading } = chartData[c.id].value;
  const lines = data ? named(c, data) : [];
  const asTable = view.value.table.split(",").includes(c.id);
  const nothing = data && !loading && !lines.length;
  return (
    <>
      <div class={`about ${nothing ? "small" : ""}`} id={`about-${c.id}`}>
        <div class="head">
          <h2>{c.title}</h2>
          {s.by && c.lines.length > 1 && (
            <select aria-label={`${c.title}: what is shown`} value={lineOf(c).id} onChange={(e) => go({ show: choose(view.value.show, c.id, e.currentTarget.value) }, true)}>
              {c.lines.map((l) => <option key={l.id} value={l.id}>{l.name}</option>)}
            </select>
          )}
          <span class="spring" />
          {!nothing && <button class="quiet" aria-pressed={asTable} aria-label={`${c.title} as a table`} onClick={() => go({ table: toggle(view.value.table, c.id) }, true)}>table</button>}
        </div>
        {data && <Values chart={c} data={data} lines={lines} />}
        {data?.note && <span class="note">{data.note}</span>}
      </div>
      {error ? <Problem error={error} what={c.title} />
        : nothing ? <p class="note absent">{c.none}</p>
        : asTable && data ? <Table chart={c} data={data} lines={lines} />
        : <Plot chart={c} s={s} data={data} lines={lines} stale={loading} />}
    </>
  );
}

/** Values are the numbers at the cursor, or the last ones. */
function Values(p: { chart: Chart; data: ChartData; lines: Named[] }) {
  const { grid, by } = p.data.shown;
  const at = hover.value;
  const i = at === null ? -1 : Math.round((at - grid.start) / grid.step);
  const value = (l: Named) => (i >= 0 ? l.values[i] : l.values.findLast((v) => v !== null));
  return (
    <ul class={`values ${by ? "grouped" : ""}`}>
      {p.lines.map((l) => {
        const v = value(l);
        return (
          <li key={l.name} title={l.name}>
            <Swatch colour={l.colour} limit={l.limit} />
            {!by && <span>{l.name}</span>}
            <b class="num">{v === null || v === undefined ? "–" : unitText(v, p.chart.unit)}</b>
          </li>
        );
      })}
    </ul>
  );
}

function Plot(p: { chart: Chart; s: Shown; data?: ChartData; lines: Named[]; stale: boolean }) {
  const { chart: c, data } = p;
  const canvas = useRef<HTMLCanvasElement>(null);
  const ground = palette.value?.background, zone = view.value.zone;
  useEffect(() => {
    const el = canvas.current!;
    const paint = () => {
      if (!data) return;
      const { from, to, grid } = data.shown;
      const strokes: Stroke[] = p.lines.map((l) => ({ values: l.values, colour: token(l.colour), limit: l.limit }));
      draw(el, { from, to, ...grid, unit: c.unit, strokes, ticks: ticks(from, to, tickCount(el.clientWidth), zone), grid: token("--line"), text: token("--text-2"), font: `11px ${token("--sans")}` });
    };
    paint();
    const watch = new ResizeObserver(paint);
    watch.observe(el);
    return () => watch.disconnect();
  }, [data, ground, zone]);
  return (
    <div
      class={`plot ${p.stale ? "stale" : ""}`} data-profile={c.profile} data-chart={c.id} tabIndex={0} role="button" title={`Click: the ${c.profile.replace(":", " ")} profile of that time. Drag: zoom.`}
      aria-label={`${c.title} over time, ${p.lines.length} lines: Enter opens the profile at the cursor; the table button shows the same as a table`}
    >
      <canvas ref={canvas} />
    </div>
  );
}

function Table(p: { chart: Chart; data: ChartData; lines: Named[] }) {
  const { grid } = p.data.shown, zone = view.value.zone;
  return (
    <div class="scroll twin" tabIndex={0}>
      <table class="numbers">
        <thead><tr><th scope="col">time ({zone === "utc" ? "UTC" : "local"})</th>{p.lines.map((l) => <th key={l.name} scope="col">{l.name}</th>)}</tr></thead>
        <tbody>
          {Array.from({ length: grid.n }, (_, i) => grid.n - 1 - i).map((i) => (
            <tr key={i}>
              <th scope="row">{clock(grid.start + i * grid.step, zone)}</th>
              {p.lines.map((l) => <td key={l.name}>{l.values[i] === null ? "" : unitText(l.values[i]!, p.chart.unit)}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
