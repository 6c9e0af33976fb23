import assert from "node:assert/strict";
import { test } from "node:test";
import type { Series } from "../../src/api";
import { chartStep, rebin, withBaseline } from "../../src/series";

const make = (kind: "interval" | "gauge", ...values: number[][]): Series => ({
  type: { id: "x:y", profile: "x", sample: "y", unit: "count", kind }, from: 0, to: 30_000 * (values[0]?.length ?? 0), step: 30_000,
  series: values.map((v, i) => ({ labels: { a: String(i) }, total: 0, values: v })),
});
const repeat = (part: number[], n: number) => Array.from({ length: n }, () => part).flat();

test("steps that are full stay", () => {
  const s = make("interval", repeat([5], 40));
  assert.equal(rebin(s), s);
  assert.equal(rebin(make("interval")).step, 30_000);
});

test("a comb becomes a line: intervals add up, gauges are averaged", () => {
  assert.deepEqual(rebin(make("interval", repeat([6, 0], 20))).series[0].values, repeat([6], 20));
  assert.deepEqual(rebin(make("gauge", repeat([400, 0], 20))).series[0].values, repeat([200], 20));
  const four = rebin(make("interval", repeat([0, 8, 0, 0], 20)));
  assert.equal(four.step, 120_000);
  assert.deepEqual(four.series[0].values, repeat([8], 20));
});

test("nothing is lost and nothing is made up", () => {
  const s = make("interval", repeat([1, 0, 0, 2, 0, 3, 0], 9), repeat([0, 0, 1, 0, 0, 0, 4], 9));
  const r = rebin(s);
  const sum = (v: number[]) => v.reduce((a, b) => a + b, 0);
  r.series.forEach((x, i) => assert.equal(sum(x.values), sum(s.series[i].values)));
});

test("a real gap stays a gap", () => {
  const s = make("interval", [...repeat([5], 30), ...repeat([0], 30), ...repeat([5], 30)]);
  assert.equal(rebin(s), s);
});

test("a baseline with another selector brings its own groups", () => {
  const a = make("interval", [1, 2]), b = make("interval", [3, 4], [5, 6]);
  assert.deepEqual(withBaseline(a, b).series.map((x) => x.values), [[1, 2], [5, 6]]);
});

test("steps are round and give about 120 points", () => {
  for (const [range, step] of [[300e3, 15e3], [3600e3, 30e3], [864e5, 900e3], [7 * 864e5, 7200e3], [365 * 864e5, 3 * 864e5]]) assert.equal(chartStep(range), step);
});
