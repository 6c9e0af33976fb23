import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { colours, drawn, launch, open, param, pixel, token } from "./chromium";
import { FixtureServer, recorded, sandwich } from "./server";
import { buildModel } from "../../src/flame/model";
import { rebin } from "../../src/series";
import { randomTree } from "../tree";

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
const text = (page: Page, selector: string) => page.locator(selector).first().innerText();
const rows = (page: Page) => page.locator(".functions tbody tr:not(.space) td.name").allInnerTexts();

test("it loads: chart, flame graph and table, all from the same range", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  assert.ok((await colours(page)) > 20, "frames and their names are drawn");
  assert.ok(await page.locator(".plot canvas").count());
  const top = JSON.parse(recorded("top"));
  assert.equal((await rows(page))[0].endsWith(top.rows[0].function.split(".").pop()), true);
  const ranges = new Set(server.asked.filter((a) => /^(flamegraph|top|types)\?/.test(a)).map((a) => new URLSearchParams(a.split("?")[1])).map((p) => `${p.get("from")}-${p.get("to")}`));
  assert.equal(ranges.size, 1, "one range for all");
  await done();
});

test("search: highlights, says the share, filters the table, is in the address", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement!.id), "search");
  await page.keyboard.type("http");
  await page.waitForFunction(() => /%/.test(document.querySelector(".match")!.textContent!));
  assert.match(await text(page, ".match"), /^\d+(\.\d+)? % in \d+ functions$/);
  assert.equal(param(page, "q"), "http");
  const titles = await page.locator(".functions td.name").evaluateAll((tds) => tds.map((td) => td.getAttribute("title")!.split("\n")[0]));
  assert.ok(titles.length > 3 && titles.every((n) => n.toLowerCase().includes("http")), titles.join());
  const match = await token(page, "--flame-match");
  const found = await page.evaluate((want) => {
    const c = document.querySelector<HTMLCanvasElement>("#flame")!;
    const d = c.getContext("2d")!.getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let i = 0; i < d.length; i += 4) if (`${d[i]},${d[i + 1]},${d[i + 2]}` === want) n++;
    return n;
  }, match);
  assert.ok(found > 1000, `${found} pixels of the match colour`);
  await page.keyboard.press("Escape");
  assert.equal(param(page, "q"), null);
  await done();
});

test("zoom: a click fills the width, the breadcrumb leads back, the back button too", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const before = await page.locator("#flame").getAttribute("data-boxes");
  const box = (await page.locator("#flame").boundingBox())!;
  await page.mouse.click(box.x + box.width * 0.5, box.y + 9 + 18 * 3);
  await page.waitForFunction(() => location.search.includes("zoom="));
  const zoomed = param(page, "zoom")!;
  assert.notEqual(await page.locator("#flame").getAttribute("data-boxes"), before);
  assert.ok((await page.locator(".crumbs button").count()) >= 3);
  assert.match(await text(page, ".flame-panel .total"), /% of all/);
  assert.match(await text(page, ".table-panel .tools .note"), /in the part shown/);
  await page.locator(".crumbs button").nth(1).click();
  assert.notEqual(param(page, "zoom"), zoomed);
  await page.goBack();
  assert.equal(param(page, "zoom"), zoomed);
  await page.goBack();
  assert.equal(param(page, "zoom"), null);
  await page.waitForFunction((b) => document.querySelector<HTMLCanvasElement>("#flame")!.dataset.boxes === b, before);
  await page.goForward();
  assert.equal(param(page, "zoom"), zoomed);
  await done();
});

test("keyboard: arrows move, Enter zooms, f focuses, Escape goes back a step at a time", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  await page.locator("#flame").focus();
  await page.keyboard.press("ArrowDown");
  assert.match(await text(page, ".tooltip .name"), /total/);
  await page.keyboard.press("ArrowDown");
  const first = await text(page, ".tooltip .name");
  await page.keyboard.press("ArrowDown");
  const second = await text(page, ".tooltip .name");
  assert.notEqual(first, second);
  await page.keyboard.press("ArrowUp");
  assert.equal(await text(page, ".tooltip .name"), first, "up is back to the caller");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowRight");
  assert.equal(await text(page, ".tooltip .name"), first, "left and right are each other's way back");
  await page.keyboard.press("Enter");
  assert.ok(param(page, "zoom"));
  await page.keyboard.press("f");
  await page.waitForFunction(() => location.search.includes("only="));
  await page.locator("#flame").focus();
  for (let i = 0; i < 4; i++) await page.keyboard.press("Escape");
  assert.equal(param(page, "only"), null);
  assert.equal(param(page, "zoom"), null);
  await done();
});

