// The fleet page in a real Chromium, against answers as the API gives them.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { colours, contrast, launch, open, param } from "./chromium";
import { FixtureServer, recorded, type Answer } from "./server";

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

interface Proc {
  instance: string;
  service: string;
  node: string;
  gatherer: string;
  state: string;
  [more: string]: unknown;
}

function proc(i: number, change: Partial<Proc> = {}): Proc {
  const gatherer = ["agent", "perf", "scrape", ""][i % 4];
  return {
    instance: String(i).padStart(32, "0"), service: ["cart", "checkout", "etcd"][i % 3], version: `v1.${i % 5}`, go_version: "go1.26.8", node: `node-${i % 7}`, pod: i % 3 < 2 ? `shop/app-${i}` : "",
    host: "", pid: 1000 + i, exe: "/app/server", gatherer, gatherers: gatherer ? [gatherer] : [], state: "running",
    reason: gatherer ? "" : "no endpoint: it listens on no TCP port", started: at - i * 3_600_000, last_seen: at - 1000 * i, uptime_ms: i * 3_600_000, ...change,
  };
}

/** fleet answers as a collector of n processes does: filters, order, pages. */
function fleet(all: Proc[]): (path: string, p: URLSearchParams) => Answer | undefined {
  return (path, p) => {
    if (path !== "processes") return undefined;
    let list = all.filter((x) => p.get("state") === "all" || x.state === (p.get("state") ?? "running"));
    for (const k of ["service", "node"]) if (p.get(k)) list = list.filter((x) => x[k] === p.get(k));
    if (p.get("gatherer")) list = list.filter((x) => (x.gatherer || "none") === p.get("gatherer"));
    if (p.get("search")) list = list.filter((x) => JSON.stringify(x).includes(p.get("search")!));
    const sort = p.get("sort") || "service", key = sort.replace("-", "");
    list = [...list].sort((a, b) => (String(a[key]) < String(b[key]) ? -1 : 1) * (sort.startsWith("-") ? -1 : 1));
    const from = Number(p.get("cursor") ?? 0), to = from + Number(p.get("limit"));
    return { body: { processes: list.slice(from, to), next: to < list.length ? String(to) : "", total: list.length, states: { running: list.length, lost: 2 }, gatherers: { agent: 3 }, more: false, at, summary: "" } };
  };
}

const coverage = {
  at, processes: { expected: 340, watched: 312 }, pods: { expected: 118, watched: 118 }, units: { expected: 0, watched: 0 }, nodes: { expected: 40, watched: 39 },
  gaps: [
    { reason: "missing capability CAP_PERFMON", cure: "grant CAP_PERFMON to the sidecar", partial: false, processes: 20, services: ["cart", "etcd"], nodes: ["n1", "n2", "n3", "n4"],
      examples: [{ instance: "a", service: "cart", node: "n1", pod: "shop/cart-1", unit: "", pid: 7, exe: "cart", text: "perf needs CAP_PERFMON: it is missing" }] },
    { reason: "memory profiling was linked out", cure: "build the agent in", partial: true, processes: 3, services: ["etcd"], nodes: ["n1"], examples: [] },
  ],
  by_service: [{ name: "cart", expected: 30, watched: 10 }], by_node: [{ name: "n9", expected: 8, watched: 0, reports: true, silent: true, reported: at - 3_600_000, gatherer: "sidecar" }, { name: "n4", expected: 2, watched: 2 }],
};

const capture = (id: string, change: object = {}) => ({
  id, request: id, kind: "cpu", service: "cart", instance: "i1", host: "n1", trigger: "", reason: "", state: "done", error: "", created: at, finished: at + 10_000, duration: 10_000, size: 12_345,
  file: `cart-cpu-${id}.pb.gz`, result: `/api/v1/captures/${id}/result`, flamegraph: `/api/v1/captures/${id}/flamegraph`, ...change,
});

const url = (query = "") => `${server.url}/fleet.html${query}`;
/** idle waits until nothing is loading. */
const idle = (page: Page) => page.waitForFunction(() => document.querySelector(".fleet") && !document.querySelector('[aria-busy="true"]'));
const cells = (page: Page, n: number) => page.locator(`.rows tbody td:nth-child(${n})`).allInnerTexts();
const asked = (path: string) => server.asked.filter((a) => a.startsWith(path)).map((a) => new URLSearchParams(a.split("?")[1]));

