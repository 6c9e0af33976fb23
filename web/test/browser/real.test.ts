// The page against the real program: `sonde serve` is built and started here, the corpus is pushed into it as profiles of the last half hour.

import assert from "node:assert/strict";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { colours, drawn, launch, open, param, settled } from "./chromium";

const root = join(process.env.SONDE_WEB!, "..");
const corpus = process.env.SONDE_CORPUS || join(dirname(root), "shared/corpus");
// SONDE_URL names a server that runs and holds the corpus already.
const given = process.env.SONDE_URL;
const missing = !given && !existsSync(corpus) && `no corpus of profiles: set SONDE_CORPUS, there is no ${corpus}`;
if (missing) console.log(`SKIPPED, the page is not tested against the real server: ${missing}`);

let browser: Browser;
let child: ChildProcess | undefined;
let dir = "";
let url = given ?? "";

before(async () => {
  if (missing) return;
  browser = await launch();
  if (given) return;
  dir = mkdtempSync(join(tmpdir(), "sonde-web-"));
  const binary = join(dir, "sonde");
  execFileSync("go", ["build", "-o", binary, "./cmd/sonde"], { cwd: root, stdio: "inherit" });
  url = `http://127.0.0.1:${await freePort()}`;
  child = spawn(binary, ["serve", "--listen", url.slice(7), "--data", join(dir, "data"), "--discover=false"], { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr!.on("data", (d) => (log += d));
  await ready(() => log);
  await pushCorpus();
});

after(async () => {
  await browser?.close();
  if (child && child.exitCode === null) {
    const gone = new Promise((done) => child!.on("exit", done));
    child.kill("SIGTERM");
    await gone;
  }
  if (dir) rmSync(dir, { recursive: true, force: true });
});

function freePort(): Promise<number> {
  return new Promise((done) => {
    const s = createServer().listen(0, "127.0.0.1", () => {
      const { port } = s.address() as AddressInfo;
      s.close(() => done(port));
    });
  });
}

async function ready(log: () => string): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (child!.exitCode !== null) throw new Error(`start sonde serve: exit status ${child!.exitCode}\n${log()}`);
    const ok = await fetch(`${url}/readyz`).then((r) => r.ok, () => false);
    if (ok) return;
    await new Promise((r) => setTimeout(r, 100));
  }
  throw new Error(`start sonde serve: not ready within 30 s\n${log()}`);
}

