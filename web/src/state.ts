// What the page shows (view, from the address) and what it has loaded for it.

import { computed, effect, signal, untracked, type Signal } from "@preact/signals";
import { Failure, get, serverNow, type Callers, type Event, type Flame, type Params, type Ranking, type SampleLabel, type Series, type Service, type Status, type Top } from "./api";
import type { TypeInfo } from "./format";
import { serviceOf } from "./selector";
import { chartStep, rebin, withBaseline } from "./series";
import { isRelative, parseTime, toParam } from "./time";
import { formatView, isDiff, parseView, type Normalize, type View } from "./url";

export const view = signal<View>(parseView(globalThis.location?.search ?? "")); // the unit tests have no address

/** go changes what is shown and the address with it; replace leaves no step for the back button (typing, sorting). */
export function go(patch: Partial<View>, replace = false): void {
  const next = { ...view.value, ...patch };
  const url = location.pathname + formatView(next);
  if (url !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", url);
  view.value = next;
}

/** linkTo is the address of a changed view. */
export function linkTo(patch: Partial<View>): string {
  return location.pathname + formatView({ ...view.value, ...patch });
}

/** Loaded is one answer: the last good one stays while the next is on its way. */
export interface Loaded<T> {
  data?: T;
  error?: Failure;
  loading: boolean;
}

const loaded = <T>() => signal<Loaded<T>>({ loading: true });

export const services = loaded<Service[]>();
export const types = loaded<TypeInfo[]>();
export const labels = loaded<string[]>();
export const series = loaded<Series>();
export const flame = loaded<Flame>();
export const top = loaded<Top>();
/** near is the function that is chosen (fn) with its callers and callees, only the one that is shown alone. */
export const near = loaded<Callers>();
export const only = loaded<Callers>();
export const ranking = loaded<Ranking>();
export const sampleLabels = loaded<SampleLabel[]>();
/** asked are the parameters of what is shown, for those who ask for more of the same. */
const asked = signal<Params | null>(null);
export const events = loaded<Event[]>();
export const status = signal<{ status?: Status; summary?: string }>({});
/** The page asks for a token while this is true. */
export const needToken = signal(false);
/** refreshed counts refreshes: a change loads everything again. */
export const refreshed = signal(0);

/** Range is a view's times in Unix milliseconds. base is null where it is no diff. */
export interface Range {
  from: number;
  to: number;
  base: [number, number] | null;
}
export const range = signal<Range>(resolve(view.value) ?? { from: serverNow() - 36e5, to: serverNow(), base: null });
export const rangeError = signal("");

/** defaultFrom is where a range begins that the address does not say: an hour ago, or where younger data begins. A mean over an hour without data would be next to nothing. */
function defaultFrom(v: View): string {
  const name = serviceOf(v.query);
  const firsts = (services.value.data ?? []).filter((s) => !name || s.name === name).map((s) => s.first);
  const first = firsts.length ? Math.min(...firsts) : 0;
  const now = serverNow();
  return !isDiff(v) && v.to === "now" && first > now - 36e5 && first < now ? toParam(first) : "now-1h";
}

/** fromText is where the range begins, as the address says it or the page chose it. */
export const fromText = computed(() => view.value.from || defaultFrom(view.value));

/** topLimit is how many functions the table asks for: more than programs have in practice. */
export const topLimit = 5000;

/** resolve turns a view's times into numbers by the server's clock, or null where one cannot be read. */
function resolve(v: View): Range | null {
  const now = serverNow();
  const at = (s: string) => parseTime(s, now, v.zone);
  const from = at(v.from || defaultFrom(v)), to = at(v.to);
  if (from === null || to === null || from >= to) return null;
  if (!isDiff(v)) return { from, to, base: null };
  const a = at(v.baseFrom), b = at(v.baseTo);
  return a === null || b === null || a >= b ? null : { from, to, base: [a, b] };
}

/** by is what the chart groups by: as the view says, else by service, within a service by version. */
export const by = computed(() => view.value.by ?? (serviceOf(view.value.query) ? "service_version" : "service_name"));

/** currentType is the type that is shown, once the types are known. */
export const currentType = computed<TypeInfo | undefined>(() => chooseType(types.value.data, view.value.type));

const aliases: Record<string, string> = { allocs: "heap:alloc_space", inuse: "heap:inuse_space" };

/** chooseType finds what an address names: an id, a profile's main column or an alias; CPU where it names nothing. */
export function chooseType(all: TypeInfo[] | undefined, wanted: string): TypeInfo | undefined {
  if (!all?.length) return undefined;
  const id = aliases[wanted] ?? wanted;
  if (id) return all.find((t) => t.id === id) ?? all.find((t) => t.profile === id && t.default) ?? all.find((t) => t.profile === id);
  return all.find((t) => t.profile === "cpu" && t.default) ?? all.find((t) => t.default) ?? all[0];
}

let controller: AbortController | undefined;

/** into loads one answer into its signal; what was there stays until the answer is. */
async function into<T>(target: Signal<Loaded<T>>, load: () => Promise<T>, abort: AbortSignal): Promise<void> {
  target.value = { data: target.value.data, loading: true };
  try {
    const data = await load();
    if (!abort.aborted) target.value = { data, loading: false };
  } catch (err) {
    if (abort.aborted) return;
    const failure = err instanceof Failure ? err : new Failure(0, String(err), "This is a bug of the page: please report it with the address.");
    if (failure.status === 401) needToken.value = true;
    target.value = { data: failure.status === 401 ? target.value.data : undefined, error: failure, loading: false };
  }
}

/** chartRange is what the chart covers: in a diff both ranges where they are near each other, so that the change between them is seen. */
export function chartRange(r: Range): [number, number] {
  if (!r.base) return [r.from, r.to];
  const lo = Math.min(r.from, r.base[0]), hi = Math.max(r.to, r.base[1]);
  const sum = r.to - r.from + (r.base[1] - r.base[0]);
  return hi - lo <= 6 * sum ? [lo, hi] : [r.from, r.to];
}

const week = 7 * 864e5;

/** profileViews are what shows the profile itself. They are stale from the moment that another one is wanted, though what their requests must know may have to be loaded first. */
const profileViews = [series, flame, top] as Signal<Loaded<unknown>>[];

async function loadAll(v: View): Promise<void> {
  controller?.abort();
  controller = new AbortController();
  const abort = controller.signal;
  for (const s of profileViews) s.value = { data: s.value.data, loading: true };
  const listFrom = () => Math.min(resolve(v)?.from ?? Infinity, serverNow() - week);
  const listed = into(services, async () => (await get<{ services: Service[] | null }>("services", { from: listFrom(), to: serverNow() + 6e4 }, abort)).services ?? [], abort);
  if (!services.value.data) await listed; // the first answer also tells the server's clock
  const r = resolve(v);
  if (abort.aborted) return;
  if (needToken.value || !r) {
    if (!needToken.value) rangeError.value = "The time range cannot be read, or ends before it starts.";
    for (const s of profileViews) s.value = { data: s.value.data, loading: false };
    return;
  }
  rangeError.value = "";
  range.value = r;
  const q: Params = { query: v.query, from: r.from, to: r.to };
  const [lo, hi] = chartRange(r);
  void into(labels, async () => (await get<{ labels: string[] | null }>("labels", q, abort)).labels ?? [], abort);
  void into(events, async () => (await get<{ events: Event[] | null }>("events", { service: serviceOf(v.query), from: lo, to: hi }, abort)).events ?? [], abort);
  const typed = into(types, async () => (await get<{ types: TypeInfo[] | null }>("types", q, abort)).types ?? [], abort);
  if (!v.type || (r.base && !v.normalize)) await typed; // a gauge is compared otherwise than what is counted
  if (abort.aborted) return;
  const type = v.type || currentType.value?.id;
  if (type) loadProfile(v, r, type, abort);
  else {
    for (const s of profileViews) s.value = { loading: false, error: types.value.error };
  }
  await listed;
  if (!abort.aborted && services.value.data?.length === 0) void loadStatus(abort);
}

/** filters are the parameters that select stacks. */
export function filters(v: View): Params {
  return { sample: v.sample, focus: v.focus, ignore: v.ignore };
}

function loadProfile(v: View, r: Range, type: string, abort: AbortSignal): void {
  const q: Params = { query: v.query, type, from: r.from, to: r.to, ...filters(v) };
  const [lo, hi] = chartRange(r);
  const step = chartStep(hi - lo);
  const end = lo + Math.ceil((hi - lo) / step) * step; // whole steps: the server leaves a ragged last one out
  const loadSeries = (query: string) => get<Series>("series", { ...q, query, from: lo, to: end, by: by.value, step: step / 1000 }, abort);
  void into(series, async () => {
    const other = r.base && v.baseQuery && v.baseQuery !== v.query ? v.baseQuery : "";
    const [now, base] = await Promise.all([loadSeries(v.query), other ? loadSeries(other) : null]);
    return rebin(base ? withBaseline(now, base) : now);
  }, abort);
  const frames = v.frames === "function" ? "" : v.frames;
  const d: Params = r.base ? { ...q, frames, base_query: v.baseQuery, base_from: r.base[0], base_to: r.base[1], normalize: v.normalize || defaultNormalize.value } : { ...q, frames };
  asked.value = d;
  const drawn = into(flame, () => (r.base ? get<Flame>("diff", { ...d, view: "flame" }, abort) : get<Flame>("flamegraph", d, abort)), abort);
  void into(top, () => (r.base ? get<Top>("diff", { ...d, view: "top", limit: topLimit }, abort) : get<Top>("top", { ...d, limit: topLimit }, abort)), abort);
  void drawn.then(() => {
    if (!abort.aborted) void into(sampleLabels, async () => (await get<{ labels: SampleLabel[] | null }>("samplelabels", { ...q, limit: 20 }, abort)).labels ?? [], abort);
  });
}

/** follow loads path into target with what is shown and what more adds, whenever either changes; null: nothing is wanted. */
function follow<T>(target: Signal<Loaded<T>>, path: string, more: () => Params | null): void {
  const wanted = computed(() => JSON.stringify(more())); // other changes of the address load nothing again
  let running: AbortController | undefined;
  effect(() => {
    const extra = JSON.parse(wanted.value) as Params | null;
    const q = asked.value;
    running?.abort();
    untracked(() => {
      if (!extra || !q) target.value = { loading: false };
      else {
        const { signal } = (running = new AbortController());
        void into(target, () => get<T>(path, { ...q, ...extra }, signal), signal);
      }
    });
  });
}

// loadStatus serves the empty page: what is stored, and what discovery found. Both only add to it, so their errors are not worth a word.
async function loadStatus(abort: AbortSignal): Promise<void> {
  const ask = async <T,>(path: string) => get<T>(path, {}, abort).catch(() => undefined);
  const [s, p] = await Promise.all([ask<Status>("status"), ask<{ summary: string }>("processes")]);
  if (!abort.aborted) status.value = { status: s, summary: p?.summary };
}

/** start follows the address and loads what the view asks for. */
export function start(): void {
  addEventListener("popstate", () => (view.value = parseView(location.search)));
  const wanted = computed(() => {
    const v = view.value;
    return JSON.stringify([v.query, v.type, filters(v), v.frames, v.from, v.to, v.baseQuery, v.baseFrom, v.baseTo, isDiff(v) && v.normalize, by.value, refreshed.value]);
  });
  effect(() => {
    void wanted.value;
    untracked(() => void loadAll(view.peek())); // what loading reads must not start it again
  });
  follow(only, "callers", () => (view.value.only ? { function: view.value.only } : null));
  follow(near, "callers", () => (view.value.fn ? { function: view.value.fn, max_nodes: 1024 } : null));
  follow(ranking, "ranking", () => (isDiff(view.value) && view.value.sort === "sure" ? { frames: "", limit: topLimit } : null));
  effect(() => {
    if (!view.value.live || !isRelative(view.value.to)) return;
    const timer = setInterval(() => document.visibilityState === "visible" && refresh(), 10_000);
    return () => clearInterval(timer);
  });
}

export function refresh(): void {
  refreshed.value++;
}

/** defaultNormalize is how a diff is made comparable that does not say: a gauge is a mean already. */
export const defaultNormalize = computed<Normalize>(() => (currentType.value?.kind === "gauge" ? "none" : "interval"));

/** scale says how a diff's two sides are made comparable. */
export const scale = computed(() => {
  const s = range.value.base ? flame.value.data?.scale : undefined;
  return { now: s?.now ?? 1, base: s?.base ?? 1, norm: s?.normalize ?? "none", missing: s?.missing ?? "" };
});