test("focus: only this function, its callers above, its numbers those of the table", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const row = page.locator(".functions tbody tr:not(.space)").nth(3);
  const name = (await row.locator("td.name").getAttribute("title"))!.split("\n")[0];
  const total = await row.locator("td.n").nth(2).innerText();
  await row.hover();
  await row.locator(".only").click();
  await page.waitForFunction(() => document.querySelectorAll("canvas.flame").length === 2);
  assert.equal(param(page, "only"), name);
  assert.ok((await text(page, ".flame-panel .total")).startsWith(total), "the tree of the function weighs what the table says");
  await page.goto(at("?query=prometheus&only=no.such"));
  await page.getByText("is not in this range").waitFor();
  await page.getByRole("button", { name: "show all functions" }).click();
  await drawn(page);
  await done();
});

test("tooltip: the full name, file, self, total and share", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const box = (await page.locator("#flame").boundingBox())!;
  await page.mouse.move(box.x + box.width * 0.5, box.y + 9 + 18 * 2);
  const tip = await text(page, ".tooltip");
  assert.match(tip, /\.go/);
  assert.match(tip, /total\s+[\d.]+ m?s\s+[\d.]+ %/);
  assert.match(tip, /self/);
  await done();
});

test("icicle and flame: the root is at the top, then at the bottom", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const bg = await token(page, "--bg");
  const box = (await page.locator("#flame").boundingBox())!;
  assert.notEqual(await pixel(page, box.width - 20, 3), bg);
  await page.getByRole("button", { name: "flame", exact: true }).click();
  assert.equal(param(page, "layout"), "flame");
  await page.waitForFunction(([x, y, bg]) => {
    const c = document.querySelector<HTMLCanvasElement>("#flame")!;
    return [...c.getContext("2d")!.getImageData(Number(x), Number(y), 1, 1).data.slice(0, 3)].join(",") !== bg;
  }, [box.width - 20, Math.floor(box.height) - 4, bg] as const);
  await done();
});

test("table: sorts by each column, click highlights, keyboard moves, only what is seen is in the page", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const all = JSON.parse(recorded("top")).rows as { function: string; self: number; total: number }[];
  assert.ok((await page.locator(".functions tbody tr").count()) < 80, `of ${all.length} rows a screenful is in the page`);
  await page.getByRole("button", { name: "total", exact: false }).last().click();
  assert.equal(param(page, "sort"), "total");
  const titles = () => page.locator(".functions td.name").evaluateAll((tds) => tds.map((td) => td.getAttribute("title")!.split("\n")[0]));
  const by = new Map(all.map((r) => [r.function, r]));
  const totals = (await titles()).map((n) => by.get(n)!.total);
  assert.deepEqual(totals, [...totals].sort((a, b) => b - a));
  await page.locator(".functions th.name button").click();
  const names = await titles();
  assert.deepEqual(names, [...names].sort());
  await page.locator(".functions th.name button").click();
  assert.deepEqual(await titles(), [...await titles()].sort().reverse());
  assert.equal(await page.locator(".functions th.name").getAttribute("aria-sort"), "descending");
  await page.locator(".functions tbody tr:not(.space)").nth(2).click();
  assert.ok(param(page, "fn"));
  assert.equal(await page.locator(".functions tr.picked").count(), 1);
  await page.locator(".table-scroll").focus();
  await page.keyboard.press("End");
  await page.waitForFunction(() => document.querySelector(".table-scroll")!.scrollTop > 1000);
  await done();
});

