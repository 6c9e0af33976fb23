import assert from "node:assert/strict";
import { test } from "node:test";
import { cyclesOf, lastSteps, quantile } from "../../src/runtime/cycles";
import { levels, tickCount, ticks, top, unitText } from "../../src/runtime/draw";
import { pageIn, pageOf, turns } from "../../src/runtime/paging";
import { column, gridOf, resample } from "../../src/runtime/prom";
import { chartQuery, charts, sparsestQuery, groupName, groupsQuery, intervalOf, matchersOf, onlyGroups, samplesQuery, scopeOf } from "../../src/runtime/queries";
import { changed, choose, chosen, defaultView, formatView, parseView, toggle } from "../../src/runtime/url";

test("the address holds the whole view", () => {
  assert.equal(formatView(defaultView), "");
  assert.deepEqual(parseView(""), defaultView);
  const v = { ...defaultView, tab: "builds" as const, query: '{service_name="a&b"}', from: "now-3h", by: "service_version", a: "x", b: "y", module: "golang.org/x/text", version: "<v0.3.8", zone: "local" as const, live: true };
  assert.deepEqual(parseView(formatView(v)), v);
  assert.equal(parseView("?by=a)or(b").by, "");
  assert.deepEqual(parseView("?tab=nosuch&tz=mars&from=&more=1"), defaultView);
});

test("pages of lines go on where the one before ended, and what chooses other lines goes to the newest", () => {
  assert.deepEqual(turns("", { more: true, next: 70 }), { older: "before:70", newer: "" });
  assert.deepEqual(turns("", { more: false }), { older: "", newer: "" });
  assert.deepEqual(turns("before:70", { more: true, next: 40 }), { older: "before:40", newer: "after:70" });
  assert.deepEqual(turns("after:70", { more: true, next: 90 }), { older: "before:70", newer: "after:90" });
  assert.deepEqual(turns("after:90", { more: false }), { older: "before:90", newer: "" });
  assert.deepEqual([pageOf(""), pageOf("before:70"), pageOf("after:70")], [{ order: "newest" }, { order: "newest", to: 70 }, { order: "oldest", from: 70 }]);
  assert.deepEqual(["before:70", "after:100", "before:10", "later"].map((p) => pageIn(p, { from: 10, to: 100 })), ["before:70", "", "", ""]);
  const v = { ...defaultView, tab: "lines" as const, page: "before:70" };
  assert.equal(changed(v, { grep: "gc" }).page, "");
  assert.equal(changed(v, { zone: "local" }).page, "before:70");
  assert.equal(changed(v, { page: "after:70" }).page, "after:70");
  assert.equal(changed(v, { query: v.query }).page, "before:70");
});

test("choices of charts are lists in the address", () => {
  assert.equal(choose("memory:rss,pause:p50", "memory", "live"), "pause:p50,memory:live");
  assert.equal(chosen("memory:live,pause:p50", "pause"), "p50");
  assert.equal(chosen("", "pause"), "");
  assert.equal(toggle("cpu,memory", "cpu"), "memory");
  assert.equal(toggle("", "cpu"), "cpu");
});

test("selectors become matchers, and values of labels what matches only them", () => {
  assert.equal(matchersOf(""), "");
  assert.equal(matchersOf("cart"), 'service_name="cart"');
  assert.equal(matchersOf('{a="b", c=~"d.*"}'), 'a="b",c=~"d.*"');
  assert.equal(matchersOf('{a="b"} or up{'), null);
  assert.equal(onlyGroups('a="b"', "c", ["x.y", "z|w"]), 'a="b",c=~"x\\\\.y|z\\\\|w"');
  assert.equal(onlyGroups("", "c", [""]), 'c=~""');
});

