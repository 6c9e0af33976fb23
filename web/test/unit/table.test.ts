import assert from "node:assert/strict";
import { test } from "node:test";
import { direct, sortLines, type Line } from "../../src/flame/rows";

const line = (name: string, base: number, now: number, q = 1, p = 0): Line => ({ function: name, file: "", kind: "own", self: 0, total: now, base, now, delta: now - base, q, p });

test("the most certain change comes first, whatever its size", () => {
  const lines = [line("large", 100, 900, 0.4, -0.4), line("sure", 10, 12, 1e-9, -12), line("surer", 10, 9, 0, -400), line("none", 1, 1)];
  assert.deepEqual(sortLines(lines, "sure", false).map((l) => l.function).reverse(), ["none", "large", "sure", "surer"]);
  assert.deepEqual(sortLines(lines, "delta", false).map((l) => l.function)[0], "large");
});

test("direct callers are those right above, the largest of either side first", () => {
  const f = {
    names: ["f", "a", "b", "c"], kinds: ["own", "std", "dep", "own"], files: ["", "", "", ""],
    name: [0, 1, 3, 2], depth: [0, 1, 2, 1], value: [10, 4, 4, 6], self: [0, 0, 4, 6], base_value: [30, 28, 2, 2], base_self: [0, 26, 2, 2],
  };
  assert.deepEqual(direct(f, 1, 1).map((o) => [o.name, o.now, o.base]), [["a", 4, 28], ["b", 6, 2]]);
  assert.deepEqual(direct({ ...f, base_value: undefined }, 2, 0).map((o) => [o.name, o.now, o.base]), [["b", 12, 0], ["a", 8, 0]]);
});
