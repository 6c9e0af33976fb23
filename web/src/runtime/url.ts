// What the runtime page shows, and its form in the address: /runtime?tab=gc&query={service_name="cart"}&from=now-1h&to=now&… with the explorer's names where both have them.
// The page's own: by (a label, none for the sum or max for the largest), show (the quantity of each chart when it is grouped: memory:live,pause:p50), table (charts shown as tables), hide (kinds of events),
// instance (whose cycles or lines), grep, page (of lines: before:MS or after:MS, the newest without), build (all that is known of one), a and b (builds to compare), module and version (who runs them).

import type { Zone } from "../time";

export const tabs = [["charts", "time line"], ["gc", "GC cycles"], ["lines", "raw lines"], ["builds", "builds"], ["vulns", "vulnerabilities"]] as const;
export type Tab = (typeof tabs)[number][0];

export interface View {
  tab: Tab;
  query: string;
  from: string;
  to: string;
  by: string; // "": chosen by the page; "none": the sum of all; "max": the largest
  show: string;
  table: string;
  hide: string;
  instance: string;
  grep: string;
  page: string;
  build: string;
  a: string;
  b: string;
  module: string;
  version: string;
  zone: Zone;
  live: boolean;
}

export const defaultView: Readonly<View> = {
  tab: "charts", query: "", from: "now-1h", to: "now", by: "", show: "", table: "", hide: "", instance: "", grep: "", page: "", build: "", a: "", b: "", module: "", version: "", zone: "utc", live: false,
};

/** parseView reads an address; what it does not know, or is wrong, is as it is by default. */
export function parseView(search: string): View {
  const p = new URLSearchParams(search);
  const v: View = { ...defaultView, tab: tabs.find(([t]) => t === p.get("tab"))?.[0] ?? "charts", zone: p.get("tz") === "local" ? "local" : "utc", live: p.get("live") === "1" };
  for (const k of ["query", "from", "to", "by", "show", "table", "hide", "instance", "grep", "page", "build", "a", "b", "module", "version"] as const) v[k] = p.get(k) || defaultView[k];
  if (!/^[a-zA-Z_]\w*$/.test(v.by)) v.by = ""; // it becomes part of queries
  return v;
}

/** changed is v with patch; what chooses other lines goes back to the newest of them. */
export function changed(v: View, patch: Partial<View>): View {
  const others = (["tab", "query", "from", "to", "instance", "grep"] as const).some((k) => patch[k] !== undefined && patch[k] !== v[k]);
  return { ...v, ...(others ? { page: "" } : {}), ...patch };
}

/** formatView writes what differs from the default. */
export function formatView(v: View): string {
  const p = new URLSearchParams();
  for (const [k, value] of Object.entries(v)) if (value !== defaultView[k as keyof View]) p.set(k === "zone" ? "tz" : k, value === true ? "1" : value);
  const s = p.toString();
  return s ? `?${s}` : "";
}

/** chosen reads "memory:live,pause:p50" for one chart; "" where it says nothing of it. */
export function chosen(show: string, chart: string): string {
  return show.split(",").find((s) => s.startsWith(`${chart}:`))?.slice(chart.length + 1) ?? "";
}

/** choose writes another choice of one chart. */
export function choose(show: string, chart: string, line: string): string {
  return [...show.split(",").filter((s) => s && !s.startsWith(`${chart}:`)), `${chart}:${line}`].join(",");
}

/** toggle takes item out of a list with commas, or puts it in. */
export function toggle(list: string, item: string): string {
  const items = list.split(",").filter(Boolean);
  return (items.includes(item) ? items.filter((x) => x !== item) : [...items, item]).join(",");
}