test("a chart is one query, whose lines are told apart by a label", () => {
  const memory = charts.find((c) => c.id === "memory")!;
  assert.equal(
    chartQuery(memory.lines.slice(0, 2), scopeOf('a="b"', "", 30, 15)),
    'label_replace(sum ((process_resident_memory_bytes{a="b"} and last_over_time(process_resident_memory_bytes{a="b"}[45s]))), "line", "rss", "", "") or label_replace(sum ((go_memory_classes_heap_objects_bytes{a="b"} and last_over_time(go_memory_classes_heap_objects_bytes{a="b"}[45s])) or (go_memstats_heap_alloc_bytes{a="b"} and last_over_time(go_memstats_heap_alloc_bytes{a="b"}[45s]))), "line", "heap", "", "")',
  );
  const pause = charts.find((c) => c.id === "pause")!;
  assert.match(chartQuery([pause.lines[0]], scopeOf("", "v", 30, 10)), /sum by \(v\) \(rate\(go_gc_pauses_seconds\{\}\[45s\]\)\)\) or .*sum by \(v, le\)/);
  assert.match(groupsQuery("", "service_instance_id", "3600s", 8), /^topk\(8, sum by \(service_instance_id, k8s_pod_name, host_name, process_pid\)/);
  for (const c of charts) assert.equal(new Set(c.lines.map((l) => l.id)).size, c.lines.length, c.id);
});

test("windows hold three samples, and rates no less than a step; a value counts no longer than that", () => {
  const windows = (step: number, interval: number) => { const { window, recent } = scopeOf("", "", step, interval); return [window, recent]; };
  assert.deepEqual(windows(30, 10), ["45s", "45s"]);
  assert.deepEqual(windows(3600, 15), ["3600s", "45s"]);
  assert.deepEqual(windows(30, 60.02), ["180s", "180s"]);
  assert.deepEqual(windows(30, 300), ["300s", "300s"]);
});

