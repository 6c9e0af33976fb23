// The runtime page in a real Chromium, against answers as Prometheus' and Sonde's API give them.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { contrast, launch, open, param } from "./chromium";
import { FixtureServer, type Answer } from "./server";

let browser: Browser;
let server: FixtureServer;

before(async () => {
  browser = await launch();
  server = await FixtureServer.start();
});
after(async () => {
  await browser.close();
  await server.close();
});
afterEach(() => {
  server.override = () => undefined;
  server.asked = [];
});

const at = Date.UTC(2026, 10, 21, 12, 0, 0);
const fixed = `from=${new Date(at - 36e5).toISOString()}&to=${new Date(at).toISOString()}`;

const prom = (result: unknown[]): Answer => ({ body: { status: "success", data: { resultType: "matrix", result } } });

/** How large each line is, by the metric that it is made of. */
const sizes: [string, number][] = [
  ["histogram_quantile(0.99", 0.0031], ["histogram_quantile(0.5", 0.00042], ["gctrace_pause", 0.0052], ["gc_total_cpu", 0.21], ["process_cpu", 2.4], ["spec_cpu", 4], ["waiting", 0.07], ["periods", 0.12], ["spec_memory", 2 ** 31],
  ["gomemlimit", 1.8 * 2 ** 30], ["resident", 1.3 * 2 ** 30], ["heap_live", 0.5 * 2 ** 30], ["heap_goal", 1.1 * 2 ** 30], ["heap_objects", 0.8 * 2 ** 30], ["allocs_bytes", 3e8], ["gc_cycles_total", 42], ["forced", 0.5], ["goroutines", 1843], ["threads", 31],
];

const instances = ["0a1b2c3d", "1a1b2c3d", "2a1b2c3d"].map((s) => s.padEnd(32, "0"));
const wave = (i: number, k: number) => 1 + 0.2 * Math.sin(i / 7 + k) + (i > 70 ? 0.35 : 0) + 0.03 * Math.sin(i * 2.1 + k);

/** metrics answers PromQL as a collector with a few processes does: each line of the query with values of its size. none are lines that have no series. */
function metrics(none: RegExp = /schedtrace/): (path: string, p: URLSearchParams) => Answer | undefined {
  return (path, p) => {
    const query = p.get("query") ?? "";
    if (path === "/prometheus/api/v1/query" && query.startsWith("bottomk(1,")) return prom([{ metric: { service_instance_id: instances[0] }, value: [at / 1000, "6"] }]);
    // It lived the last 75 s.
    if (path === "/prometheus/api/v1/query" && query.endsWith("[5m]")) return prom([{ metric: { service_instance_id: instances[0] }, values: [0, 15, 30, 45, 60, 75].map((t) => [at / 1000 - 75 + t, "1"]) }]);
    if (path === "/prometheus/api/v1/query" && query.startsWith("topk(")) {
      const by = /by \((\w+)/.exec(query)![1];
      const values = by === "service_instance_id" ? instances : by === "service_name" ? ["cart", "checkout", "etcd"] : ["v1.4.0", "v1.5.0"];
      return prom(values.map((v, i) => ({ metric: { [by]: v, ...(by === "service_instance_id" ? { k8s_pod_name: `cart-${i}` } : {}) }, value: [at / 1000, String(3 - i)] })));
    }
    if (path !== "/prometheus/api/v1/query_range") return undefined;
    const [start, end, step] = ["start", "end", "step"].map((k) => Number(p.get(k)));
    const parts = query.split(" or label_replace(").filter((part) => !none.test(part));
    const groups = /(\w+)=~"([^"]*)"/.exec(query);
    const by = groups && query.includes(`by (${groups[1]}`) ? groups[1] : "";
    return prom(parts.flatMap((part, k) => {
      const line = /"line", "(\w+)"/.exec(part)![1], size = sizes.find(([name]) => part.includes(name))?.[1] ?? 1;
      const flat = /limit/.test(line);
      return (by ? groups![2].split("|") : [""]).map((g, j) => ({
        metric: { line, ...(by ? { [by]: g.replace(/\\\\/g, "") } : {}) },
        values: Array.from({ length: Math.floor((end - start) / step) + 1 }, (_, i) => [start + i * step, String(flat ? size : size * wave(i, k + j) / (by ? j + 1 : 1))]),
      }));
    }));
  };
}

const event = (id: number, kind: string, minutes: number, text: string, attrs = {}) => ({ id, time: at - minutes * 6e4, kind, service: "cart", text, attrs });
const happened = { events: [
  event(1, "deploy", 25, "cart changed from v1.4.0 to v1.5.0", { from_version: "v1.4.0", to_version: "v1.5.0" }), event(2, "restart", 24.5, "cart: 3 processes of v1.5.0 replaced others"),
  event(3, "change", 12, "cart: GOGC changed from 100 to 50 in 3 processes"), event(4, "oom_kill", 5, "cart: the kernel killed a process for its memory"), event(5, "note", 40, "feature x on"),
] };

