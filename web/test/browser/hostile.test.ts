// What the page does with names that somebody chose to do harm, and with data at the edge of what there is.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { drawn, launch, open, param, pixel, settled, token } from "./chromium";
import { FixtureServer, recorded } from "./server";
import { buildModel } from "../../src/flame/model";

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

const at = (query = "") => `${server.url}/${query}`;
const parse = (name: string) => JSON.parse(recorded(name));
const evil = `<img src=x onerror=alert(1)>`;
const names = [evil, `"><script>alert(2)</script>`, `');alert(3);//`, `\${alert(4)}`, `main.\u202egnp.exe`, `javascript:alert(5)`, "main.日本語の関数", "pkg/🔥.(*Überlänge).größer", "a".repeat(5_000)];

/** flameOf is an answer with one stack a name, all as wide. */
function flameOf(all: string[]) {
  const n = all.length + 1;
  const ones = (first: number) => [first, ...all.map(() => 10)];
  return {
    ...parse("flamegraph"), names: ["total", ...all], kinds: ["", ...all.map((_, i) => (i === 0 ? evil : "own"))], files: ["", ...all.map((s) => `/src/${s}.go`)],
    name: Array.from({ length: n }, (_, i) => i), depth: [0, ...all.map(() => 1)], value: ones(10 * all.length), self: [0, ...all.map(() => 10)], total: 10 * all.length, nodes: n, dropped: 0,
  };
}

function hostile(path: string) {
  if (path === "services") return { body: { services: [{ ...parse("services").services[0], name: evil, versions: [evil] }] } };
  if (path === "labels") return { body: { labels: ["service_name", evil] } };
  if (path === "series") return { body: { ...parse("series"), series: parse("series").series.map((s: object, i: number) => ({ ...s, labels: { [`l${i}`]: names[i % names.length] } })) } };
  if (path === "events") return { body: { events: [{ id: 1, time: Date.now() - 6e4, kind: "deploy", service: evil, text: `${evil} changed from ${evil} to v2` }] } };
  if (path === "flamegraph") return { body: flameOf(names) };
  if (path === "top") return { body: { ...parse("top"), functions: names.length, rows: names.map((n, i) => ({ function: n, file: n, kind: evil, self: 10 + i, total: 10 + i })) } };
  return undefined;
}

/** harmless fails where a name became an element, a script ran, or a dialog opened. */
async function harmless(page: Page, dialogs: string[]): Promise<void> {
  assert.deepEqual(dialogs, [], "no dialog");
  assert.equal(await page.locator("img, main script, iframe, object").count(), 0, "no name is markup");
  assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll("*")].flatMap((e) => e.getAttributeNames().filter((a) => a.startsWith("on")))), [], "no handler in markup");
}

test("hostile names: of services, labels, versions, functions and files, nothing is run, the policy is never broken", async () => {
  server.override = hostile;
  const dialogs: string[] = [];
  const { page, done } = await open(browser, at(`?query=${encodeURIComponent(`{service_name="${evil}"}`)}`));
  page.on("dialog", (d) => (dialogs.push(d.message()), void d.dismiss()));
  await drawn(page);
  assert.equal(await page.getByLabel("Service", { exact: true }).inputValue(), evil, "the service is shown as it is called");
  await page.getByText(`${evil} changed from`).waitFor();
  const box = (await page.locator("#flame").boundingBox())!;
  for (let i = 0; i < names.length; i++) {
    await page.mouse.move(box.x + (box.width * (i + 0.5)) / names.length, box.y + 27);
    const tip = page.locator(".tooltip");
    await tip.waitFor();
    assert.equal((await tip.locator(".name").textContent())!.includes(names[i].slice(0, 20)), true);
    const b = (await tip.boundingBox())!;
    assert.ok(b.x >= 0 && b.y >= 0 && b.x + b.width <= 1440 && b.y + b.height <= 900, `the tooltip of ${names[i].slice(0, 30)} is within the window: ${JSON.stringify(b)}`);
  }
  await harmless(page, dialogs);
  for (const query of [`?q=${encodeURIComponent(evil)}`, `?fn=${encodeURIComponent(names[1])}`, `?only=${encodeURIComponent(evil)}`, `?only=${encodeURIComponent(names[8])}`, `?focus=${encodeURIComponent(evil)}&sample=${encodeURIComponent(evil)}`, "?chart=table", `?by=${encodeURIComponent(evil)}`,
    `?query=${encodeURIComponent(evil)}&type=${encodeURIComponent(evil)}&from=${encodeURIComponent(evil)}`, `?base_from=${encodeURIComponent(evil)}&base_to=now`]) {
    await page.goto(at(query));
    await page.locator(".bar").first().waitFor();
    await page.waitForFunction(() => !document.querySelector('[aria-busy="true"]') || document.querySelector(".error"));
    await harmless(page, dialogs);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 1440, `${query}: nothing is wider than the window`);
  }
  await done();
});