/** pushCorpus pushes up to 20 profiles of each service and type, one each 90 s, the last ones now. The second half is of another version. */
async function pushCorpus(): Promise<void> {
  const end = Date.now() - 10_000;
  const posts: (() => Promise<void>)[] = [];
  for (const service of readdirSync(corpus)) {
    for (const type of ["cpu", "heap", "goroutine", "mutex", "block"]) {
      const folder = join(corpus, service, type);
      if (!existsSync(folder)) continue;
      const files = readdirSync(folder).filter((f) => f.endsWith(".pb.gz")).sort().slice(-20);
      files.forEach((f, i) => {
        const start = end - (files.length - i) * 90_000;
        const q = new URLSearchParams({ service, type, start: String(start), end: String(start + 90_000), instance: `${service}-1`, "label.service_version": i < files.length / 2 ? "v1.4.0" : "v1.5.0" });
        posts.push(async () => {
          const res = await fetch(`${url}/api/v1/profiles?${q}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: readFileSync(join(folder, f)) });
          if (!res.ok) throw new Error(`push ${service}/${type}/${f}: ${res.status} ${await res.text()}`);
        });
      });
    }
  }
  const worker = async () => {
    for (let p = posts.pop(); p; p = posts.pop()) await p();
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
}

const num = (s: string) => Number(s.replace(/,/g, ""));

test("the real server: a flame graph, a table, the same total in both", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/?query=prometheus&type=cpu:cpu`);
  await drawn(page);
  assert.ok((await colours(page)) > 20);
  assert.ok((await page.locator(".functions tbody tr").count()) > 20);
  const api = new URLSearchParams({ query: "prometheus", type: "cpu", from: "now-1h" });
  const flame = await (await fetch(`${url}/api/v1/flamegraph?${api}`)).json();
  const top = await (await fetch(`${url}/api/v1/top?${api}`)).json();
  assert.equal(flame.total, top.total);
  assert.equal(flame.value[0], flame.total);
  await done();
});

test("the real server: every type of every service is drawn", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/`);
  await drawn(page);
  const types = await page.locator("select.type option").evaluateAll((os) => os.map((o) => (o as HTMLOptionElement).value));
  assert.ok(types.includes("cpu:cpu") && types.includes("heap:inuse_space") && types.includes("goroutine:goroutine"), types.join());
  for (const t of types) {
    await page.locator("select.type").selectOption(t);
    await page.waitForFunction((t) => new URLSearchParams(location.search).get("type") === t, t);
    await settled(page);
    assert.equal(await page.locator(".error").count(), 0, t);
    assert.equal(param(page, "type"), t);
  }
  const services = given ? ["prometheus"] : readdirSync(corpus).filter((s) => existsSync(join(corpus, s, "cpu")));
  assert.ok(services.length >= 1);
  await page.locator("select.type").selectOption("cpu:cpu");
  for (const s of services) {
    await page.locator("select.service").selectOption(s);
    await drawn(page);
    assert.equal(await page.locator(".error").count(), 0, s);
    assert.ok((await colours(page)) > 10, s);
  }
  await done();
});

test("the real server: a diff of two versions", { skip: missing }, async () => {
  const q = new URLSearchParams({ query: '{service_name="prometheus",service_version="v1.5.0"}', base_query: '{service_name="prometheus",service_version="v1.4.0"}', type: "cpu:cpu", base_from: "now-1h", base_to: "now", normalize: "share" });
  const { page, done } = await open(browser, `${url}/?${q}`);
  await drawn(page);
  assert.match(await page.locator(".flame-panel .total").innerText(), /^100 % of [\d.]+ s → 100 % of [\d.]+ s$/);
  assert.match(await page.locator(".functions tbody td.n").nth(2).innerText(), /^[+−]/);
  await done();
});

test("the real server: search, focus and the share of both", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/?query=prometheus&type=cpu:cpu&q=runtime.`);
  await drawn(page);
  const share = /^([\d.,]+) % in ([\d,]+) functions$/.exec(await page.locator(".match").innerText());
  assert.ok(share && num(share[1]) > 0 && num(share[1]) <= 100);
  await page.locator(".functions tbody tr:not(.space)").first().hover();
  await page.locator(".functions tbody tr:not(.space) .only").first().click();
  await page.waitForFunction(() => document.querySelectorAll("canvas.flame").length === 2);
  await done();
});

test("the real server: callers and callees, lines, and stacks with and without functions", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/?query=prometheus&type=cpu:cpu&frames=line`);
  await drawn(page);
  const names = await page.locator(".functions td.name").evaluateAll((tds) => tds.map((td) => td.getAttribute("title")!.split("\n")[0]));
  assert.ok(names.length > 10 && names.filter((n) => /:\d+$/.test(n)).length > names.length / 2, names.slice(0, 5).join());
  await page.getByLabel("What a frame is").selectOption("function");
  await drawn(page);
  const total = async () => page.locator(".flame-panel .total").innerText();
  const all = await total();
  await page.locator(".functions tbody tr:not(.space) td.n").first().click();
  const panel = page.getByRole("region", { name: "Callers and callees" });
  await panel.locator(".side tbody tr").first().waitFor();
  await page.goto(`${url}/?query=prometheus&type=cpu:cpu&focus=${encodeURIComponent("^runtime\\.gcBgMarkWorker$")}`);
  await drawn(page);
  const only = await total();
  await page.goto(`${url}/?query=prometheus&type=cpu:cpu&ignore=${encodeURIComponent("^runtime\\.gcBgMarkWorker$")}`);
  await drawn(page);
  const rest = await total();
  assert.ok(all !== only && all !== rest && only !== rest, `${all} is ${only} and ${rest}`);
  await done();
});

test("the real server: functions by the certainty of their change", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/?query=prometheus&type=cpu:cpu&from=now-15m&to=now&base_from=now-30m&base_to=now-15m&sort=sure`);
  await page.waitForFunction(() => /\d+ windows of 1m against \d+/.test(document.querySelector(".windows")?.textContent ?? ""));
  await drawn(page);
  assert.ok((await page.locator(".functions tbody tr:not(.space)").count()) > 10);
  for (const normalize of ["cpu", "instance", "share", "none"]) {
    await page.getByLabel("Make the sides comparable").selectOption(normalize);
    await drawn(page);
    assert.equal(await page.locator(".error").count(), 0, normalize);
  }
  await done();
});

test("the real server: pins what is shown", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/?query=prometheus&type=cpu:cpu`);
  await drawn(page);
  await page.getByRole("button", { name: "Share and export" }).click();
  await page.getByRole("button", { name: /pin this/ }).click();
  await page.getByLabel("Link to what is pinned").waitFor();
  const { pins } = await (await fetch(`${url}/api/v1/pins`)).json();
  assert.equal(pins.length, 1);
  await done();
});

test("the real server: a selector that cannot be read is said so", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/?query=${encodeURIComponent('{service_name=')}&type=cpu`);
  await page.locator(".error strong").first().waitFor();
  assert.ok((await page.locator(".error strong").first().innerText()).length > 10);
  await done(/status of 400/);
});

