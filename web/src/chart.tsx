import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { serverNow, type Event, type OneSeries, type Series } from "./api";
import { chartText } from "./display";
import { formatShare, formatValue, typeTitle } from "./format";
import { ErrorNote, NothingHere } from "./notices";
import { parseSelector, serviceOf, withLabel } from "./selector";
import { coverageOf, profiledPart } from "./coverage";
import { by, currentType, events, flame, go, labels, linkTo, range, sampleLabels, series, services, view } from "./state";
import { palette, token } from "./theme";
import { clock, toParam } from "./time";
import { plotOptions } from "./plot";
import type { View } from "./url";

/** seriesName is what a group is called: its labels' values. */
export function seriesName(s: OneSeries): string {
  if (s.labels.__rest__) return "all others";
  const values = Object.values(s.labels).filter(Boolean);
  return values.length ? values.join(" · ") : by.value ? `no ${by.value.replace(/,/g, ", ")}` : "total";
}

/** perPoint is what a value is divided by so that the step's length does not matter. */
function perPoint(s: Series): number {
  return s.type.kind === "gauge" ? 1 : s.step / 1000;
}

const colourOf = (i: number, s: OneSeries) => token(s.labels.__rest__ ? "--s-rest" : `--s${(i % 10) + 1}`);

export function ChartPanel() {
  const v = view.value;
  const { data, error, loading } = series.value;
  const type = data?.type ?? currentType.value;
  const known = labels.value.data ?? [];
  const options = [...new Set(["service_name", "service_version", ...known, ...(by.value ? [by.value] : [])])].sort();
  const ofSamples = (sampleLabels.value.data ?? []).map((l) => `sample.${l.name}`).filter((l) => !options.includes(l));
  const some = data?.series?.some((s) => s.total !== 0);
  return (
    <section class="chart" aria-label="Totals over time" aria-busy={loading}>
      <div class="tools">
        <h2>{type ? typeTitle(type) : " "}</h2>
        <label class="by">by
          <select value={by.value} aria-label="Group by" onChange={(e) => go({ by: e.currentTarget.value }, true)}>
            <option value="">(total)</option>
            {options.map((l) => <option key={l}>{l}</option>)}
            {ofSamples.length > 0 && <optgroup label="labels of the samples">{ofSamples.map((l) => <option key={l} value={l}>{l.slice(7)}</option>)}</optgroup>}
          </select>
        </label>
        <span class="group" role="group" aria-label="Chart">
          {(["stacked", "lines", "table"] as const).map((c) => (
            <button key={c} aria-pressed={v.chart === c} onClick={() => go({ chart: c }, true)}>{c}</button>
          ))}
        </span>
        <Legend data={data} />
      </div>
      <div class={`chart-body ${loading ? "stale" : ""}`}>
        {error ? <ErrorNote message={error.message} hint={error.hint} /> : null}
        {!error && data && !some && !loading && <NothingHere what={nothing()} last={lastSeen()} />}
        {!error && data && some && (v.chart === "table" ? <ChartTable data={data} /> : <Plot data={data} />)}
      </div>
      <Deploys />
    </section>
  );
}

function nothing(): string {
  const s = serviceOf(view.value.query);
  return `No ${currentType.value ? typeTitle(currentType.value) : view.value.type || "profiles"} ${s ? `of ${s} ` : ""}in this range.`;
}

function lastSeen(): number | undefined {
  const s = serviceOf(view.value.query);
  const list = (services.value.data ?? []).filter((x) => !s || x.name === s).map((x) => x.last);
  return list.length ? Math.max(...list) : undefined;
}

/** onlyWith narrows what is shown to one value of a label, of the process or (sample.NAME) of the samples; null where it is so already. */
function onlyWith(name: string, value: string): Partial<View> | null {
  const key = name.startsWith("sample.") ? "sample" : "query";
  const old = view.value[key];
  if (!parseSelector(old)) return null;
  const next = withLabel(old, key === "sample" ? name.slice(7) : name, value);
  return next === old ? null : { [key]: next, by: null };
}

/** Legend is the chart's names with their shares; a click narrows to one. */
function Legend(p: { data?: Series }) {
  const list = p.data?.series ?? [];
  const all = list.reduce((sum, s) => sum + s.total, 0);
  return (
    <ul class="legend" aria-label="Series">
      {list.map((s, i) => {
        const label = Object.entries(s.labels)[0];
        const name = seriesName(s);
        const pick = label && !s.labels.__rest__ && label[1] ? onlyWith(label[0], label[1]) : null;
        return (
          <li key={name}>
            <i class="swatch" ref={(e) => void (e && (e.style.background = colourOf(i, s)))} data-theme-key={palette.value?.background} />
            {pick ? (
              <a href={linkTo(pick)} title={`Only ${name}`} onClick={(e) => (e.preventDefault(), go(pick))}>{name}</a>
            ) : (
              <span>{name}</span>
            )}
            <span class="num note">{formatShare(s.total, all)}</span>
          </li>
        );
      })}
    </ul>
  );
}