test("hostile errors: a message with markup is text", async () => {
  server.override = (path) => (path === "flamegraph" ? { status: 400, body: { error: evil, hint: evil } } : undefined);
  const dialogs: string[] = [];
  const { page, done } = await open(browser, at("?query=prometheus"));
  page.on("dialog", (d) => (dialogs.push(d.message()), void d.dismiss()));
  await page.getByText(evil).first().waitFor();
  await harmless(page, dialogs);
  await done(/status of 400/);
});

test("live: newer data keeps the frame that was chosen by key, and its tooltip", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  await page.locator("#flame").focus();
  for (const k of ["ArrowDown", "ArrowDown", "ArrowDown"]) await page.keyboard.press(k);
  const name = await page.locator(".tooltip .name").innerText();
  const f = parse("flamegraph");
  const m = buildModel(f);
  server.override = (path) => (path === "flamegraph" ? { body: { ...f, value: f.value.map((v: number) => v * 2), self: f.self.map((v: number) => v * 2), total: f.total * 2 } } : undefined);
  const before = await page.locator(".flame-panel .total").innerText();
  await page.evaluate(() => [...document.querySelectorAll("button")].find((b) => b.textContent === "refresh")!.click());
  await page.waitForFunction((b) => (document.querySelector(".flame-panel .total") as HTMLElement).innerText !== b, before);
  assert.equal(await page.locator(".tooltip .name").innerText(), name);
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.locator(".tooltip .name").innerText(), name, "the arrows go on from there");
  // A frame that is gone is no longer chosen.
  server.override = (path) => (path === "flamegraph" ? { body: flameOf(["main.other"]) } : undefined);
  await page.evaluate(() => [...document.querySelectorAll("button")].find((b) => b.textContent === "refresh")!.click());
  await page.waitForFunction(() => !document.querySelector(".tooltip"));
  assert.ok(m.n > 3);
  await done();
});

test("young data: the range begins where it does; a gap is told, and can be narrowed away", async () => {
  const first = Math.floor(Date.now() / 1000) * 1000 - 120_000;
  server.override = (path) => (path === "services" ? { body: { services: parse("services").services.map((s: object) => ({ ...s, first, last: Date.now() })) } } : undefined);
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const asked = () => new URLSearchParams(server.asked.findLast((a) => a.startsWith("flamegraph?"))!.split("?")[1]);
  assert.equal(asked().get("from"), String(first));
  assert.equal(param(page, "from"), null, "the address does not say so: tomorrow it is the last hour");
  await page.getByRole("button", { name: "compare", exact: true }).click();
  await page.waitForFunction(() => location.search.includes("base_from"));
  assert.equal(Date.parse(param(page, "base_from")!), first, "young data is compared with its own first half");
  await page.getByRole("button", { name: "end comparison" }).click();

  server.override = (path, params) => (path === "flamegraph" ? { body: { ...parse("flamegraph"), from: Number(params.get("from")), to: Number(params.get("to")), type: { ...parse("flamegraph").type, id: "heap:inuse_space", kind: "gauge", unit: "bytes", profile: "heap" }, stats: { ...parse("flamegraph").stats, first, last: Date.now() } } } : undefined);
  await page.goto(at("?query=prometheus&type=heap:inuse_space&from=now-1h"));
  await drawn(page);
  await page.getByText("only: means are over the whole range").waitFor();
  await page.getByRole("button", { name: "narrow to the data" }).click();
  await page.waitForFunction(() => /from=20/.test(location.search));
  assert.equal(Date.parse(param(page, "from")!), first);
  await drawn(page);
  assert.equal(await page.getByText("only: means").count(), 0);
  await done();
});