const bins = (p: URLSearchParams): Answer => {
  const [from, to, step] = ["from", "to", "step"].map((k) => Number(p.get(k)) * (k === "step" ? 1000 : 1));
  return { body: { type: { id: "cpu:cpu", profile: "cpu", sample: "cpu", unit: "nanoseconds", kind: "interval" }, from, to, step, series: [{ labels: {}, total: 1, values: Array.from({ length: Math.round((to - from) / step) }, (_, i) => 2.2e6 * step * wave(i, 0)) }] } };
};

/** live answers everything that the page asks for. */
function live(path: string, p: URLSearchParams): Answer | undefined {
  if (path === "events") return { body: happened };
  if (path === "series") return bins(p);
  return metrics()(path, p);
}

const url = (query = "") => `${server.url}/runtime?query=cart&${fixed}${query}`;
const idle = (page: Page) => page.waitForFunction(() => document.querySelector("main section") && !document.querySelector('[aria-busy="true"]'));
const asked = (path: string) => server.asked.filter((a) => a.startsWith(path)).map((a) => new URLSearchParams(a.slice(a.indexOf("?"))));
const shot = async (page: Page, name: string) => void (process.env.SONDE_SHOTS && (await page.screenshot({ path: `${process.env.SONDE_SHOTS}/runtime-${name}.png` })));

test("time line: every chart is one query, drawn on one grid with the profiles", async () => {
  server.override = live;
  const { page, done } = await open(browser, url());
  await idle(page);
  const queries = asked("/prometheus/api/v1/query_range");
  assert.equal(queries.length, await page.locator("canvas, .absent").count());
  assert.equal(new Set(queries.map((q) => `${q.get("start")} ${q.get("end")} ${q.get("step")}`)).size, 1, "one grid");
  assert.ok(queries.every((q) => q.get("query")!.includes('service_name="cart"')));
  // Samples 15 s apart of a process that lived only 75 s: 5 min ÷ 6 samples would be windows of 150 s.
  assert.ok(queries.some((q) => q.get("query")!.includes("rate(process_cpu_seconds_total{service_name=\"cart\"}[45s])")), queries[0].get("query")!);
  assert.deepEqual(await page.locator("#about-cpu .values li").evaluateAll((l) => l.map((li) => (li as HTMLElement).title)), ["process", "in the GC", "cgroup limit", "in profiles"]);
  assert.match(await page.locator("#about-runqueue + .absent").innerText(), /sonde run --schedtrace/);
  await shot(page, "charts-light");
  await done();
});

