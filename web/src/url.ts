// What the page shows, and its one-to-one form in the address. The parameters that the API knows have the API's names:
//   /?query={service_name="cart"}&type=cpu:cpu&from=now-1h&to=now&by=service_version
//   /?query=cart&type=cpu&from=…&to=…&base_from=…&base_to=…          a diff; base_query where the baseline has another selector
// sample, focus and ignore select stacks; frames=line|address says what a frame is, normalize how a diff's sides are made comparable.
// The page's own: q (search), fn (one function, with its callers and callees), only (only this function), zoom (depth-hash of a frame's path),
// layout=flame, chart=lines|table, sort=total.asc (sort=sure: by certainty), tz=local, live=1.

import type { Zone } from "./time";

export type SortKey = "name" | "self" | "total" | "base" | "delta" | "sure";
export type Frames = "function" | "line" | "address";
export type Normalize = "none" | "share" | "cpu" | "instance" | "interval";

export const allFrames: readonly Frames[] = ["function", "line", "address"];

export interface View {
  query: string;
  type: string;
  sample: string;
  focus: string;
  ignore: string;
  frames: Frames;
  from: string; // "": chosen by the page
  to: string;
  by: string | null; // null: chosen by the page; "": not grouped
  baseQuery: string;
  baseFrom: string;
  baseTo: string;
  q: string;
  fn: string;
  only: string;
  zoom: string;
  layout: "icicle" | "flame";
  chart: "stacked" | "lines" | "table";
  sort: SortKey | "";
  asc: boolean;
  normalize: "" | Normalize; // "": chosen by the page
  zone: Zone;
  live: boolean;
}

export const defaultView: Readonly<View> = {
  query: "", type: "", sample: "", focus: "", ignore: "", frames: "function", from: "", to: "now", by: null, baseQuery: "", baseFrom: "", baseTo: "",
  q: "", fn: "", only: "", zoom: "", layout: "icicle", chart: "stacked", sort: "", asc: false, normalize: "", zone: "utc", live: false,
};

/** isDiff says whether v compares two ranges. */
export function isDiff(v: View): boolean {
  return v.baseFrom !== "" && v.baseTo !== "";
}

function oneOf<T extends string>(value: string | null, allowed: readonly T[], fallback: T): T {
  return allowed.includes(value as T) ? (value as T) : fallback;
}

/** parseView reads an address's query string. What it does not know it ignores; what is wrong falls back to the default. */
export function parseView(search: string): View {
  const p = new URLSearchParams(search);
  const get = (k: string, d = "") => p.get(k) ?? d;
  const [sort, dir] = get("sort").split(".");
  return {
    query: get("query"),
    type: get("type"),
    sample: get("sample"),
    focus: get("focus"),
    ignore: get("ignore"),
    frames: oneOf(p.get("frames"), allFrames, "function"),
    from: get("from"),
    to: get("to", defaultView.to) || defaultView.to,
    by: p.get("by"),
    baseQuery: get("base_query"),
    baseFrom: get("base_from"),
    baseTo: get("base_to"),
    q: get("q"),
    fn: get("fn"),
    only: get("only"),
    zoom: get("zoom"),
    layout: oneOf(p.get("layout"), ["icicle", "flame"], "icicle"),
    chart: oneOf(p.get("chart"), ["stacked", "lines", "table"], "stacked"),
    sort: oneOf(sort, ["name", "self", "total", "base", "delta", "sure", ""], ""),
    asc: dir === "asc",
    normalize: oneOf(p.get("normalize") ?? p.get("norm"), ["", "none", "share", "cpu", "instance", "interval"], ""), // norm: as older links have it
    zone: oneOf(p.get("tz"), ["utc", "local"], "utc"),
    live: p.get("live") === "1",
  };
}

// The characters that URLs may hold as they are, so that a link can be read by a person.
function encode(s: string): string {
  return encodeURIComponent(s).replace(/%(3A|2C|2F|7B|7D|22|3D|7E|40)/g, (hex) => {
    const c = decodeURIComponent(hex);
    return '{}"'.includes(c) ? hex : c;
  });
}

/** formatView writes v as a query string, without what is default; "" for the default view. */
export function formatView(v: View): string {
  const pairs: [string, string][] = [];
  const add = (k: string, value: string, d = "") => {
    if (value !== d) pairs.push([k, value]);
  };
  add("query", v.query);
  add("type", v.type);
  add("sample", v.sample);
  add("focus", v.focus);
  add("ignore", v.ignore);
  add("frames", v.frames, defaultView.frames);
  add("from", v.from, defaultView.from);
  add("to", v.to, defaultView.to);
  if (v.by !== null) pairs.push(["by", v.by]);
  add("base_query", v.baseQuery);
  add("base_from", v.baseFrom);
  add("base_to", v.baseTo);
  add("q", v.q);
  add("fn", v.fn);
  add("only", v.only);
  add("zoom", v.zoom);
  add("layout", v.layout, defaultView.layout);
  add("chart", v.chart, defaultView.chart);
  if (v.sort) pairs.push(["sort", v.asc ? `${v.sort}.asc` : v.sort]);
  add("normalize", v.normalize);
  add("tz", v.zone, defaultView.zone);
  if (v.live) pairs.push(["live", "1"]);
  return pairs.length ? "?" + pairs.map(([k, x]) => `${k}=${encode(x)}`).join("&") : "";
}

/** previousRange is the range of the same length right before [from, to). */
export function previousRange(from: number, to: number): [number, number] {
  return [from - (to - from), from];
}