test("processes: what runs, in order, page by page, each with a link to its profiles", async () => {
  server.override = fleet(Array.from({ length: 450 }, (_, i) => proc(i)));
  const { page, done } = await open(browser, url());
  await idle(page);
  assert.equal(await page.locator(".total").innerText(), "200 of 450");
  assert.equal((await cells(page, 1)).length, 200);
  const href = await page.locator('.rows tbody a').first().getAttribute("href");
  assert.match(new URL(href!, server.url).searchParams.get("query")!, /^\{service_name="cart",service_instance_id="0{20,}\d*"\}$/);
  await page.getByRole("button", { name: "show more" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".rows tbody tr").length === 400);
  await page.getByRole("button", { name: "show more" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".rows tbody tr").length === 450 && !document.querySelector(".next"));
  assert.equal(new Set(asked("processes").map((p) => p.get("cursor"))).size, 3);
  await page.getByRole("button", { name: "uptime" }).click();
  await page.waitForFunction(() => document.querySelector('th[aria-sort="ascending"]')?.textContent?.startsWith("uptime"));
  await idle(page);
  assert.equal(param(page, "sort"), "started");
  await page.getByRole("button", { name: "uptime" }).click();
  await page.waitForFunction(() => document.querySelector('th[aria-sort="descending"]')?.textContent?.startsWith("uptime"));
  assert.equal(param(page, "sort"), "-started");
  await done();
});

test("filters: search, node, service, state and gatherer are in the address, and the back button undoes them", async () => {
  const all = Array.from({ length: 60 }, (_, i) => proc(i));
  all[5] = proc(5, { state: "lost", reason: "silent since 11:00:00 UTC" });
  server.override = fleet(all);
  const { page, done } = await open(browser, url());
  await idle(page);
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement!.id), "search");
  await page.keyboard.type("app-3");
  await page.waitForFunction(() => document.querySelector(".total")!.textContent === "8 of 8");
  assert.equal(param(page, "search"), "app-3");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.querySelector(".total")!.textContent === "59 of 59");
  await page.locator(".rows tbody td:nth-child(4) button").first().click();
  await page.waitForFunction(() => location.search.includes("node="));
  await idle(page);
  const node = param(page, "node");
  assert.ok((await cells(page, 4)).every((n) => n === node));
  await page.getByLabel("Only this service").fill("etcd");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => [...document.querySelectorAll(".rows tbody td:first-child")].every((td) => td.textContent === "etcd"));
  assert.equal(new URL((await page.getByRole("link", { name: "runtime", exact: true }).getAttribute("href"))!, server.url).searchParams.get("query"), '{service_name="etcd"}');
  await page.getByRole("button", { name: "Any node" }).click();
  await page.waitForFunction(() => !location.search.includes("node="));
  await page.getByLabel("gathered by").selectOption("none");
  await page.waitForFunction(() => [...document.querySelectorAll(".rows tbody td:nth-child(8)")].every((td) => td.textContent === "nothing"));
  assert.ok((await cells(page, 11)).every((r) => r.startsWith("no endpoint")));
  await page.goBack();
  await page.waitForFunction(() => !location.search.includes("gatherer="));
  await page.goto(url("?state=lost"));
  await idle(page);
  assert.deepEqual(await cells(page, 11), ["silent since 11:00:00 UTC"]);
  await page.goto(url("?search=nosuch"));
  await idle(page);
  await page.getByRole("button", { name: "show all that run" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".rows tbody tr").length === 59);
  await done();
});

test("coverage: numbers first, then gaps with cures, and the way from a place to its processes", async () => {
  const processes = fleet(Array.from({ length: 9 }, (_, i) => proc(i, { node: "n9" })));
  server.override = (path, p) => (path === "coverage" ? { body: coverage } : processes(path, p));
  const { page, done } = await open(browser, url("?tab=coverage"));
  await idle(page);
  const figures = await page.locator(".figures li").allInnerTexts();
  assert.deepEqual(figures.map((f) => f.replace(/\s+/g, " ")), ["312 of 340 Go processes watched 91 %", "118 of 118 pods watched 100 %", "39 of 40 nodes report 97 %"]);
  assert.equal(await page.locator(".figures li.short").count(), 2);
  assert.deepEqual(await cells(page.locator(".gaps").page(), 1).then((c) => c.slice(0, 2)), ["20", "3"]);
  assert.match(await page.locator(".gaps").innerText(), /grant CAP_PERFMON to the sidecar/);
  assert.match(await page.locator(".gaps").innerText(), /watched, but memory profiling was linked out/);
  await page.locator("summary").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("details")!.open);
  assert.match(await page.locator(".examples").first().innerText(), /perf needs CAP_PERFMON: it is missing/);
  assert.match(await page.locator(".places").innerText(), /sidecar silent since 2026-11-21 11:00:00/);
  await page.getByRole("button", { name: "service", exact: true }).click();
  await page.waitForFunction(() => document.querySelector(".places")!.textContent!.includes("cart"));
  assert.equal(param(page, "by"), "service");
  await page.getByRole("button", { name: "node", exact: true }).click();
  await page.locator(".places button").first().click();
  await page.waitForFunction(() => document.querySelectorAll(".rows tbody tr").length === 9);
  assert.equal(param(page, "node"), "n9");
  assert.equal(param(page, "tab"), null);
  await done();
});

