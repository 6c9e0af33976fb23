// What the fleet page shows, its form in the address, and what was loaded for it. The address: /fleet?tab=coverage&service=cart&state=lost&sort=-started&…
// with the API's names; tab, by (what coverage's table lists), flame (a capture's id) and tz are the page's own.

import { computed, signal } from "@preact/signals";
import { get, type Flame, type Params } from "../api";
import { failed, fetching, loaded, refresh } from "../loading";
import type { Zone } from "../time";

export type Tab = "processes" | "coverage" | "captures";
export const tabs: readonly Tab[] = ["processes", "coverage", "captures"];

export interface View {
  tab: Tab;
  search: string;
  service: string;
  node: string;
  gatherer: string;
  state: string; // "": running
  sort: string; // "": by service
  by: string; // of coverage: "" node, service
  flame: string;
  zone: Zone;
}

export const defaultView: View = { tab: "processes", search: "", service: "", node: "", gatherer: "", state: "", sort: "", by: "", flame: "", zone: "utc" };

export interface Process {
  instance: string;
  service: string;
  version: string;
  go_version: string;
  node: string;
  pod: string;
  host: string;
  pid: number;
  exe: string;
  gatherer: string;
  gatherers: string[];
  state: string;
  reason: string;
  started: number;
  last_seen: number;
  uptime_ms: number;
  instances?: string[];
}

export interface Processes {
  processes: Process[];
  next: string;
  total: number;
  states: Record<string, number>;
  gatherers: Record<string, number>;
  more: boolean;
  at: number;
}

export interface Tally {
  expected: number;
  watched: number;
}

export interface Gap {
  reason: string;
  cure: string;
  partial: boolean;
  processes: number;
  services: string[];
  nodes: string[];
  examples: { instance: string; service: string; node: string; pod: string; unit: string; pid: number; exe: string; text: string }[];
}

export interface NodeTally extends Tally {
  name: string;
  reports?: boolean;
  silent?: boolean;
  reported?: number;
  gatherer?: string;
  unknown?: number;
  more?: number;
}

export interface Coverage {
  processes: Tally;
  pods: Tally;
  units: Tally;
  nodes: Tally;
  gaps: Gap[];
  by_service: NodeTally[];
  by_node: NodeTally[];
}

export interface Capture {
  id: string;
  request: string;
  kind: string;
  service: string;
  instance: string;
  host: string;
  trigger: string;
  reason: string;
  state: string;
  error: string;
  created: number;
  finished: number;
  duration: number;
  size: number;
  file?: string;
  result?: string;
  flamegraph?: string;
}

/** parseView reads an address; what it does not know is left as it is by default. */
export function parseView(search: string): View {
  const p = new URLSearchParams(search);
  const tab = tabs.find((t) => t === p.get("tab")) ?? "processes";
  const text = (name: string) => p.get(name) ?? "";
  return {
    tab, search: text("search"), service: text("service"), node: text("node"), gatherer: text("gatherer"), state: text("state"), sort: text("sort"), by: text("by"), flame: text("flame"),
    zone: p.get("tz") === "local" ? "local" : "utc",
  };
}

/** formatView writes what differs from the default. */
export function formatView(v: View): string {
  const p = new URLSearchParams();
  for (const [k, value] of Object.entries(v)) if (value !== defaultView[k as keyof View]) p.set(k === "zone" ? "tz" : k, value);
  const s = p.toString();
  return s ? `?${s}` : location.pathname;
}

export const view = signal<View>(defaultView);

/** go changes what is shown; replace leaves no step to go back to. */
export function go(patch: Partial<View>, replace = false): void {
  const next = { ...view.value, ...patch };
  if (formatView(next) === formatView(view.value)) return;
  history[replace ? "replaceState" : "pushState"](null, "", formatView(next));
  view.value = next;
}

export const processes = loaded<Processes>();
export const coverage = loaded<Coverage>();
export const captures = loaded<Capture[]>();
export const flame = loaded<Flame>();
export const pageSize = 200;

/** wanted are the parameters of the processes shown; text, so that it changes only when they do. */
const wanted = computed(() => {
  const { search, service, node, gatherer, state, sort } = view.value;
  return JSON.stringify({ search, service, node, gatherer, state: state || "running", sort, limit: pageSize });
});
const place = computed(() => JSON.stringify({ service: view.value.service, node: view.value.node }));
const tab = computed(() => view.value.tab);
const flameID = computed(() => view.value.flame);
const service = computed(() => view.value.service);

const of = (t: Tab, params: () => Params) => () => (tab.value === t ? params() : null);

/** moreProcesses appends the next page. */
export async function moreProcesses(): Promise<void> {
  const before = processes.value.data;
  const asked = wanted.value;
  if (!before?.next || processes.value.loading) return;
  processes.value = { ...processes.value, loading: true };
  try {
    const page = await get<Processes>("processes", { ...(JSON.parse(asked) as Params), cursor: before.next });
    if (processes.value.data !== before || wanted.value !== asked) return; // another list is shown by now
    const seen = new Set(before.processes.map((p) => p.instance));
    processes.value = { data: { ...page, processes: [...before.processes, ...page.processes.filter((p) => !seen.has(p.instance))] }, loading: false };
  } catch (err) {
    if (wanted.value === asked) failed(processes, err);
  }
}

const pollMs = 2000;

/** start reads the address and keeps what it asks for loaded. */
export function start(): void {
  view.value = parseView(location.search);
  addEventListener("popstate", () => (view.value = parseView(location.search)));
  fetching(processes, of("processes", () => JSON.parse(wanted.value) as Params), (p, stop) => get<Processes>("processes", p, stop));
  fetching(coverage, of("coverage", () => JSON.parse(place.value) as Params), (p, stop) => get<Coverage>("coverage", p, stop));
  fetching(captures, of("captures", () => ({ service: service.value, limit: 200 })), async (p, stop) => (await get<{ captures: Capture[] }>("captures", p, stop)).captures);
  fetching(flame, of("captures", () => ({ id: flameID.value })), async (p, stop) => {
    if (!p.id) return undefined as unknown as Flame;
    return get<Flame>(`captures/${encodeURIComponent(p.id)}/flamegraph`, {}, stop);
  });
  // What was asked for arrives while the page is looked at.
  setInterval(() => {
    const open = captures.value.data?.some((c) => c.state === "asked" || c.state === "running");
    if (tab.value === "captures" && open && !captures.value.loading && document.visibilityState === "visible") refresh();
  }, pollMs);
}