test("how often processes are sampled is told by the times of one's samples, not by how many there are: it may have lived only a part of the five minutes", () => {
  const s = (...times: number[]) => ({ metric: {}, values: times.map((t): [number, string] => [t, "1"]) });
  assert.equal(intervalOf([s(0, 15, 30, 45, 60, 75)]), 15); // 75 s of 300 s: six samples are no interval of 50 s
  assert.equal(intervalOf([s(2, 10, 20, 30, 40), s(15, 30)]), 10);
  assert.equal(intervalOf([s(0, 60, 120, 240)]), 60); // one is missing
  assert.equal(intervalOf([s(5)]), 15);
  assert.equal(intervalOf([]), 15);
  assert.match(sparsestQuery('a="b"'), /^bottomk\(1, count_over_time\(process_resident_memory_bytes\{a="b"\}\[5m\]\) and .* or topk\(1, count_over_time\(process_resident_memory_bytes\{a="b"\}\[5m\]\) or /);
  assert.equal(samplesQuery({ __name__: "x", service_name: 'a"b' }), '{__name__=~"process_resident_memory_bytes|go_goroutines|go_sched_goroutines_goroutines",service_name="a\\"b"}[5m]');
});

test("an instance is named by its pod, else by host and pid, else by the start of its id", () => {
  const id = { service_instance_id: "0123456789abcdef" };
  assert.equal(groupName("service_instance_id", { ...id, k8s_pod_name: "cart-1", host_name: "n", process_pid: "7" }), "cart-1");
  assert.equal(groupName("service_instance_id", { ...id, host_name: "n", process_pid: "7" }), "n:7");
  assert.equal(groupName("service_instance_id", id), "01234567");
  assert.equal(groupName("service_version", {}), "no service_version");
});

test("values lie on the grid; what is no number is a gap", () => {
  const g = gridOf(1_000_000, 1_120_000, 30_000);
  assert.deepEqual(g, { start: 1_020_000, step: 30_000, n: 4 });
  assert.deepEqual(column([[1020, "1"], [1080, "NaN"], [1110, "2.5"], [9999, "3"]], g), [1, null, null, 2.5]);
  assert.deepEqual(gridOf(5, 6, 30_000), { start: 30_000, step: 30_000, n: 1 });
  // A value stands for the step before its time: the bin [990 s, 1020 s) belongs to 1020 s; bins of a minute are spread.
  assert.deepEqual(resample([10, 20, 30, 40], 990_000, 30_000, g, 10), [1, 2, 3, 4]);
  assert.deepEqual(resample([10, 20], 990_000, 60_000, g, 10), [1, 1, 2, 2]);
  assert.deepEqual(resample([10], 990_000, 30_000, g, 10), [1, null, null, null]);
  assert.deepEqual(resample([0, 10, 0, 20, 0], 960_000, 30_000, g, 10), [1, 0, 2, null]);
  assert.deepEqual(resample([0, 0], 990_000, 30_000, g, 10), [null, null, null, null]);
});

test("axes have round values, and units", () => {
  assert.deepEqual(levels(3.7, "cores"), [0, 2, 4]);
  assert.deepEqual(levels(1.4 * 2 ** 30, "bytes"), [0, 2 ** 29, 2 ** 30, 1.5 * 2 ** 30]);
  assert.deepEqual(levels(0, "count"), [0, 1]);
  for (const max of [1e-9, 0.012, 0.999, 1, 3, 77, 1e6, 2 ** 33 + 1]) {
    for (const unit of ["count", "bytes"] as const) {
      const l = levels(max, unit);
      assert.ok(l.length >= 2 && l.length <= 5 && l[l.length - 1] >= max * 0.999999, `${max} ${unit}: ${l}`);
    }
  }
  assert.equal(unitText(0.25, "cores"), "250 mcores");
  assert.equal(unitText(0.0031, "seconds"), "3.10 ms");
  assert.equal(unitText(0, "share"), "0 %");
  assert.equal(unitText(2 ** 20, "bytes/s"), "1.00 MiB/s");
  assert.equal(unitText(42.123, "/min"), "42.1/min");
  assert.equal(unitText(1843, "count"), "1,843");
});

test("a limit far above what it limits does not press the lines to the ground", () => {
  const line = (v: number, limit: boolean) => ({ values: [v, null], colour: "", limit });
  assert.equal(top([line(10, false), line(25, true)]), 25);
  assert.equal(top([line(10, false), line(1000, true)]), 10);
  assert.equal(top([line(1000, true)]), 1000);
  assert.equal(top([]), 0);
});

test("times on the axis are round, and as many as fit", () => {
  const at = Date.UTC(2026, 10, 21, 11, 2, 0);
  assert.deepEqual(ticks(at, at + 36e5, 6, "utc").map((t) => t.text), ["11:10", "11:20", "11:30", "11:40", "11:50", "12:00"]);
  assert.deepEqual(ticks(at, at + 864e5, 5, "utc").map((t) => t.text), ["12:00", "18:00", "11-22", "06:00"]);
  assert.deepEqual(ticks(at, at + 20_000, 3, "utc").map((t) => t.text), ["11:02:00", "11:02:10", "11:02:20"]);
  assert.ok(ticks(at, at + 400 * 864e5, 7, "utc").length <= 8);
  assert.equal(tickCount(10), 2);
});

test("samples of one time are one cycle, newest first; a line without its number is none", () => {
  const s = (metric: Record<string, string>, values: [number, string][]) => ({ metric, values });
  const list = cyclesOf([
    s({ __name__: "gctrace_cycle" }, [[10.001, "1"], [20.5, "2"]]),
    s({ __name__: "gctrace_pause_seconds", phase: "sweep_termination" }, [[10.001, "0.1"], [20.5, "0.2"], [30, "9"]]),
    s({ __name__: "gctrace_pause_seconds", phase: "mark_termination" }, [[20.5, "0.3"]]),
    s({ __name__: "gctrace_heap_bytes", at: "live" }, [[20.5, "64"]]), s({ __name__: "gctrace_heap_bytes", at: "constructor" }, [[20.5, "64"]]),
    s({ __name__: "gctrace_cpu_seconds", phase: "assist" }, [[20.5, "0.01"]]), s({ __name__: "gctrace_forced" }, [[20.5, "1"]]),
  ]);
  assert.deepEqual(list.map((c) => [c.at, c.n, c.pause, c.live, c.forced]), [[20_500, 2, 0.5, 64, true], [10_001, 1, 0.1, 0, false]]);
  assert.equal(list[0].cpu.assist, 0.01);
  assert.deepEqual([quantile([], 0.5), quantile([3, 1, 2], 0.5), quantile([3, 1, 2], 0.99), quantile([3, 1, 2], 1)], [0, 2, 3, 3]);
});

test("the last steps that hold so many cycles end where the last cycle is, not where the range does", () => {
  assert.deepEqual(lastSteps([0, 3, null, 4, 5, null, 0], 8), { first: 3, last: 4, total: 9 });
  assert.deepEqual(lastSteps([1, null, 2, null], 8), { first: 0, last: 2, total: 3 });
  assert.deepEqual(lastSteps([90, 20], 8), { first: 1, last: 1, total: 20 });
  assert.equal(lastSteps([null, 0], 8), null);
});
