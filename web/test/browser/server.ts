import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

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
    if (!url.pathname.startsWith("/api/v1/")) return page(url.pathname, res);
    this.asked.push(url.pathname.slice(8) + url.search);
    const path = url.pathname.slice(8);
    const a = this.override(path, url.searchParams, req) ?? fixture(path, url.searchParams);
    if (a.delayMs) await new Promise((done) => setTimeout(done, a.delayMs));
    res.writeHead(a.status ?? 200, { "Content-Type": "application/json" });
    res.end(a.raw ?? JSON.stringify(a.body));
  }
}

const csp = /const csp = ("[^;]*(?:;[^"]*)*" \+\s*"[^"]*")/.exec(readFileSync(join(web, "web.go"), "utf8"))![1].replace(/" \+\s*"/, "").slice(1, -1);

function page(path: string, res: ServerResponse): void {
  const name = path === "/" ? "index.html" : path.slice(1);
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

function fixture(path: string, params: URLSearchParams): Answer {
  if (path === "diff") return { raw: recorded(params.get("view") === "top" ? "diff-top" : "diff-flame") };
  if (["services", "types", "labels", "events", "series", "flamegraph", "top"].includes(path)) return { raw: recorded(path) };
  if (path === "profile") return { raw: "pprof" };
  if (path === "status") return { body: { version: "v", storage: { profiles: 1 } } };
  if (path === "processes") return { body: { processes: [], summary: "" } };
  return { status: 404, body: { error: `no such endpoint: ${path}` } };
}