test("one cursor for all charts, a click opens that time's profile, a drag zooms all and the back button undoes it", async () => {
  server.override = live;
  const { page, done } = await open(browser, url());
  await idle(page);
  const box = (await page.locator('[data-chart="memory"]').boundingBox())!;
  const middle = box.x + 72 + (box.width - 96) / 2;
  await page.mouse.move(middle, box.y + 40);
  await page.waitForFunction(() => document.querySelector(".lane .about")!.textContent === "2026-11-21 11:30:00");
  assert.equal(await page.locator(".cursor").count(), 1);
  const line = (await page.locator(".cursor").boundingBox())!;
  assert.ok(Math.abs(line.x - middle) < 8 && line.height > 500, "over all charts");
  const pauseThen = await page.locator("#about-pause .values b").first().innerText();
  await page.mouse.move(box.x + box.width - 40, box.y + 40);
  await page.waitForFunction((then) => document.querySelector("#about-pause .values b")!.textContent !== then, pauseThen);
  await page.mouse.move(middle, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(middle + 200, box.y + 45, { steps: 4 });
  await page.waitForFunction(() => !document.querySelector<HTMLElement>(".selection")!.hidden);
  await shot(page, "drag");
  await page.mouse.up();
  await page.waitForFunction(() => location.search.includes("from=2026-11-21T11%3A3"));
  await idle(page);
  const last = asked("/prometheus/api/v1/query_range").slice(-9);
  assert.equal(new Set(last.map((q) => q.get("start"))).size, 1);
  assert.ok(Date.parse(param(page, "from")!) > at - 31 * 6e4);
  await page.goBack();
  await page.waitForFunction((from) => new URLSearchParams(location.search).get("from") === from, new Date(at - 36e5).toISOString());
  await idle(page);
  await page.mouse.click(middle, box.y + 40);
  await page.waitForURL(/\/\?/);
  assert.equal(param(page, "type"), "heap:inuse_space");
  assert.equal(param(page, "query"), "cart");
  assert.ok(Date.parse(param(page, "from")!) < at - 30 * 6e4 && Date.parse(param(page, "to")!) > at - 30 * 6e4);
  await done();
});

test("by keyboard: the cursor, the profile, the zoom", async () => {
  server.override = live;
  const { page, done } = await open(browser, url());
  await idle(page);
  await page.locator('[data-chart="goroutines"]').focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Shift+ArrowLeft");
  await page.waitForFunction(() => document.querySelector(".lane .about")!.textContent === "2026-11-21 11:54:30");
  await page.keyboard.press("+");
  await page.waitForFunction(() => new URLSearchParams(location.search).get("from") === "2026-11-21T11:39:30Z");
  await idle(page);
  await page.locator('[data-chart="goroutines"]').press("Enter");
  await page.waitForURL(/type=goroutine/);
  await done();
});

test("grouped: those that use the most CPU, one colour each in all charts, of one quantity", async () => {
  server.override = live;
  const { page, done } = await open(browser, url());
  await idle(page);
  await page.getByLabel("Group by").selectOption("service_instance_id");
  await page.waitForFunction(() => document.querySelectorAll(".groups li").length === 3);
  await idle(page);
  assert.equal(param(page, "by"), "service_instance_id");
  assert.deepEqual(await page.locator(".groups li").allInnerTexts(), ["cart-0", "cart-1", "cart-2"]);
  const query = asked("/prometheus/api/v1/query_range").at(-1)!.get("query")!;
  assert.match(query, /service_instance_id=~"0a1b2c3d0+\|1a1b2c3d0+\|2a1b2c3d0+"/);
  assert.equal(await page.locator('[data-chart="memory"] canvas').getAttribute("data-lines"), "3");
  await page.getByLabel("Memory: what is shown").selectOption("live");
  await idle(page);
  assert.equal(param(page, "show"), "memory:live");
  await shot(page, "instances");
  await page.getByLabel("Group by").selectOption("max");
  await page.waitForFunction(() => !document.querySelector(".groups li"));
  await idle(page);
  assert.ok(asked("/prometheus/api/v1/query_range").some((q) => q.get("query")!.startsWith("label_replace(max (rate(process_cpu")));
  await page.goto(url("&by=service_instance_id"));
  await idle(page);
  await page.locator(".groups a").first().click();
  await page.waitForFunction(() => location.search.includes("by=none"));
  assert.equal(param(page, "query"), `{service_name="cart",service_instance_id="${instances[0]}"}`);
  await done();
});

test("each chart has a table twin, kept in the address", async () => {
  server.override = live;
  const { page, done } = await open(browser, url());
  await idle(page);
  await page.getByRole("button", { name: "Memory as a table" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".twin tbody tr").length > 100);
  assert.deepEqual((await page.locator(".twin thead th").allInnerTexts()).slice(1), ["RSS", "heap objects", "heap live", "heap goal", "GOMEMLIMIT", "cgroup limit"]);
  assert.match(await page.locator(".twin tbody tr").first().innerText(), /2026-11-21 12:00:00\s+\d\.\d\d GiB/);
  await page.reload();
  await page.waitForFunction(() => document.querySelectorAll(".twin tbody tr").length > 100);
  assert.equal(await page.locator("canvas").count(), 7);
  await shot(page, "table");
  await done();
});

test("events: over all charts, in a list, with the way to what they changed", async () => {
  server.override = live;
  const { page, done } = await open(browser, url());
  await idle(page);
  assert.equal(await page.locator(".over .line").count(), 5);
  const rows = page.locator(".events tbody tr");
  assert.deepEqual(await rows.locator("td:nth-child(2)").allInnerTexts(), ["✕ oom_kill", "◆ change", "↻ restart", "▲ deploy", "✎ note"]);
  const link = new URL((await rows.nth(3).getByRole("link").getAttribute("href"))!, server.url).searchParams;
  assert.equal(link.get("query"), '{service_name="cart"}');
  assert.equal(link.get("base_to"), link.get("from"));
  assert.equal(Date.parse(link.get("from")!), at - 25 * 6e4);
  await page.getByRole("button", { name: /^oom_kill 11:55:00/ }).click();
  await page.waitForFunction(() => document.querySelector(".events tr.picked")?.textContent?.includes("oom_kill"));
  await shot(page, "events");
  await page.getByRole("button", { name: "↻ restart", exact: true }).click();
  await page.waitForFunction(() => document.querySelectorAll(".over .line").length === 4);
  assert.equal(param(page, "hide"), "restart");
  await done();
});

test("without metrics the page says how to get some; errors say what cures them, the token is asked for", async () => {
  server.override = (path, p) => (path === "events" ? { body: { events: [] } } : path === "series" ? { body: { ...(bins(p).body as object), series: [] } } : path.startsWith("/prometheus") ? prom([]) : undefined);
  let { page, done } = await open(browser, url());
  await idle(page);
  assert.match(await page.locator(".none").first().innerText(), /No runtime metrics of cart in this range[\s\S]*sonde run --service cart -- \.\/cart/);
  assert.match(await page.locator(".events").innerText(), /sonde event "feature x on" --service cart/);
  await shot(page, "empty");
  await done();
  server.override = (path) => (path.startsWith("/prometheus") ? { status: 422, body: { status: "error", errorType: "execution", error: "query processing would load too many samples" } } : undefined);
  ({ page, done } = await open(browser, url()));
  await idle(page);
  assert.match(await page.locator(`[role="alert"]`).first().innerText(), /metrics: query processing would load too many samples/);
  await done(/422/);
  server.override = (path, p, req) => (path === "types" ? { status: 400, body: { error: 'parameter query: unexpected "~}": want one of = != =~ !~ after label c' } } : req.headers.authorization ? live(path, p) : { status: 401, body: { error: "this collector wants a token" } });
  ({ page, done } = await open(browser, url()));
  await page.locator("dialog[open] input").fill("secret");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll("canvas[data-lines]").length === 8);
  await page.goto(`${server.url}/runtime?query=${encodeURIComponent('{a="b",c~}')}`);
  await page.waitForFunction(() => document.querySelector('[role="alert"]')?.textContent?.includes('unexpected "~}": want one of = != =~ !~ after label c'));
  await page.goto(`${server.url}/runtime?from=soon`);
  await page.waitForFunction(() => document.querySelector('[role="alert"]')?.textContent?.includes("cannot be read"));
  await done(/40[01]/);
});