function Plot(p: { data: Series }) {
  const host = useRef<HTMLDivElement>(null);
  const { data } = p;
  const v = view.value;
  const r = range.value;
  const marks = deploys();
  const key = JSON.stringify([v.chart, v.zone, palette.value?.background, marks.map((e) => e.id), r, data.from, data.to, data.step]);
  useEffect(() => {
    const el = host.current;
    if (!el) return;
    const plot = new uPlot(plotOptions({
      data, marks, zone: v.zone, stacked: v.chart === "stacked", width: el.clientWidth, height: el.clientHeight, range: r,
      names: data.series.map(seriesName), colours: data.series.map((s, i) => colourOf(i, s)), token,
      text: (x, ref) => chartText(x, data.type, ref),
      select: (from, to, base) => {
        const a = toParam(Math.round(from)), b = toParam(Math.round(to));
        go(base ? { baseFrom: a, baseTo: b, ...fixed() } : { from: a, to: b, live: false });
      },
    }), plotData(data, v.chart === "stacked"), el);
    const watch = new ResizeObserver(() => plot.setSize({ width: el.clientWidth, height: el.clientHeight }));
    watch.observe(el);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [key, data]);
  return (
    <div
      class="plot" ref={host} role="img"
      aria-label={`${typeTitle(data.type)} over time, ${data.series.length} series; the table button shows the same as a table`}
    />
  );
}

/** fixed is the range as absolute times, so that it stays where the baseline was chosen beside it. */
function fixed(): { from: string; to: string; live: boolean } {
  const { from, to } = range.value;
  return { from: toParam(from), to: toParam(to), live: false };
}

/** plotData are uPlot's columns: times in seconds, then one column per series, each on top of the ones after it where stacked. */
export function plotData(s: Series, stacked: boolean): uPlot.AlignedData {
  const n = Math.max(0, ...s.series.map((x) => x.values.length));
  const div = perPoint(s);
  const xs = Array.from({ length: n }, (_, i) => (s.from + i * s.step) / 1000);
  const columns = s.series.map((x) => x.values.map((v) => v / div));
  if (stacked) {
    for (let k = columns.length - 2; k >= 0; k--) for (let i = 0; i < n; i++) columns[k][i] += columns[k + 1][i];
  }
  return [xs, ...columns];
}

function ChartTable(p: { data: Series }) {
  const { data } = p;
  const zone = view.value.zone;
  const div = perPoint(data);
  const n = Math.max(0, ...data.series.map((x) => x.values.length));
  return (
    <div class="scroll" tabIndex={0}>
      <table class="numbers">
        <thead>
          <tr><th scope="col">time ({zone === "utc" ? "UTC" : "local"})</th>{data.series.map((s) => <th key={seriesName(s)} scope="col">{seriesName(s)}</th>)}</tr>
          <tr><th scope="row">{data.type.kind === "gauge" ? "mean" : "total"}</th>{data.series.map((s) => <td key={seriesName(s)}>{formatValue(s.total, data.type.unit)}</td>)}</tr>
        </thead>
        <tbody>
          {Array.from({ length: n }, (_, i) => n - 1 - i).map((i) => (
            <tr key={i}>
              <th scope="row">{clock(data.from + i * data.step, zone)}</th>
              {data.series.map((s) => <td key={seriesName(s)}>{chartText(s.values[i] / div, data.type)}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function deploys(): Event[] {
  return (events.value.data ?? []).filter((e) => e.kind === "deploy");
}

/** Deploys lists what changed its build in the chart's range, each with the way to the diff of before and after. */
function Deploys() {
  const list = deploys();
  const zone = view.value.zone;
  return (
    <ul class="deploys" aria-label="Deploys">
      <Coverage />
      {list.length === 0 && <li class="note">{events.value.loading ? " " : "no build changed in this range"}</li>}
      {list.slice(0, 8).map((e) => {
        const patch = aroundEvent(e);
        return (
          <li key={e.id}>
            <span class="num note">{clock(e.time, zone, "time")}</span> {e.text}{" "}
            <a href={linkTo(patch)} onClick={(ev) => (ev.preventDefault(), go(patch))}>compare before and after</a>
          </li>
        );
      })}
      {list.length > 8 && <li class="note">and {list.length - 8} more</li>}
    </ul>
  );
}

/** Coverage says what part of the range has data, and how much of the time was profiled, where that changes how numbers are to be read. */
function Coverage() {
  const f = flame.value.data;
  const v = view.value, r = range.value;
  if (!f || r.base || flame.value.loading || f.from !== r.from) return null;
  const gap = coverageOf(f.stats, r, serverNow());
  const part = profiledPart(f.stats, r);
  const at = (ms: number) => clock(ms, v.zone, r.to - r.from > 864e5 ? "full" : "time");
  const until = gap.early ? `${gap.late ? " " : ""}until ${at(f.stats.last)}` : "";
  return (
    <>
      {(gap.late || gap.early) && (
        <li class="coverage">
          data {gap.late ? `from ${at(f.stats.first)}` : ""}{until} only{f.type.kind === "gauge" ? ": means are over the whole range" : ""}{" "}
          <button
            class="link" title="Make the range as long as the data"
            onClick={() => go({ from: gap.late ? toParam(f.stats.first) : toParam(r.from), to: gap.early ? toParam(f.stats.last) : v.to, ...(gap.early ? { live: false } : {}) })}
          >
            narrow to the data
          </button>
        </li>
      )}
      {f.type.profile === "cpu" && part < 0.8 && (
        <li class="coverage" title="What is scraped is profiled for some seconds of each minute. The chart divides by the whole time.">profiled at most {formatShare(part, 1)} of the time: rates are a lower bound</li>
      )}
    </>
  );
}

/** aroundEvent compares the same length before and after e: as much as the range holds, one to fifteen minutes. */
function aroundEvent(e: Event) {
  const { from, to } = range.value;
  const w = Math.min(15 * 6e4, Math.max(6e4, Math.min(e.time - from, to - e.time)));
  return {
    query: withLabel(view.value.query, "service_name", e.service), by: null, live: false, sort: "" as const,
    from: toParam(e.time), to: toParam(e.time + w), baseFrom: toParam(e.time - w), baseTo: toParam(e.time),
  };
}
