// The HTTP API of the same origin, as ARCHITECTURE.md describes it.

import type { TypeInfo } from "./format";
import type { Columns } from "./flame/model";
import type { Row } from "./flame/rows";
import type { Normalize } from "./url";

export interface Service {
  name: string;
  types: string[];
  first: number;
  last: number;
  profiles: number;
  processes: number;
  versions: string[] | null;
}

export interface Stats {
  profiles: number;
  series: number;
  samples: number;
  blocks: number;
  bytes_read: number;
  covered_ms: number; // process time: the sum of the profiles' intervals
  first: number; // of the data, Unix ms; 0: not known
  last: number;
}

interface Answer {
  type: TypeInfo;
  from: number;
  to: number;
}

export interface Flame extends Answer, Columns {
  total: number;
  base_total?: number;
  base_from?: number;
  base_to?: number;
  nodes: number;
  dropped: number;
  stats: Stats;
  base_stats?: Stats;
  scale?: Scale;
}

/** Scale says what the values of a diff's sides are to be multiplied with. */
export interface Scale {
  normalize: Normalize;
  per?: string;
  now: number;
  base: number;
  missing?: string; // why it is not as asked for
}

/** Callers is one function from both sides; node 0 of both flame graphs is the function. */
export interface Callers {
  function: string;
  file: string;
  kind: string;
  self: number;
  total: number;
  base_self?: number;
  base_total?: number;
  all: number;
  callers: Flame;
  callees: Flame;
}

/** SampleLabel is a label of the samples themselves, with its largest values. */
export interface SampleLabel {
  name: string;
  values: { value: string; total: number }[];
}

/** Ranked is a function with the means of its normalized values on both sides. */
export interface Ranked {
  function: string;
  file: string;
  kind: string;
  base: number;
  now: number;
  t: number;
  q: number;
  log10_p: number;
}

export interface Ranking extends Answer {
  per?: string;
  window: number;
  windows: number;
  base_windows: number;
  note?: string;
  functions: number;
  rows: Ranked[];
}

export interface Top extends Answer {
  total: number;
  base_total?: number;
  rows: Row[];
  functions: number; // rows there would be without a limit
  stats: Stats;
}

export interface OneSeries {
  labels: Record<string, string>;
  total: number;
  values: number[];
}

export interface Series extends Answer {
  step: number;
  series: OneSeries[];
}

export interface Event {
  id: number;
  time: number;
  kind: string;
  service: string;
  text: string;
  attrs?: Record<string, string>;
}

export interface Status {
  version: string;
  storage: { profiles: number; bytes: number };
}

/** Failure is an answer that is none: what is wrong, and what cures it where the server said so. status 0: no answer came. */
export class Failure extends Error {
  constructor(readonly status: number, message: string, readonly hint: string) {
    super(message);
  }
}

export type Params = Record<string, string | number | undefined>;

const tokenKey = "sonde-token";

/** The token is kept for this tab's session only. */
export const token = {
  get: () => sessionStorage.getItem(tokenKey) ?? "",
  set: (t: string) => (t ? sessionStorage.setItem(tokenKey, t) : sessionStorage.removeItem(tokenKey)),
};

/** apiPath writes a path with its parameters, below /api/v1/ or from the root where it begins with a slash; empty ones are left out. */
export function apiPath(path: string, params: Params): string {
  const p = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) if (v !== undefined && v !== "") p.set(k, String(v));
  const s = p.toString();
  return `${path.startsWith("/") ? "" : "/api/v1/"}${path}${s ? `?${s}` : ""}`;
}

// The server's clock minus the browser's, ms: a range that ends now ends by the clock that stamped the profiles.
let offset = 0;

/** serverNow is the server's clock, as well as an answer's Date header tells it. */
export function serverNow(): number {
  return Date.now() + offset;
}

function learnClock(res: Response): void {
  const d = Date.parse(res.headers.get("Date") ?? "");
  if (Number.isNaN(d)) return;
  const diff = d + 500 - Date.now(); // the header has whole seconds
  offset = Math.abs(diff) > 2000 ? diff : 0;
}

/** send asks the API and returns the response if it is a good one; it throws a Failure otherwise. */
export async function send(path: string, params: Params, signal?: AbortSignal, method = "GET"): Promise<Response> {
  const headers: Record<string, string> = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  let res: Response;
  try {
    res = await fetch(apiPath(path, params), { headers, signal, method });
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Failure(0, "no answer from the server", "Is sonde serve still running? The page tries again when you refresh.");
  }
  learnClock(res);
  if (res.ok) return res;
  let message = `${res.status} ${res.statusText}`, hint = "";
  try {
    const body = (await res.json()) as { error?: string; hint?: string };
    message = body.error || message;
    hint = body.hint ?? "";
  } catch {
    // Not the API's JSON (a proxy's page): the status line is all there is to tell.
  }
  throw new Failure(res.status, message, hint);
}

export async function get<T>(path: string, params: Params, signal?: AbortSignal): Promise<T> {
  const res = await send(path, params, signal);
  try {
    return (await res.json()) as T;
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Failure(res.status, `read ${path}: the answer is not JSON`, "Is there a proxy between this page and sonde serve?");
  }
}