/** traced are the raw samples of n cycles of one process, 20 s apart. */
function traced(path: string, p: URLSearchParams): Answer | undefined {
  const query = p.get("query") ?? "";
  if (path !== "/prometheus/api/v1/query" || query.startsWith("bottomk(1,") || query.endsWith("[5m]")) return undefined;
  if (query.startsWith("topk(")) return prom([{ metric: { service_instance_id: instances[0], host_name: "n1", process_pid: "4711" }, value: [0, "90"] }, { metric: { service_instance_id: instances[1], host_name: "n2", process_pid: "12" }, value: [0, "30"] }]);
  const second = query.includes(instances[1]);
  const series = (metric: Record<string, string>, f: (i: number) => number) => ({ metric, values: Array.from({ length: second ? 30 : 90 }, (_, i) => [at / 1000 - 20 * (90 - i) + 0.123, String(f(i))]) });
  return prom([
    series({ __name__: "gctrace_cycle" }, (i) => i + 1), series({ __name__: "gctrace_forced" }, (i) => Number(i === 88)), series({ __name__: "gctrace_concurrent_seconds" }, () => 0.0042), series({ __name__: "gctrace_cpu_ratio" }, () => 0.02),
    series({ __name__: "gctrace_pause_seconds", phase: "sweep_termination" }, () => 0.00002), series({ __name__: "gctrace_pause_seconds", phase: "mark_termination" }, (i) => 0.00001 * (i + 1)),
    series({ __name__: "gctrace_cpu_seconds", phase: "assist" }, () => 0.001), series({ __name__: "gctrace_cpu_seconds", phase: "background" }, () => 0.003), series({ __name__: "gctrace_cpu_seconds", phase: "idle" }, () => 0),
    series({ __name__: "gctrace_heap_bytes", at: "start" }, () => 64 * 2 ** 20), series({ __name__: "gctrace_heap_bytes", at: "end" }, () => 66 * 2 ** 20), series({ __name__: "gctrace_heap_bytes", at: "live" }, () => 31 * 2 ** 20),
    series({ __name__: "gctrace_goal_bytes" }, () => 65 * 2 ** 20), series({ __name__: "gctrace_procs" }, () => 8),
  ]);
}

const printed = { from: at, to: at, lines: [
  { time: at - 12_000, service: "cart", instance: instances[0], source: "stderr", text: "gc 89 @120.1s 2%: 0.02+4.2+0.90 ms clock, 0.16+1.0/3.0/0+7.2 ms cpu, 64->66->31 MB, 65 MB goal, 0 MB stacks, 0 MB globals, 8 P (forced)" },
  { time: at - 2000, service: "cart", instance: instances[1], source: "stderr", text: "<b>gc 90</b>" },
], more: true, next: at - 12_000 };

