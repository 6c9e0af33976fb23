// What the runtime page shows (view, from the address) and what it has loaded for it.

import { computed, effect, signal, untracked, type Signal } from "@preact/signals";
import { Failure, get, serverNow, type Event, type Params, type Series, type Service } from "../api";
import { fetching, load, loaded, refresh, turn, type Loaded } from "../loading";
import { serviceOf } from "../selector";
import { chartStep, rebin } from "../series";
import { isRelative, parseTime, toParam } from "../time";
import { defaultView as explorer, formatView as explorerAddress } from "../url";
import { column, gridOf, instant, ranged, resample, type Grid } from "./prom";
import { chartQuery, charts, sparsestQuery, groupName, groupsQuery, intervalOf, matchersOf, onlyGroups, samplesQuery, scopeOf, type Chart } from "./queries";
import { changed, chosen, formatView, parseView, type View } from "./url";

export const view = signal<View>(parseView(globalThis.location?.search ?? "")); // the unit tests have no address

/** go changes what is shown; replace leaves no step to go back to. */
export function go(patch: Partial<View>, replace = false): void {
  const next = changed(view.value, patch);
  const url = location.pathname + formatView(next);
  if (url !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", url);
  view.value = next;
}

/** linkTo is the address of a changed view. */
export const linkTo = (patch: Partial<View>) => `/runtime${formatView(changed(view.value, patch))}`;

/** profilesAt is the explorer's address for the same selection. */
export function profilesAt(patch: { type?: string; from?: number; to?: number; baseFrom?: number; baseTo?: number; query?: string } = {}): string {
  const v = view.value;
  const at = (ms: number | undefined, d: string) => (ms === undefined ? d : toParam(Math.round(ms)));
  return "/" + explorerAddress({
    ...explorer, query: patch.query ?? v.query, zone: v.zone, type: patch.type ?? "", from: at(patch.from, v.from), to: at(patch.to, v.to), baseFrom: at(patch.baseFrom, ""), baseTo: at(patch.baseTo, ""),
  });
}

/** Span is a range in Unix ms. */
export interface Span {
  from: number;
  to: number;
}

/** range is the view's times as numbers, by the server's clock when they were last read; null where they cannot be. */
export const range = computed<Span | null>(() => {
  void turn.value;
  const { from, to, zone } = view.value;
  const now = serverNow();
  const a = parseTime(from, now, zone), b = parseTime(to, now, zone);
  return a === null || b === null || b - a < 1000 ? null : { from: a, to: b };
});

export const service = computed(() => serviceOf(view.value.query));

/** by is the label that charts group by, "" for none: services where none is chosen, else all together. */
export const by = computed(() => (/^(none|max)$/.test(view.value.by) ? "" : view.value.by || (service.value ? "" : "service_name")));

export const maxGroups = 8;

export interface Group {
  value: string;
  name: string;
}

/** Shown is what all charts have in common. Each keeps the one that it was loaded for until the next is there. */
export interface Shown extends Span {
  grid: Grid;
  query: string;
  matchers: string;
  by: string;
  how: "sum" | "max";
  groups: Group[];
  interval: number; // of samples, seconds, as is usual here
}

/** Drawn is one line of a chart. group is "" where nothing is grouped. */
export interface Drawn {
  line: string;
  group: string;
  values: (number | null)[];
}

export interface ChartData {
  shown: Shown;
  lines: Drawn[];
  note?: string; // what is not there, and why
}

export const services = loaded<Service[]>();
export const events = loaded<Event[]>();
export const shown = loaded<Shown>();
export const chartData: Record<string, Signal<Loaded<ChartData>>> = Object.fromEntries(charts.map((c) => [c.id, loaded<ChartData>()]));

/** The time under the cursor, Unix ms: of all charts at once. */
export const hover = signal<number | null>(null);
/** The event that was chosen in the lane. */
export const picked = signal(0);

/** lineOf is the one quantity of a chart that groups are drawn of. */
export const lineOf = (c: Chart) => c.lines.find((l) => l.id === chosen(view.value.show, c.id)) ?? c.lines[0];

async function loadShown(p: Shown, stop: AbortSignal): Promise<Shown> {
  const seconds = Math.max(60, Math.ceil((p.to - p.from) / 1000));
  const [interval, found] = await Promise.all([
    usualInterval(p, stop), p.by ? instant(groupsQuery(p.matchers, p.by, `${seconds}s`, maxGroups), p.to, stop) : [],
  ]);
  const groups = found.map((s) => ({ value: s.metric[p.by] ?? "", name: groupName(p.by, s.metric) }));
  return { ...p, groups: groups.filter((g, i) => groups.findIndex((x) => x.value === g.value) === i), interval };
}

/** usualInterval is how often processes are sampled here at the end of the range, seconds. */
async function usualInterval(p: Shown, stop: AbortSignal): Promise<number> {
  const [one] = await instant(sparsestQuery(p.matchers), p.to, stop);
  return intervalOf(one ? await instant(samplesQuery(one.metric), p.to, stop) : []);
}

async function loadChart(c: Chart, line: string, s: Shown, stop: AbortSignal): Promise<ChartData> {
  if (s.by && !s.groups.length) return { shown: s, lines: [] };
  const matchers = s.by ? onlyGroups(s.matchers, s.by, s.groups.map((g) => g.value)) : s.matchers;
  const scope = scopeOf(matchers, s.by, s.grid.step / 1000, s.interval, s.how);
  const asked = s.by ? c.lines.filter((l) => l.id === line) : c.lines;
  const profiled = c.id === "cpu" && !s.by && s.how === "sum" ? loadProfiled(s, stop) : null;
  const found = await ranged(chartQuery(asked, scope), s.grid, stop);
  const lines = found.map((f) => ({ line: f.metric.line, group: s.by ? (f.metric[s.by] ?? "") : "", values: column(f.values ?? [], s.grid) }));
  const more = await profiled;
  return { shown: s, lines: more ? [...lines, ...more.lines] : lines, note: more?.note };
}

/** loadProfiled is CPU time as the profiles have it, beside what the kernel counted. */
async function loadProfiled(s: Shown, stop: AbortSignal): Promise<{ lines: Drawn[]; note?: string }> {
  try {
    const step = s.grid.step, from = s.grid.start - step;
    const data = rebin(await get<Series>("series", { query: s.query, type: "cpu:cpu", from, to: from + s.grid.n * step, step: step / 1000, by: "" }, stop));
    const one = data.series[0];
    return { lines: one ? [{ line: "profiled", group: "", values: resample(one.values, data.from, data.step, s.grid, data.step * 1e6) }] : [] };
  } catch (err) {
    if (!(err instanceof Failure)) throw err;
    return { lines: [], note: `profiles: ${err.message}` };
  }
}

const tab = computed(() => view.value.tab);

/** late is how long (ms) samples are on their way, from a scrape or an agent's push: before that a rate would seem to fall. */
const late = 20_000;

/** wanted is what the charts are loaded for; text, so that it changes only when it does. */
const wanted = computed(() => {
  const r = range.value, matchers = matchersOf(view.value.query);
  if (tab.value !== "charts" || !r || matchers === null) return "";
  const s: Shown = { ...r, grid: gridOf(r.from, Math.min(r.to, serverNow() - late), chartStep(r.to - r.from)), query: view.value.query, matchers, by: by.value, how: view.value.by === "max" ? "max" : "sum", groups: [], interval: 0 };
  return JSON.stringify(s);
});
const spanned = computed(() => JSON.stringify(range.value && { ...range.value }));

function followCharts(): void {
  fetching(shown, () => (wanted.value ? { wanted: wanted.value } : null), (p, stop) => loadShown(JSON.parse(String(p.wanted)) as Shown, stop));
  for (const c of charts) {
    const line = computed(() => (shown.value.data?.by ? lineOf(c).id : ""));
    const ready = computed(() => shown.value.data);
    effect(() => {
      const s = ready.value, l = line.value;
      if (!s) return;
      const stop = new AbortController();
      void untracked(() => load(chartData[c.id], stop.signal, () => loadChart(c, l, s, stop.signal)));
      return () => stop.abort();
    });
  }
}

/** What the server says of a selector that this page cannot read: it names the place. */
export const judged = loaded<boolean>();
const unread = computed(() => (view.value.query && matchersOf(view.value.query) === null ? view.value.query : ""));

/** start follows the address and keeps what it asks for loaded. */
export function start(): void {
  addEventListener("popstate", () => (view.value = parseView(location.search)));
  fetching(services, () => ({}), async (_, stop) => (await get<{ services: Service[] | null }>("services", { from: serverNow() - 7 * 864e5, to: serverNow() + 6e4 }, stop)).services ?? []);
  fetching(events, () => (tab.value === "charts" && range.value ? { service: service.value, ...(JSON.parse(spanned.value) as Span) } : null), async (p, stop) => (await get<{ events: Event[] | null }>("events", p as Params, stop)).events ?? []);
  fetching(judged, () => (unread.value ? { query: unread.value, from: serverNow() - 6e4 } : null), async (p, stop) => !!(await get("types", p, stop)));
  followCharts();
  effect(() => {
    if (!view.value.live || !isRelative(view.value.to)) return;
    const timer = setInterval(() => document.visibilityState === "visible" && refresh(), 15_000);
    return () => clearInterval(timer);
  });
}