test("diff: compare with the range before, blue to orange, base and delta, ended again", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  await page.getByRole("button", { name: "compare", exact: true }).click();
  await page.waitForFunction(() => document.querySelectorAll(".functions th").length === 4);
  await drawn(page);
  assert.equal(param(page, "base_from"), "now-2h");
  assert.equal(param(page, "base_to"), "now-1h");
  const asked = new URLSearchParams(server.asked.findLast((a) => a.startsWith("diff?"))!.slice(5));
  assert.equal(asked.get("base_to"), asked.get("from"), "the baseline ends where the range begins");
  assert.deepEqual((await page.locator(".functions th").allInnerTexts()).map((t) => t.replace(/[▲▼\s]/g, "")), ["function", "base", "now", "delta"]);
  assert.match(await text(page, ".flame-panel .total"), /→/);
  assert.ok((await colours(page)) > 20);
  await page.getByLabel("Make the sides comparable").selectOption("share");
  await page.waitForFunction(() => /%.*→.*%/.test(document.querySelector(".flame-panel .total")!.textContent!));
  assert.match(await text(page, ".functions tbody td.n"), /%/);
  await page.getByRole("button", { name: "swap" }).click();
  assert.equal(param(page, "from"), "now-2h");
  await page.getByRole("button", { name: "end comparison" }).click();
  assert.equal(param(page, "base_from"), null);
  await drawn(page);
  await done();
});

test("diff: what cannot be normalized as asked is said so", async () => {
  const { page, done } = await open(browser, at("?query=prometheus&base_from=now-2h&base_to=now-1h&normalize=cpu"));
  await drawn(page);
  assert.equal(await page.getByLabel("Make the sides comparable").inputValue(), "cpu");
  await page.getByText("there is no CPU profile of these processes").waitFor();
  const asked = server.asked.filter((a) => a.startsWith("diff?"));
  assert.ok(asked.length >= 2 && asked.every((a) => a.includes("normalize=cpu")));
  await page.getByLabel("Make the sides comparable").selectOption("interval");
  await page.waitForFunction(() => /cores/.test(document.querySelector(".flame-panel .total")!.textContent!));
  assert.equal(param(page, "normalize"), "interval");
  await done();
});

test("diff: functions by the certainty of their change, and what it rests on", async () => {
  const { page, done } = await open(browser, at("?query=prometheus&base_from=now-2h&base_to=now-1h"));
  await drawn(page);
  assert.ok(!server.asked.some((a) => a.startsWith("ranking")), "the windows are not read before somebody asks");
  await page.getByRole("button", { name: "by certainty" }).click();
  await page.waitForFunction(() => /15 windows of 2m against 4/.test(document.querySelector(".windows")?.textContent ?? ""));
  await drawn(page);
  assert.equal(param(page, "sort"), "sure");
  assert.match(await text(page, ".windows"), /only 4 windows in the base\.$/);
  assert.deepEqual((await page.locator(".functions th").allInnerTexts()).map((t) => t.replace(/[▲▼\s]/g, "")), ["function", "base", "now", "chance"]);
  const top = JSON.parse(recorded("diff-top"));
  assert.equal((await page.locator(".functions td.name").first().getAttribute("title"))!.split("\n")[0], top.rows[0].function, "the smallest p-value is first, whatever the order of the answer");
  assert.match((await page.locator(".functions tbody tr:not(.space)").first().locator("td.n").last().innerText()), /^1e-\d+$/);
  await page.getByRole("button", { name: "by change" }).click();
  await page.waitForFunction(() => !document.querySelector(".windows"));
  await done();
});

test("callers and callees: a click on a function opens them, a click on one walks on", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const row = page.locator(".functions tbody tr:not(.space)").nth(3);
  const name = (await row.locator("td.name").getAttribute("title"))!.split("\n")[0];
  await row.locator("td.n").first().click();
  const panel = page.getByRole("region", { name: "Callers and callees" });
  await panel.locator(".side tbody tr").first().waitFor();
  assert.equal(param(page, "fn"), name);
  assert.equal(await panel.locator("h2").getAttribute("title"), name);
  assert.match(await panel.locator(".tools .note").innerText(), /^self .* total .*%/);
  const caller = panel.getByRole("group", { name: "called by" }).locator("tbody th").first();
  const next = (await caller.getAttribute("title"))!;
  await caller.getByRole("button").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction((n) => document.querySelector(".near h2")?.getAttribute("title") === n, next);
  await panel.getByRole("group", { name: "calls" }).locator(`tbody th[title=${JSON.stringify(name)}]`).waitFor();
  await panel.getByRole("button", { name: "only" }).click();
  await page.waitForFunction(() => document.querySelectorAll("canvas.flame").length === 2);
  assert.equal(param(page, "only"), next);
  await panel.getByRole("button", { name: "Close callers and callees" }).click();
  assert.equal(await panel.count(), 0);
  await done();
});