test("GC cycles: a table of one process, and from a cycle to its raw line", async () => {
  server.override = (path, p) => (path === "lines" ? { body: printed } : traced(path, p));
  const { page, done } = await open(browser, url("&tab=gc"));
  await idle(page);
  assert.equal(await page.locator(".cycles tbody tr").count(), 90);
  assert.deepEqual(await page.getByLabel("Process", { exact: true }).locator("option").allInnerTexts(), ["n1:4711: 90 cycles", "n2:12: 30 cycles"]);
  const figures = (await page.locator(".figures").innerText()).replace(/\s+/g, " ");
  assert.equal(figures, "90 cycles pause p50 470 µs p99 920 µs longest 920 µs all pauses 42.8 ms forced 1");
  assert.deepEqual(await page.locator(".cycles tbody tr").nth(1).locator("td").allInnerTexts(), ["2026-11-21 11:59:20.123", "89", "910 µs", "4.20 ms", "1.00 ms", "3.00 ms", "0 s", "2.00 %", "64.0 MiB", "66.0 MiB", "31.0 MiB", "65.0 MiB", "8", "forced", "raw lines what allocated"]);
  await shot(page, "gc");
  await page.getByLabel("Process", { exact: true }).selectOption({ index: 1 });
  await page.waitForFunction(() => document.querySelectorAll(".cycles tbody tr").length === 30);
  await page.goBack();
  await page.goto(url("&tab=gc"));
  await idle(page);
  await page.getByRole("link", { name: "raw lines" }).nth(2).click();
  await page.waitForFunction(() => document.querySelector(".raw"));
  assert.deepEqual([param(page, "grep"), param(page, "instance")], ["^gc 89 @", instances[0]]);
  const q = asked("lines").at(-1)!;
  assert.equal(Number(q.get("to")) - Number(q.get("from")), 10_000);
  assert.match(await page.locator(".raw").innerText(), /2026-11-21\s+11:59:48\.000 cart 0a1b2c3d\s+gc 89 @120\.1s[^\n]*\s+11:59:58\.000 cart 1a1b2c3d\s+<b>gc 90<\/b>/);
  assert.match(await page.locator(".tools").innerText(), /the newest 2 lines, there are older ones/);
  assert.equal(q.get("order"), "newest");
  await shot(page, "lines");
  await done();
});

test("GC cycles of a process that has ended: the last ones, whenever they were", async () => {
  const end = at - 10 * 6e4, every = 100; // 2,000 cycles, the last ten minutes ago
  const times = Array.from({ length: 2000 }, (_, i) => end - every * (1999 - i));
  const within = (from: number, to: number) => times.filter((t) => t > from && t <= to);
  server.override = (path, p) => {
    const query = p.get("query") ?? "", seconds = 1000 * Number(/\[(\d+)s\]/.exec(query)?.[1] ?? 0);
    if (query.startsWith("topk(")) return prom([{ metric: { service_instance_id: instances[0] }, value: [0, "2000"] }]);
    if (path.endsWith("query_range")) {
      const [start, to, step] = ["start", "end", "step"].map((k) => 1000 * Number(p.get(k)));
      return prom([{ metric: {}, values: Array.from({ length: Math.round((to - start) / step) + 1 }, (_, i) => start + i * step).map((t) => [t / 1000, String(within(t - seconds, t).length)]) }]);
    }
    if (!path.endsWith("/query")) return undefined;
    const to = 1000 * Number(p.get("time"));
    return prom([{ metric: { __name__: "gctrace_cycle" }, values: within(to - seconds, to).map((t) => [t / 1000, String(times.indexOf(t) + 1)]) }]);
  };
  const { page, done } = await open(browser, url("&tab=gc"));
  await idle(page);
  assert.match(await page.locator(".figures").innerText(), /500\s+cycles of 2,000: the last ones/);
  const cells = page.locator(".cycles tbody tr td:nth-child(2)");
  assert.deepEqual([await cells.count(), await cells.first().innerText(), await cells.last().innerText()], [500, "2000", "1501"]);
  await done();
});

test("raw lines: the newest first, older and newer pages, long ones inside the panel", async () => {
  const line = (i: number) => ({ time: at - i, service: "cart", instance: instances[0], source: "stderr", text: `SCHED ${i}ms: gomaxprocs=64 idleprocs=0 runqueue=0 [${" 1".repeat(200)} ] end ${i}` });
  // 5,000 lines, one a millisecond, as the API answers for them.
  server.override = (path, p) => {
    if (path !== "lines") return undefined;
    const from = Number(p.get("from")), to = Number(p.get("to")), limit = Number(p.get("limit")), newest = p.get("order") === "newest";
    const all = Array.from({ length: 5000 }, (_, i) => line(5000 - i)).filter((l) => l.time >= from && l.time < to);
    const more = all.length > limit, lines = newest ? all.slice(-limit) : all.slice(0, limit);
    return { body: { from, to, lines, more, next: !more ? undefined : newest ? lines[0].time : all[limit].time } };
  };
  const { page, done } = await open(browser, url("&tab=lines"), { viewport: { width: 900, height: 800 } });
  await idle(page);
  const ends = () => page.locator(".raw > div").evaluateAll((l) => [l[0], l.at(-1)!].map((d) => Number(/end (\d+)$/.exec(d.textContent!)![1])).join());
  const at2 = async (want: string) => (await page.waitForFunction((w) => [...document.querySelectorAll(".raw > div")].at(-1)?.textContent?.endsWith(`end ${w.split(",")[1]}`), want), assert.equal(await ends(), want));
  await at2("2000,1");
  assert.match(await page.locator(".tools").innerText(), /the newest 2,000 lines, there are older ones/);
  const raw = await page.locator(".raw").evaluate((el) => ({ wide: el.scrollWidth - el.clientWidth, left: el.scrollHeight - el.clientHeight - el.scrollTop, page: document.documentElement.scrollWidth - innerWidth }));
  assert.ok(raw.wide <= 0 && raw.page <= 0 && raw.left < 2, `wrapped, with the newest in view: ${JSON.stringify(raw)}`);
  await page.getByRole("button", { name: "older" }).click();
  await at2("4000,2001");
  await page.getByRole("button", { name: "older" }).click();
  await at2("5000,4001");
  assert.ok(await page.getByRole("button", { name: "older" }).isDisabled());
  await page.getByRole("button", { name: "newer" }).click();
  await at2("4000,2001");
  await page.goBack();
  await at2("5000,4001");
  await page.getByLabel("matching").fill("end");
  await page.keyboard.press("Enter");
  await at2("2000,1");
  assert.equal(param(page, "page"), null);
  await done();
});

