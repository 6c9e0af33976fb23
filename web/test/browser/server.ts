import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buildModel, type Columns } from "../../src/flame/model";
import { callees, callers } from "../sandwich";

const web = process.env.SONDE_WEB!;

/** Answer is what a test makes the API say instead of the fixture. */
export interface Answer {
  status?: number;
  body?: unknown;
  raw?: string;
  delayMs?: number;
}

export type Override = (path: string, params: URLSearchParams, req: IncomingMessage) => Answer | undefined;

/** FixtureServer serves dist under the same content security policy as web.go, and answers the API from recorded answers of a real server. */
export class FixtureServer {
  override: Override = () => undefined;
  asked: string[] = []; // API paths with parameters, in order
  url = "";
  private server: Server;

  private constructor() {
    this.server = createServer((req, res) => void this.serve(req, res));
  }

  static async start(): Promise<FixtureServer> {
    const s = new FixtureServer();
    await new Promise<void>((done) => s.server.listen(0, "127.0.0.1", done));
    s.url = `http://127.0.0.1:${(s.server.address() as AddressInfo).port}`;
    return s;
  }

  close(): Promise<void> {
    this.server.closeAllConnections();
    return new Promise((done) => this.server.close(() => done()));
  }

  private async serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url!, this.url);
    // The API's paths are told without /api/v1/, those of Prometheus' API as they are.
    const path = url.pathname.replace(/^\/api\/v1\//, "");
    if (path === url.pathname && !path.startsWith("/prometheus/")) return page(path, res);
    this.asked.push(path + url.search);
    const a = this.override(path, url.searchParams, req) ?? fixture(path, url.searchParams);
    if (a.delayMs) await new Promise((done) => setTimeout(done, a.delayMs));
    res.writeHead(a.status ?? 200, { "Content-Type": "application/json" });
    res.end(a.raw ?? JSON.stringify(a.body));
  }
}

const csp = /const csp = ("[^;]*(?:;[^"]*)*" \+\s*"[^"]*")/.exec(readFileSync(join(web, "web.go"), "utf8"))![1].replace(/" \+\s*"/, "").slice(1, -1);

function page(path: string, res: ServerResponse): void {
  const name = path === "/" ? "index.html" : ["/fleet", "/runtime"].includes(path) ? `${path.slice(1)}.html` : path.slice(1);
  const types: Record<string, string> = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
  try {
    const data = readFileSync(join(web, "dist", name.replace(/[^\w.-]/g, "")));
    res.writeHead(200, { "Content-Type": types[name.slice(name.lastIndexOf(".") + 1)] ?? "text/plain", "Content-Security-Policy": csp });
    res.end(data);
  } catch {
    res.writeHead(404).end("not found");
  }
}

const cache = new Map<string, string>();

/** recorded returns a fixture as it was recorded. */
export function recorded(name: string): string {
  let text = cache.get(name);
  if (!text) cache.set(name, (text = readFileSync(join(web, "test/fixtures", `${name}.json`), "utf8")));
  return text;
}

interface DiffSides {
  total: number;
  base_total: number;
  stats: { covered_ms: number };
  base_stats?: { covered_ms: number };
}

/** scaleOf makes a diff's sides comparable as the server does; undefined where that was not asked for. */
function scaleOf(f: DiffSides, normalize: string | null) {
  if (normalize === "share") return { normalize, per: "of the side's total", now: 1 / f.total, base: 1 / f.base_total };
  if (normalize === "interval") return { normalize, per: "per second of process time", now: 1000 / f.stats.covered_ms, base: 1000 / (f.base_stats ?? f.stats).covered_ms };
  if (normalize === "cpu") return { normalize: "none", now: 1, base: 1, missing: "base: there is no CPU profile of these processes in the range" };
  return undefined;
}

/** sandwich cuts the callers and callees of a function out of the recorded flame graph. */
export function sandwich(params: URLSearchParams): Answer {
  const name = params.get("function")!;
  const all = JSON.parse(recorded(params.has("base_from") ? "diff-flame" : "flamegraph"));
  const m = buildModel(all);
  const tree = (c: Columns | null) => ({ ...all, ...(c ?? { names: [name], kinds: [""], files: [""], name: [0], depth: [0], value: [0], self: [0] }) });
  const down = tree(callees(m, name)), up = tree(callers(m, name));
  const base = all.base_total !== undefined ? { base_self: down.base_self?.[0] ?? 0, base_total: down.base_value?.[0] ?? 0, base_all: all.base_total } : {};
  const file = down.files[down.name[0]], kind = down.kinds[down.name[0]];
  return { body: { function: name, file, kind, self: down.self[0], total: down.value[0], ...base, all: all.total, callers: up, callees: down } };
}

/** ranked orders the recorded functions by the size of their relative change: the page is to show the order of the answer. */
function ranked(): Answer {
  const top = JSON.parse(recorded("diff-top"));
  const rows = top.rows.map((r: { total: number; base_total: number }, i: number) => ({ ...r, base: r.base_total / 1e3, now: r.total / 1e3, t: 3, p: 0, q: i < 3 ? 0 : i / top.rows.length, log10_p: i - top.rows.length }));
  return { body: { type: top.type, from: top.from, to: top.to, normalize: "interval", per: "per second of process time", window: 120000, windows: 15, base_windows: 4, note: "only 4 windows in the base", functions: rows.length, rows: rows.reverse() } };
}

function fixture(path: string, params: URLSearchParams): Answer {
  if (path === "diff") {
    const f = JSON.parse(recorded(params.get("view") === "top" ? "diff-top" : "diff-flame"));
    return { body: { ...f, scale: scaleOf(f, params.get("normalize")) } };
  }
  if (path === "callers") return sandwich(params);
  if (path === "pins") return { body: { id: 7 } };
  if (path === "ranking") return ranked();
  if (path === "samplelabels") return { body: { labels: [{ name: "account", total: 5, distinct: 2, values: [{ value: "A", total: 3 }, { value: "B", total: 2 }] }] } };
  if (["services", "types", "labels", "events", "series", "flamegraph", "top"].includes(path)) return { raw: recorded(path) };
  if (path === "profile") return { raw: "pprof" };
  if (path === "status") return { body: { version: "v", storage: { profiles: 1 } } };
  if (path === "processes") return { body: { processes: [], summary: "" } };
  return { status: 404, body: { error: `no such endpoint: ${path}` } };
}