test("a link to one function: its answer may come before the flame graph's, or after", async () => {
  for (const slow of ["flamegraph", "callers", "top"]) {
    server.override = (path, params) => (path === slow ? { ...(path === "callers" ? sandwich(params) : { raw: recorded(path) }), delayMs: 400 } : undefined);
    const { page, done } = await open(browser, at("?query=prometheus&type=cpu:cpu&only=runtime.mallocgc&fn=runtime.mallocgc"));
    await drawn(page);
    await page.waitForFunction(() => document.querySelectorAll("canvas.flame").length === 2);
    await page.locator(".near .side tbody tr").first().waitFor();
    await done();
  }
});

test("stacks: filters by label and function go into every query and the address", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  server.asked = [];
  await page.getByRole("button", { name: "Which stacks count" }).click();
  await page.getByText("1 labels on these samples").waitFor();
  await page.getByLabel("A selector on the labels").fill("{account=");
  assert.ok(await page.getByRole("button", { name: "apply" }).isDisabled());
  await page.getByLabel("A selector on the labels").fill('{account="A"}');
  await page.getByLabel("Only stacks with a function").fill("json|xml");
  await page.getByLabel("Only stacks without").fill("^runtime");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => location.search.includes("ignore="));
  await drawn(page);
  for (const path of ["series", "flamegraph", "top"]) {
    const q = new URLSearchParams(server.asked.findLast((a) => a.startsWith(path + "?"))!.slice(path.length + 1));
    assert.deepEqual([q.get("sample"), q.get("focus"), q.get("ignore")], ['{account="A"}', "json|xml", "^runtime"], path);
  }
  assert.equal(param(page, "sample"), '{account="A"}');
  assert.match(await page.getByRole("button", { name: "Which stacks count" }).innerText(), /3 filters/);
  await page.getByRole("button", { name: "Which stacks count" }).click();
  await page.getByRole("button", { name: "all stacks" }).click();
  assert.equal(param(page, "focus"), null);
  await done();
});

test("frames: by line and by address; group by a label of the samples", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  await page.getByLabel("What a frame is").selectOption("line");
  await drawn(page);
  assert.equal(param(page, "frames"), "line");
  for (const path of ["flamegraph", "top"]) assert.match(server.asked.findLast((a) => a.startsWith(path + "?"))!, /frames=line/);
  const asked = page.waitForRequest(/series\?.*by=sample\.account/);
  await page.getByLabel("Group by").selectOption("sample.account");
  await asked;
  await drawn(page);
  assert.equal(param(page, "by"), "sample.account");
  await done();
});

test("pin: keeps both sides of what is shown, at fixed times, and shows the link", async () => {
  const { page, done } = await open(browser, at("?query=prometheus&base_from=now-2h&base_to=now-1h"));
  await drawn(page);
  const methods: string[] = [];
  page.on("request", (r) => r.url().includes("/pins") && methods.push(r.method()));
  await page.getByRole("button", { name: "Share and export" }).click();
  await page.getByRole("button", { name: /pin this/ }).click();
  const link = await page.getByLabel("Link to what is pinned").inputValue();
  assert.deepEqual(methods, ["POST", "POST"]);
  const [one, two] = server.asked.filter((a) => a.startsWith("pins?")).map((a) => new URLSearchParams(a.slice(5)));
  assert.ok(Number(one.get("to")) - Number(one.get("from")) === 36e5 && one.get("from") === two.get("to"));
  const shown = new URL(link).searchParams;
  assert.equal(Date.parse(shown.get("from")!), Number(one.get("from")), "the link has the times that are pinned");
  assert.equal(Date.parse(shown.get("base_from")!), Number(two.get("from")));
  server.override = (path) => (path === "pins" ? { status: 503, body: { error: "no space left" } } : undefined);
  await page.getByRole("button", { name: /pin this/ }).click();
  await page.getByText("Not pinned: no space left").waitFor();
  await done(/status of 503/);
});