test("in a narrow window events' lines stay inside the plots", async () => {
  server.override = live;
  const { page, done } = await open(browser, url(), { viewport: { width: 900, height: 900 } });
  await idle(page);
  // What is on top at a line's place, in the legend and in the plot of each chart?
  const over = await page.evaluate(() => {
    const lines = [...document.querySelectorAll<HTMLElement>(".over .line")];
    for (const l of lines) l.style.pointerEvents = "auto";
    return [...document.querySelectorAll<HTMLElement>(".about[id]")].map((about) => {
      about.scrollIntoView({ block: "center" });
      const on = (box: DOMRect, x: number) => document.elementsFromPoint(x, box.top + box.height / 2).findIndex((e) => e.classList.contains("line"));
      const plot = about.nextElementSibling!;
      return lines.map((l) => {
        const x = l.getBoundingClientRect().left + 0.5, top = document.elementFromPoint(x, about.getBoundingClientRect().top + about.getBoundingClientRect().height / 2)!;
        return [about.contains(top), plot.classList.contains("plot") ? on(plot.getBoundingClientRect(), x) === 0 : true];
      });
    });
  });
  assert.ok(over.length === 9 && over.flat().length === 45 && over.flat(2).every(Boolean), JSON.stringify(over));
  await done();
});

const buildID = (c: string) => c.padEnd(40, "0");
const vulnerable = {
  from: at - 36e5, to: at, types: ["cpu", "heap"], releases: "2026-11-01",
  vulns: [
    { id: "GO-2021-0113", aliases: ["CVE-2021-38561"], summary: "Out-of-bounds read in golang.org/x/text/language", module: "golang.org/x/text", found: "v0.3.5", fixed: "v0.3.7", build: buildID("b1"), services: ["cart", "checkout"], symbols: ["language.Parse"], in_binary: "yes",
      seen: [{ function: "golang.org/x/text/language.Parse", service: "cart", instances: 2, first: at - 30 * 6e4, last: at - 6e4, types: ["cpu"] }] },
    { id: "GO-2020-0015", aliases: [], summary: "Infinite loop when decoding some inputs", module: "golang.org/x/text", found: "v0.3.2", fixed: "v0.3.3", build: buildID("b2"), services: ["etcd"], symbols: [], in_binary: "unknown", seen: [] },
    { id: "GO-2022-1059", aliases: ["CVE-2022-32149"], summary: "Denial of service via crafted Accept-Language header", module: "golang.org/x/text", found: "v0.3.7", fixed: "", build: buildID("b1"), services: ["cart"], symbols: ["language.ParseAcceptLanguage"], in_binary: "no", seen: [] },
  ],
  unsupported: [{ build: buildID("b2"), version: "v3.5.0", go_version: "go1.22.3", since: "2025-02-11", services: ["etcd"] }],
  unknown: [{ build: buildID("b3"), services: ["vmagent"], why: "only its id is known" }],
  database: { modified: "2026-11-20T10:00:00Z", entries: 1234 },
};