test("a diff by rate: a side that was profiled for a tenth of the time is not a tenth", async () => {
  const f = parse("diff-flame");
  const stats = (covered_ms: number) => ({ ...f.stats, covered_ms });
  const same = { ...f, value: f.value, base_value: f.value.map((v: number) => v * 10), base_self: f.self.map((v: number) => v * 10), base_total: f.total * 10, stats: stats(6e4), base_stats: stats(6e5), scale: { normalize: "interval", now: 1 / 60, base: 1 / 600 } };
  server.override = (path, params) => (path === "diff" && params.get("view") !== "top" ? { body: same } : undefined);
  const { page, done } = await open(browser, at("?query=prometheus&base_from=now-2h&base_to=now-1h"));
  await drawn(page);
  assert.match(await page.locator(".flame-panel .total").innerText(), /\(0 %\)$/);
  await done();
});

test("a service without data, and one whose stacks are all zero", async () => {
  const none = { names: ["total"], kinds: [""], files: [""], name: [0], depth: [0], value: [0], self: [0], total: 0, nodes: 1 };
  server.override = (path) => {
    if (path === "flamegraph") return { body: { ...parse("flamegraph"), ...none } };
    if (path === "top") return { body: { ...parse("top"), total: 0, rows: [], functions: 0 } };
    if (path === "series") return { body: { ...parse("series"), series: [] } };
    return undefined;
  };
  const { page, done } = await open(browser, at("?query=prometheus&type=cpu:cpu"));
  await settled(page);
  await page.getByText("No stacks here").waitFor();
  await page.getByText("No functions.").waitFor();
  await done();
});

test("twice as large, and with reduced motion: all is there and nothing is wider than the window", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"), { viewport: { width: 720, height: 450 }, deviceScaleFactor: 2, reducedMotion: "reduce" });
  await drawn(page);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 720);
  assert.equal(await page.evaluate(() => document.querySelector<HTMLCanvasElement>("#flame")!.width / document.querySelector<HTMLCanvasElement>("#flame")!.clientWidth), 2, "sharp");
  assert.notEqual(await pixel(page, 20, 9), await token(page, "--bg"));
  const moving = await page.evaluate(() => [...document.querySelectorAll("*")].filter((e) => getComputedStyle(e).animationName !== "none" || parseFloat(getComputedStyle(e).transitionDuration) > 0).map((e) => e.className));
  assert.deepEqual(moving, []);
  await done();
});

test("by keyboard alone: choose a service, compare, sort, and come back", async () => {
  const { page, done } = await open(browser, at());
  await drawn(page);
  await page.getByLabel("Service", { exact: true }).focus();
  await page.keyboard.type("prom");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => location.search.includes("prometheus"));
  await drawn(page);
  const compare = page.getByRole("button", { name: "compare", exact: true });
  await compare.focus();
  await page.keyboard.press("Space");
  await page.waitForFunction(() => location.search.includes("base_from"));
  await drawn(page);
  await page.locator(".functions th.name button").focus();
  await page.keyboard.press("Enter");
  assert.match(param(page, "sort")!, /^name/);
  const ring = await page.evaluate(() => getComputedStyle(document.activeElement!).outlineStyle);
  assert.notEqual(ring, "none", "what has the focus shows it");
  await page.getByRole("button", { name: "end comparison" }).focus();
  await page.keyboard.press("Enter");
  assert.equal(param(page, "base_from"), null);
  await done();
});