test("deploys: a mark's link compares before and after", async () => {
  const events = { events: [{ id: 7, time: Date.now() - 20 * 60e3, kind: "deploy", service: "prometheus", text: "prometheus changed from v1 to v2" }] };
  server.override = (path) => (path === "events" ? { body: events } : undefined);
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  await page.getByText("prometheus changed from v1 to v2").waitFor();
  await page.getByRole("link", { name: "compare before and after" }).click();
  await page.waitForFunction(() => location.search.includes("base_from"));
  assert.equal(param(page, "base_to"), param(page, "from"));
  assert.equal(Date.parse(param(page, "from")!), events.events[0].time);
  await done();
});

test("drag over the chart narrows the range; with Shift it chooses the baseline", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const over = (await page.locator(".u-over").boundingBox())!;
  const drag = async (a: number, b: number) => {
    await page.mouse.move(over.x + over.width * a, over.y + 40);
    await page.mouse.down();
    await page.mouse.move(over.x + over.width * b, over.y + 44, { steps: 5 });
    await page.mouse.up();
  };
  // Answers that arrive draw the chart anew, which ends a drag that has begun: as a person would, drag again.
  const dragFor = async (name: string, a: number, b: number) => {
    for (let tries = 0; tries < 10 && !param(page, name)?.startsWith("20"); tries++) {
      await drag(a, b);
      await page.waitForFunction((n) => new URLSearchParams(location.search).get(n)?.startsWith("20"), name, { timeout: 1000 }).catch(() => undefined);
    }
    assert.ok(param(page, name)?.startsWith("20"), `${name} is in the address`);
  };
  await dragFor("from", 0.5, 0.75);
  const series = JSON.parse(recorded("series"));
  const length = Date.parse(param(page, "to")!) - Date.parse(param(page, "from")!);
  assert.ok(Math.abs(length / ((series.to - series.from) * 0.25) - 1) < 0.05, "a quarter of the chart");
  await drawn(page);
  await page.keyboard.down("Shift");
  await dragFor("base_from", 0.1, 0.3);
  await page.keyboard.up("Shift");
  await done();
});

test("every chart has a table twin", async () => {
  const { page, done } = await open(browser, at("?chart=table"));
  await drawn(page);
  const series = JSON.parse(recorded("series"));
  assert.equal(await page.locator(".chart tbody tr").count(), rebin(series).series[0].values.length);
  assert.equal(await page.locator(".chart thead tr:first-child th").count(), series.series.length + 1);
  for (const c of await page.locator("canvas.flame").all()) {
    assert.equal(await c.getAttribute("role"), "img");
    assert.match((await c.getAttribute("aria-label"))!, /table/);
  }
  await done();
});

test("theme: follows the system, the toggle wins and is remembered", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"), { colorScheme: "dark" });
  await drawn(page);
  const bg = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await bg();
  await page.getByRole("button", { name: "Use the light theme" }).click();
  assert.notEqual(await bg(), dark);
  await page.waitForFunction(() => {
    const c = document.querySelector<HTMLCanvasElement>("#flame")!;
    const d = c.getContext("2d")!.getImageData(2, c.height - 3, 1, 1).data;
    return d[0] > 180;
  });
  await page.reload();
  await drawn(page);
  assert.notEqual(await bg(), dark);
  await done();
});

test("a link reproduces the view", async () => {
  const link = "?query=prometheus&type=cpu:cpu&from=2026-11-21T06:10:00Z&to=2026-11-21T06:20:00Z&q=http&layout=flame&chart=lines&sort=total&tz=local";
  const { page, done } = await open(browser, at(link));
  await drawn(page);
  assert.equal(await page.locator("#search").inputValue(), "http");
  assert.equal(await page.getByRole("button", { name: "lines" }).getAttribute("aria-pressed"), "true");
  assert.equal(await page.getByRole("button", { name: "flame", exact: true }).getAttribute("aria-pressed"), "true");
  assert.match(await text(page, ".match"), /%/);
  assert.equal(new URL(page.url()).search, link, "nothing was rewritten");
  const asked = new URLSearchParams(server.asked.find((a) => a.startsWith("flamegraph?"))!.split("?")[1]);
  assert.equal(asked.get("from"), String(Date.parse("2026-11-21T06:10:00Z")));
  await done();
});