test("vulnerabilities: what was seen running, where and when; unsupported Go; what is not known; no database", async () => {
  server.override = (path) => (path === "vulns" ? { body: vulnerable } : undefined);
  const { page, done } = await open(browser, url("&tab=vulns"));
  await idle(page);
  assert.equal(asked("vulns")[0].get("since"), String(at - 36e5));
  assert.deepEqual(await page.locator(".rows").first().locator("tbody td:first-child a").allInnerTexts(), ["GO-2021-0113", "GO-2020-0015", "GO-2022-1059"]);
  assert.equal((await page.locator(".figures").innerText()).replace(/\s+/g, " "), "1 seen running 0 in the binary, not seen 1 by version, the binary is not known 1 linked out 1 build of an unsupported Go database of 2026-11-20, 1,234 entries; profiles looked at: cpu, heap");
  const seen = page.locator(".rows").first().locator("tbody tr").first().locator("td").last();
  assert.match(await seen.innerText(), /seen golang\.org\/x\/text\/language\.Parse cart, 2 processes, 2026-11-21 11:30 to 2026-11-21 11:59, in cpu/);
  const link = new URL((await seen.getByRole("link").getAttribute("href"))!, server.url).searchParams;
  assert.deepEqual([link.get("fn"), link.get("query")], ["golang.org/x/text/language.Parse", '{service_name="cart"}']);
  assert.match(await page.locator(".rows").nth(1).innerText(), /go1\.22\.3\s+2025-02-11/);
  assert.match(await page.locator(".rows").nth(2).innerText(), /vmagent\s+only its id is known/);
  await shot(page, "vulns");
  await done();
  server.override = (path) => (path === "vulns" ? { body: { ...vulnerable, vulns: [], unsupported: [], unknown: [], database: null, note: "no database is configured" } } : undefined);
  const none = await open(browser, url("&tab=vulns"));
  await idle(none.page);
  assert.match(await none.page.locator(".none").innerText(), /looked for: no database is configured\. [\s\S]*vuln\.go\.dev\/vulndb\.zip/);
  await none.done();
});

const use = (service: string, version: string, running: number) => ({ service, version, running, processes: 3, nodes: ["n1"], first: at - 864e5, last: at - 36e5 });
const someBuilds = [
  { id: buildID("b1"), go_version: "go1.26.8", module: "example.com/cart", version: "v1.5.0", vcs_revision: "0123456789abcdef", vcs_modified: true, modules: 41, size: 23_000_000, known: true, first_seen: at - 36e5, last_seen: at, services: [use("cart", "v1.5.0", 3), use("cart-batch", "v1.5.0", 0)] },
  { id: buildID("b2"), go_version: "go1.22.3", module: "example.com/cart", version: "v1.4.0", modules: 40, size: 22_000_000, known: true, first_seen: at - 864e5, last_seen: at, services: [use("cart", "v1.4.0", 1)] },
  { id: buildID("b3"), go_version: "", module: "", version: "", modules: 0, known: false, first_seen: at - 864e5, last_seen: at, services: [use("cart", "", 1)] },
  { id: buildID("b4"), go_version: "go1.26.8", module: "example.com/a-company/with-a-long-name/of-its-own/and-folders/inside/client_golang/v2", version: "", modules: 3, known: true, first_seen: at - 864e5, last_seen: at, services: [use("cart", "v0.9.1", 1)] },
];

/** inventory answers what is known of builds. */
function inventory(path: string, p: URLSearchParams): Answer | undefined {
  if (path === "builds") return { body: { builds: someBuilds, more: false } };
  if (path === "builds/with") {
    if (p.get("version") === "<") return { status: 400, body: { error: "parameter version: no version after <", hint: "<v1.2.3, or >=v1.0.0,<v1.2.3" } };
    return { body: { module: p.get("module"), version: p.get("version"), more: false, builds: [{ ...someBuilds[0], found: { path: "golang.org/x/text", version: "v0.3.5" } }, { ...someBuilds[1], found: { path: "example.com/text", version: "", declared: "golang.org/x/text v0.3.2", unknown: true } }] } };
  }
  if (path === "builds/diff") return { body: { modules: [{ path: "golang.org/x/text", change: "up", from: "v0.3.2", to: "v0.3.5" }, { path: "example.com/new", change: "added", from: "", to: "v1.0.0" }], settings: [{ name: "go", from: "go1.22.3", to: "go1.26.8" }, { name: "-race", from: "", to: "true" }] } };
  if (path === `builds/${buildID("b1")}`) {
    return { body: { build: { id: buildID("b1"), go_version: "go1.26.8", path: "example.com/cart/cmd/cart", main: { path: "example.com/cart", version: "v1.5.0" }, deps: [{ path: "golang.org/x/text", version: "v0.3.5" }], settings: { "-race": "true", GOAMD64: "v3" }, stripped: "yes" },
      processes: [{ instance: instances[0], service: "cart", node: "n1", pid: 7, state: "running", started: at - 36e5, conditions: { GOGC: "50" } }] } };
  }
  return undefined;
}