test("captures: one is asked for by keyboard, arrives while the page is looked at, and opens as a flame graph", async () => {
  const processes = fleet(Array.from({ length: 3 }, (_, i) => proc(i)));
  let posted: string[] = [];
  let answers = 0;
  server.override = (path, p, req) => {
    if (path === "captures" && req.method === "POST") {
      posted.push(p.toString());
      return { body: { request: "c1", known: 1, reached: 1, captures: [capture("c1", { state: "asked" })] } };
    }
    if (path === "captures") return { body: { captures: posted.length ? [capture("c1", ++answers > 1 ? {} : { state: "running", size: 0, result: undefined, flamegraph: undefined })] : [] } };
    if (path === "captures/c1/flamegraph") return { raw: recorded("flamegraph") };
    if (path === "captures/c1/result") return { raw: "pprof" };
    return processes(path, p);
  };
  const { page, done } = await open(browser, url());
  await idle(page);
  await page.getByRole("button", { name: "Capture cart 1000" }).focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector<HTMLDialogElement>("dialog[open]"));
  if (process.env.SONDE_SHOTS) await page.screenshot({ path: `${process.env.SONDE_SHOTS}/fleet-ask.png` });
  await page.locator("dialog[open] input").fill("30s");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => location.search.includes("tab=captures"));
  assert.deepEqual(posted, ["instance=00000000000000000000000000000000&kind=cpu&duration=30s"]);
  await page.getByRole("link", { name: "flame graph" }).click(); // it appears by itself once the capture is done
  await page.waitForFunction(() => Number(document.querySelector<HTMLCanvasElement>("#flame")?.dataset.boxes) > 20);
  assert.ok((await colours(page)) > 20, "frames are drawn");
  assert.equal(param(page, "flame"), "c1");
  if (process.env.SONDE_SHOTS) await page.screenshot({ path: `${process.env.SONDE_SHOTS}/fleet-flame.png` });
  await page.locator("#flame").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.waitForFunction(() => document.querySelector(".tooltip .name"));
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll(".crumbs button").length > 0);
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download cart-cpu-c1.pb.gz" }).click()]);
  assert.equal(file.suggestedFilename(), "cart-cpu-c1.pb.gz");
  await page.getByRole("button", { name: "close" }).click();
  await page.waitForFunction(() => !document.querySelector("#flame"));
  await done();
});

test("what goes wrong is said with its cure, and the token is asked for", async () => {
  let token = "";
  server.override = (path, p, req) => {
    token = req.headers.authorization ?? "";
    if (path === "processes" && !token) return { status: 401, body: { error: "this collector wants a token" } };
    if (path === "coverage") return { status: 503, body: { error: "too many queries at once", hint: "wait a moment" } };
    if (path === "captures") return { status: 404, body: { error: "no such endpoint" } };
    return fleet([proc(0)])(path, p);
  };
  const { page, done } = await open(browser, url());
  await page.waitForFunction(() => document.querySelector("dialog[open] input[type=password]"));
  await page.locator("dialog[open] input").fill("secret");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll(".rows tbody tr").length === 1);
  assert.equal(token, "Bearer secret");
  await page.getByRole("link", { name: "coverage" }).click();
  await page.waitForFunction(() => document.querySelector('[role="alert"]'));
  assert.match(await page.locator('[role="alert"]').innerText(), /too many queries at once\s*wait a moment/);
  await page.getByRole("link", { name: "captures" }).click();
  await page.waitForFunction(() => document.body.textContent!.includes("This collector takes no captures."));
  await done(/401|503|404/);
});

test("hostile names stay text, and long ones do not break the page", async () => {
  const bad = "<img src=x onerror=alert(1)>";
  server.override = fleet([proc(0, { service: bad, node: bad, reason: "x".repeat(3000), pod: "p".repeat(500), version: "\u202eabc" })]);
  const { page, done } = await open(browser, url());
  await idle(page);
  assert.equal((await cells(page, 1))[0], bad);
  assert.equal(await page.locator(".rows img").count(), 0);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is no wider than the window");
  await done();
});

for (const scheme of ["light", "dark"] as const) {
  test(`${scheme}: text is readable on its ground`, async () => {
    const processes = fleet(Array.from({ length: 40 }, (_, i) => proc(i, i === 4 ? { state: "crashed", reason: "killed by the OOM killer" } : {})));
    server.override = (path, p) => (path === "coverage" ? { body: coverage } : path === "captures" ? { body: { captures: [capture("c1"), capture("c2", { state: "failed", error: "the process has ended", flamegraph: undefined })] } } : processes(path, p));
    const { page, done } = await open(browser, url("?state=all"), { colorScheme: scheme });
    for (const tab of ["processes", "coverage", "captures"]) {
      await page.getByRole("link", { name: tab }).click();
      await page.waitForFunction((t) => document.querySelector(`nav a[aria-current]`)?.textContent === t && document.querySelector(".rows tbody tr"), tab);
      await idle(page);
      const worst = await contrast(page);
      assert.ok(worst.ratio >= 4.5, `${tab}: "${worst.text}" has a contrast of ${worst.ratio.toFixed(2)}`);
      if (process.env.SONDE_SHOTS) await page.screenshot({ path: `${process.env.SONDE_SHOTS}/fleet-${tab}-${scheme}.png` });
    }
    await done();
  });
}