test("range picker: presets, absolute times, and what cannot be read", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const picker = page.locator(".range > button");
  await picker.click();
  await page.getByRole("button", { name: "15m", exact: true }).click();
  assert.equal(param(page, "from"), "now-15m");
  await picker.click();
  await page.getByLabel("from", { exact: true }).fill("2026-11-21 06:10");
  await page.getByLabel("to", { exact: true }).fill("soon");
  assert.match(await text(page, ".times .bad"), /cannot be read/);
  await page.getByLabel("to", { exact: true }).fill("2026-11-21 06:20");
  await page.keyboard.press("Enter");
  assert.equal(param(page, "from"), "2026-11-21T06:10:00Z");
  await picker.click();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".popover").count(), 0);
  await done();
});

test("share: a fixed link, the pprof command and the download", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  await page.getByRole("button", { name: "Share and export" }).click();
  const command = await page.getByLabel("Command for go tool pprof").inputValue();
  assert.match(command, /^go tool pprof -http=: 'http:\/\/127\.0\.0\.1:\d+\/api\/v1\/profile\?query=prometheus&type=cpu%3Acpu&from=\d+&to=\d+'$/);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "download pprof" }).click()]);
  assert.match(download.suggestedFilename(), /^cpu-cpu-.*\.pb\.gz$/);
  await done();
});

test("nothing stored: the page says what to do, with commands to copy", async () => {
  server.override = (path) =>
    path === "processes" ? { body: { processes: [], summary: "31 Go processes, profiling 12" } } : path === "status" ? { body: { version: "v", storage: { profiles: 0 } } } : { body: { [path]: [] } };
  const { page, done } = await open(browser, at());
  await page.getByText("No profiles yet").waitFor();
  await page.getByText("31 Go processes, profiling 12").waitFor();
  assert.equal(await page.locator(".command pre").nth(2).innerText(), `sonde ps --server ${server.url}`, "the command asks the server that this is the page of");
  assert.deepEqual((await page.locator(".command pre").allInnerTexts()).map((t) => t.split(" ")[0]), ["sonde", "import", "sonde", "curl"]);
  await done();
});

test("nothing stored: the first profile shows without a hand", async () => {
  server.override = (path) => ({ body: path === "processes" ? { processes: [], summary: "" } : { [path]: [] } });
  const { page, done } = await open(browser, at());
  await page.getByText("No profiles yet").waitFor();
  server.override = () => undefined;
  await drawn(page);
  await done();
});

test("nothing in this range: the page says where there is something", async () => {
  server.override = (path) => {
    if (path === "types") return { body: { types: [] } };
    if (path === "series") return { body: { ...JSON.parse(recorded("series")), series: [] } };
    return undefined;
  };
  const { page, done } = await open(browser, at("?query=prometheus&type=cpu:cpu"));
  await page.getByText("No CPU time of prometheus in this range.").or(page.getByText(/No .* in this range/)).first().waitFor();
  await page.getByRole("button", { name: "show the last hour with data" }).click();
  const last = JSON.parse(recorded("services")).services.find((s: { name: string }) => s.name === "prometheus").last;
  assert.equal(Date.parse(param(page, "to")!), last + 1);
  await done();
});

test("errors show what is wrong and the hint; what still works is shown", async () => {
  server.override = (path) => (path === "flamegraph" ? { status: 400, body: { error: 'parse selector "{a": unexpected end', hint: 'write {service_name="cart"}' } } : undefined);
  const { page, done } = await open(browser, at("?query=prometheus"));
  await page.getByText('parse selector "{a": unexpected end').waitFor();
  await page.getByText('write {service_name="cart"}').waitFor();
  assert.ok((await rows(page)).length > 10, "the table is there");
  server.override = () => undefined;
  await page.getByRole("button", { name: "try again" }).click();
  await drawn(page);
  await done(/status of 400/);
});

test("a server that is gone, and one that is no Sonde", async () => {
  server.override = () => ({ status: 502, raw: "<html>bad gateway" });
  const { page, done } = await open(browser, at());
  await page.getByText("502").first().waitFor();
  server.override = () => ({ raw: "<html>login" });
  await page.getByRole("button", { name: "refresh" }).click();
  await page.getByText("the answer is not JSON").first().waitFor();
  await done(/status of 502/);
});