test("builds: which run where, what differs between two, who has a module", async () => {
  server.override = inventory;
  const { page, done } = await open(browser, url("&tab=builds"));
  await idle(page);
  const rows = page.locator(".rows tbody tr");
  assert.deepEqual((await rows.first().locator("td").allInnerTexts()).map((t) => t.replace(/\s+/g, " ").trim()), [
    "b10000000000", "fromto", "cart v1.5.0 runs in 3 processes cart-batch v1.5.0 ran until 2026-11-21 11:00", "example.com/cart", "v1.5.0", "0123456789 dirty", "go1.26.8", "41", "21.9 MiB", "2026-11-21 11:00",
  ]);
  assert.match(await rows.nth(2).innerText(), /only its id is known/);
  assert.deepEqual((await rows.nth(3).locator("td").allInnerTexts()).slice(3, 9).map((t) => t.trim()), ["example.com/a-company/with-a-long-name/of-its-own/and-folders/inside/client_golang/v2", "v0.9.1", "", "go1.26.8", "3", "—"]);
  const name = rows.nth(3).locator(".module > span:last-child"), cell = (await rows.nth(3).locator("td").nth(3).boundingBox())!, box = (await name.boundingBox())!;
  assert.equal(await name.innerText(), "client_golang/v2");
  assert.ok(box.x + box.width <= cell.x + cell.width && cell.width > 300, "the path is what is shortened");
  await page.getByRole("button", { name: "Compare from b2" }).click();
  await page.getByRole("button", { name: "Compare to b1" }).click();
  const diff = page.getByRole("region", { name: "What differs" });
  await diff.locator("tbody tr").first().waitFor();
  assert.deepEqual((await diff.locator("tbody tr").allInnerTexts()).map((t) => t.replace(/\s+/g, " ").trim()), ["golang.org/x/text up v0.3.2 v0.3.5", "example.com/new added v1.0.0", "go setting go1.22.3 go1.26.8", "-race setting true"]);
  await idle(page);
  await shot(page, "builds");
  await page.getByRole("button", { name: "Close what differs" }).click();
  await page.getByRole("link", { name: "b10000000000" }).click();
  const one = page.getByRole("region", { name: "Build", exact: true });
  await one.getByText("GOAMD64=v3").waitFor();
  await one.getByText("1 process ran it").click();
  assert.match(await one.innerText(), /n1:7 running since 2026-11-21 11:00:00 GOGC=50/);
  await one.getByText("1 module").click();
  await one.getByRole("button", { name: "golang.org/x/text" }).click();
  await page.getByText("in place of golang.org/x/text v0.3.2").waitFor();
  assert.match(await rows.nth(1).innerText(), /example\.com\/text no version may be in the range/);
  await page.getByLabel("in versions").fill("<");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector('[role="alert"]')?.textContent?.includes("no version after <"));
  assert.equal(param(page, "module"), "golang.org/x/text");
  await done(/400/);
});

test("hostile names stay text, and long ones do not break the page", async () => {
  const bad = "<img src=x onerror=alert(1)>";
  server.override = (path, p) => (path === "events" ? { body: { events: [event(8, "constructor", 20, "a kind of its own"), { ...event(9, "note", 10, `${bad} ${"x".repeat(2000)}`, { [bad]: bad }), service: bad }] } } : live(path, p));
  const { page, done } = await open(browser, url());
  await idle(page);
  assert.equal(await page.locator("main img").count(), 0);
  assert.ok((await page.locator(".events").innerText()).includes(bad));
  assert.equal(await page.locator(".events tbody td:nth-child(2)").nth(1).innerText(), "○ constructor");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is no wider than the window");
  await page.setViewportSize({ width: 1000, height: 800 });
  await page.mouse.wheel(0, 300);
  await page.waitForFunction(() => scrollY > 200 && document.querySelector(".lane")!.getBoundingClientRect().top === 0);
  await shot(page, "narrow");
  await page.setViewportSize({ width: 480, height: 800 });
  const wide = await page.evaluate(() => [...document.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > innerWidth && !e.closest(".list, .legend, .values")).map((e) => e.className || e.tagName));
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `nor on a phone: ${wide.join()}`);
  await shot(page, "phone");
  await done();
});

for (const scheme of ["light", "dark"] as const) {
  test(`${scheme}: text is readable on its ground`, async () => {
    server.override = (path, p) => (path === "lines" ? { body: printed } : path === "vulns" ? { body: vulnerable } : inventory(path, p) ?? traced(path, p) ?? live(path, p));
    const { page, done } = await open(browser, url(), { colorScheme: scheme });
    for (const tab of ["time line", "GC cycles", "raw lines", "builds", "vulnerabilities"]) {
      await page.getByRole("navigation").getByRole("link", { name: tab, exact: true }).click();
      await page.waitForFunction((t) => document.querySelector("nav a[aria-current]")?.textContent === t, tab);
      await idle(page);
      const worst = await contrast(page);
      assert.ok(worst.ratio >= 4.5, `${tab}: "${worst.text}" has a contrast of ${worst.ratio.toFixed(2)}`);
      await shot(page, `${tab.replace(" ", "-")}-${scheme}`);
    }
    await done();
  });
}
