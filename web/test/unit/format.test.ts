import assert from "node:assert/strict";
import { test } from "node:test";
import { digits, formatChance, formatChange, formatRate, formatShare, formatValue, signed, trimZeros, typeTitle, type TypeInfo } from "../../src/format";

const cpu: TypeInfo = { id: "cpu:cpu", profile: "cpu", sample: "cpu", unit: "nanoseconds", kind: "interval" };
const alloc: TypeInfo = { id: "heap:alloc_space", profile: "heap", sample: "alloc_space", unit: "bytes", kind: "interval" };
const mutex: TypeInfo = { id: "mutex:delay", profile: "mutex", sample: "delay", unit: "nanoseconds", kind: "interval" };

test("values with units, three digits", () => {
  const want: [number, string, string][] = [
    [0, "nanoseconds", "0 s"], [1, "nanoseconds", "1.00 ns"], [999, "nanoseconds", "999 ns"], [1500, "nanoseconds", "1.50 µs"], [1500000, "nanoseconds", "1.50 ms"],
    [999_700_000, "nanoseconds", "1.00 s"], [12_340_000_000, "nanoseconds", "12.3 s"], [92.4e9, "nanoseconds", "1.54 min"], [7200e9, "nanoseconds", "2.00 h"], [864e11 * 3, "nanoseconds", "3.00 d"],
    [0, "bytes", "0 B"], [1023, "bytes", "1,023 B"], [1024, "bytes", "1.00 KiB"], [6_784_286, "bytes", "6.47 MiB"], [-2048, "bytes", "-2.00 KiB"], [3 * 2 ** 40, "bytes", "3.00 TiB"],
    [0, "count", "0"], [1234, "count", "1,234"], [999_999, "count", "999,999"], [1_234_567, "count", "1.23 M"], [12.5, "count", "12.5"],
    [7, "tasks", "7.00 tasks"],
  ];
  for (const [v, unit, text] of want) assert.equal(formatValue(v, unit), text);
});

test("chances, however small", () => {
  for (const [p, log10, text] of [[1, 0, "1"], [0.9999, 0, "1"], [0.0413, -1.4, "0.041"], [3.2e-9, -8.5, "3e-9"], [0, -412.3, "1e-412"]] as const) assert.equal(formatChance(p, log10), text);
});

test("one scale for all values of an axis", () => {
  assert.equal(formatValue(512 * 1024, "bytes", 4 * 2 ** 20), "0.500 MiB");
  assert.equal(trimZeros(formatValue(4 * 2 ** 20, "bytes")), "4 MiB");
  assert.equal(trimZeros("0.250 cores"), "0.25 cores");
  assert.equal(trimZeros("50.0 mcores"), "50 mcores");
  assert.equal(trimZeros("1,200 /s"), "1,200 /s");
  assert.equal(trimZeros("100 MiB"), "100 MiB");
});

test("CPU time per second is cores", () => {
  assert.equal(formatRate(2.5e9, cpu), "2.50 cores");
  assert.equal(formatRate(4.2e7, cpu), "42.0 mcores");
  assert.equal(formatRate(0, cpu), "0 cores");
  assert.equal(formatRate(5e7, cpu, 2e9), "0.0500 cores");
  assert.equal(formatRate(3 * 2 ** 20, alloc), "3.00 MiB/s");
  assert.equal(formatRate(2e6, mutex), "2.00 ms/s");
});

test("shares", () => {
  for (const [a, b, text] of [[1, 3, "33.3 %"], [1, 1, "100 %"], [0, 5, "0 %"], [1, 100000, "<0.01 %"], [5, 0, "–"], [9995, 10000, "100 %"], [4321, 100000, "4.32 %"]] as const) {
    assert.equal(formatShare(a, b), text);
  }
});

test("changes", () => {
  for (const [now, base, text] of [[125, 100, "+25 %"], [90, 100, "−10 %"], [102.5, 100, "+2.5 %"], [5, 0, "new"], [0, 5, "gone"], [0, 0, "–"], [5, 5, "0 %"], [5000, 100, "×50.0"]] as const) {
    assert.equal(formatChange(now, base), text);
  }
  assert.equal(signed(5, "5 s"), "+5 s");
  assert.equal(signed(-5, "-5 s"), "−5 s");
});

test("digits never shows an exponent in the range of profiles", () => {
  for (let e = -3; e < 15; e++) assert.doesNotMatch(digits(1.2345 * 10 ** e), /e/);
});

test("types have names for people, unknown ones too", () => {
  assert.equal(typeTitle(cpu), "CPU time");
  assert.equal(typeTitle({ ...cpu, id: "wall:wall_time", profile: "wall", sample: "wall_time" }), "wall wall time");
});