test("401: asks for the token once, keeps it in the session, sends it", async () => {
  server.override = (_path, _params, req) => (req.headers.authorization === "Bearer secret" ? undefined : { status: 401, body: { error: "a token is needed" } });
  const { page, done } = await open(browser, at("?query=prometheus"));
  await page.getByText("This server wants a token").waitFor();
  await page.getByRole("textbox", { name: "Token" }).fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("is not accepted").waitFor();
  await page.getByRole("textbox", { name: "Token" }).fill("secret");
  await page.keyboard.press("Enter");
  await drawn(page);
  assert.equal(await page.evaluate(() => sessionStorage.getItem("sonde-token")), "secret");
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await page.reload();
  await drawn(page);
  await page.getByRole("button", { name: "Share and export" }).click();
  assert.match(await page.getByLabel("Command for go tool pprof").inputValue(), /Authorization: Bearer \$SONDE_TOKEN/);
  await done(/status of 401/);
});

test("nothing jumps while loading: boxes keep their places, what was there is dimmed", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const places = () => page.evaluate(() => ["header", ".chart", ".flame-panel", ".table-panel", ".crumbs"].map((s) => JSON.stringify(document.querySelector(s)!.getBoundingClientRect())));
  const before = await places();
  server.override = (path) => (path === "flamegraph" ? { raw: recorded("flamegraph"), delayMs: 700 } : undefined);
  await page.getByRole("button", { name: "refresh" }).click();
  await page.waitForSelector(".flame-area.stale");
  assert.deepEqual(await places(), before);
  assert.ok((await colours(page)) > 20, "the old graph is still there");
  await drawn(page);
  assert.deepEqual(await places(), before);
  await done();
});

test("100,000 frames are drawn, searched and hit", async () => {
  const tree = randomTree(100_000, 11);
  const body = { ...JSON.parse(recorded("flamegraph")), ...tree, total: tree.value[0], nodes: 100_000, dropped: 0 };
  server.override = (path) => (path === "flamegraph" ? { body } : undefined);
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  assert.ok((await colours(page)) > 20);
  const ms = await page.locator("#flame").getAttribute("data-draw-ms");
  console.log(`100,000 frames: ${await page.locator("#flame").getAttribute("data-boxes")} boxes in ${ms} ms`);
  await page.locator("#search").fill("Method77");
  await page.waitForFunction(() => /%/.test(document.querySelector(".match")!.textContent!));
  const box = (await page.locator("#flame").boundingBox())!;
  const m = buildModel(tree);
  let widest = 1;
  for (let i = 1; i < m.n; i++) if (m.depth[i] === 3 && (m.depth[widest] !== 3 || m.width[i] > m.width[widest])) widest = i;
  await page.mouse.move(box.x + (box.width * (m.start[widest] + m.width[widest] / 2)) / m.width[0], box.y + 9 + 18 * 3);
  assert.equal(await text(page, ".tooltip .name"), m.names[m.name[widest]]);
  await done();
});

test("narrow screens: nothing is wider than the screen, all panels are there", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"), { viewport: { width: 420, height: 900 } });
  await drawn(page);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 420);
  await page.locator(".table-panel").scrollIntoViewIfNeeded();
  assert.ok((await rows(page)).length > 5);
  await page.locator(".range > button").click();
  const pop = (await page.locator(".popover").boundingBox())!;
  assert.ok(pop.x >= 0 && pop.x + pop.width <= 420);
  await page.goto(at("?query=prometheus&base_from=now-2h&base_to=now-1h"));
  await drawn(page);
  await page.locator(".range > button").click();
  await page.getByLabel("to", { exact: true }).click({ timeout: 3000 }); // fails where the baseline's bar lies over the picker
  await done();
});

test("everything has a name, and Tab reaches it", async () => {
  const { page, done } = await open(browser, at("?query=prometheus"));
  await drawn(page);
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, select, input, a, canvas[tabindex]")].filter((e) => !(e.getAttribute("aria-label") || e.textContent?.trim() || e.closest("label"))).map((e) => e.outerHTML),
  );
  assert.deepEqual(nameless, []);
  const seen = new Set<string>();
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    seen.add(await page.evaluate(() => document.activeElement!.id || document.activeElement!.className || document.activeElement!.getAttribute("aria-label") || document.activeElement!.tagName));
  }
  for (const want of ["search", "flame", "service", "type", "table-scroll "]) assert.ok(seen.has(want) || seen.has(want.trim()), `${want} of ${[...seen].join("|")}`);
  await done();
});