test("the real server: the pprof download is a gzipped profile", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/?query=prometheus&type=cpu:cpu`);
  await drawn(page);
  await page.getByRole("button", { name: "Share and export" }).click();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "download pprof" }).click()]);
  const data = readFileSync(await download.path());
  assert.deepEqual([...data.subarray(0, 2)], [0x1f, 0x8b]);
  await done();
});

test("the real server: the fleet's processes lead to their profiles, coverage and captures load", { skip: missing }, async () => {
  const { page, done } = await open(browser, `${url}/fleet?state=all`);
  const idle = () => page.waitForFunction(() => document.querySelector(".fleet") && !document.querySelector('[aria-busy="true"]'));
  await idle();
  const services = await page.locator(".rows tbody td:first-child").allInnerTexts();
  assert.ok(services.includes("prometheus"), services.join());
  for (const tab of ["coverage", "captures"]) {
    await page.getByRole("link", { name: tab, exact: true }).click();
    await page.waitForFunction((t) => document.querySelector("nav a[aria-current]")?.textContent === t, tab);
    await idle();
    assert.equal(await page.locator(".error").count(), 0, tab);
  }
  await page.goto(`${url}/fleet?state=all&service=prometheus`);
  await idle();
  await page.locator(".rows tbody a").first().click();
  await drawn(page);
  assert.match(param(page, "query")!, /^\{service_name="prometheus",service_instance_id="/);
  assert.ok((await colours(page)) > 20);
  await done();
});

/** pushMetrics pushes what a program instrumented by OpenTelemetry tells of its runtime: every 15 s of the last 20 minutes. */
async function pushMetrics(): Promise<void> {
  const end = Date.now() - 5000, start = end - 20 * 60_000;
  const times = Array.from({ length: 81 }, (_, i) => start + i * 15_000);
  const nano = (ms: number) => `${ms}000000`;
  const points = (value: (i: number) => object, attributes: object[] = []) => times.map((t, i) => ({ startTimeUnixNano: nano(start), timeUnixNano: nano(t), attributes, ...value(i) }));
  const total = (name: string, unit: string, isMonotonic: boolean, dataPoints: object[]) => ({ name, unit, sum: { aggregationTemporality: 2, isMonotonic, dataPoints } });
  const metrics = [
    total("process.cpu.time", "s", true, points((i) => ({ asDouble: i * 15 * 0.5 }), [{ key: "cpu.mode", value: { stringValue: "user" } }])),
    total("process.memory.usage", "By", false, points(() => ({ asInt: String(512 * 2 ** 20) }))),
    total("go.goroutine.count", "{goroutine}", false, points(() => ({ asInt: "120" }))),
    total("go.memory.gc.goal", "By", false, points(() => ({ asInt: String(256 * 2 ** 20) }))),
    { name: "go.schedule.duration", unit: "s", histogram: { aggregationTemporality: 2, dataPoints: points((i) => ({ count: String(100 * i), sum: i * 0.1, bucketCounts: [String(90 * i), String(10 * i), "0"], explicitBounds: [0.001, 0.01] })) } },
  ];
  const attributes = Object.entries({ "service.name": "prometheus", "service.instance.id": "prometheus-1", "host.name": "n1" }).map(([key, stringValue]) => ({ key, value: { stringValue } }));
  const res = await fetch(`${url}/v1/metrics`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ resourceMetrics: [{ resource: { attributes }, scopeMetrics: [{ metrics }] }] }) });
  if (!res.ok) throw new Error(`push metrics: ${res.status} ${await res.text()}`);
}

test("the real server: metrics are on one time line with the profiles, and every chart's query is understood", { skip: missing }, async () => {
  await pushMetrics();
  const told = await fetch(`${url}/api/v1/events`, { method: "POST", body: JSON.stringify({ service: "prometheus", text: "feature x on" }) });
  assert.ok(told.ok, await told.text());
  const { page, done } = await open(browser, `${url}/?query=prometheus&from=now-15m`);
  await drawn(page);
  await page.getByRole("link", { name: "runtime", exact: true }).click();
  const idle = () => page.waitForFunction(() => document.querySelector("main section") && !document.querySelector('[aria-busy="true"]'));
  await idle();
  assert.deepEqual([param(page, "query"), param(page, "from")], ["prometheus", "now-15m"]);
  assert.equal(await page.locator(".error").count(), 0, await page.locator("main").innerText());
  const values = async (chart: string) => (await page.locator(`#about-${chart} .values li`).allInnerTexts()).map((t) => t.replace(/\s+/g, " ").trim());
  assert.ok((await values("cpu")).includes("process 500 mcores"), (await values("cpu")).join());
  assert.ok((await values("cpu")).some((v) => v.startsWith("in profiles")), (await values("cpu")).join());
  assert.deepEqual(await values("memory"), ["RSS 512 MiB", "heap goal 256 MiB"]);
  assert.deepEqual(await values("goroutines"), ["goroutines 120"]);
  assert.deepEqual(await values("latency"), ["p99 9.10 ms", "p50 556 µs"]);
  assert.match(await page.locator(".events").innerText(), /feature x on/);
  await page.getByLabel("Group by").selectOption("service_instance_id");
  await page.waitForFunction(() => document.querySelector(".groups")?.textContent?.includes("n1"));
  await idle();
  assert.equal(await page.locator(".error").count(), 0);
  for (const tab of ["GC cycles", "raw lines", "builds", "vulnerabilities"]) {
    await page.getByRole("navigation").getByRole("link", { name: tab, exact: true }).click();
    await page.waitForFunction((t) => document.querySelector("nav a[aria-current]")?.textContent === t, tab);
    await idle();
    assert.equal(await page.locator(".error").count(), 0, `${tab}: ${await page.locator("main").innerText()}`);
  }
  await page.getByRole("link", { name: "profiles", exact: true }).click();
  await drawn(page);
  assert.equal(param(page, "query"), "prometheus");
  await done();
});
