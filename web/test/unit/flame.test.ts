import assert from "node:assert/strict";
import { test } from "node:test";
import { Boxes, cull, minWidth } from "../../src/flame/cull";
import { rowsOf } from "../../src/flame/rows";
import { buildModel, findZoom, marks, matched, nodeAt, path, walk, zoomKey, type Columns } from "../../src/flame/model";
import { randomTree } from "../tree";

// total 100 ─ a 60 ─ b 40 ─ a 10
//           │      └ c 15
//           └ b 30 ─ c 30
const small: Columns = {
  names: ["total", "a", "b", "c"], kinds: ["", "own", "dep", "std"], files: ["", "a.go", "b.go", "c.go"],
  name: [0, 1, 2, 1, 3, 2, 3], depth: [0, 1, 2, 3, 2, 1, 2],
  value: [100, 60, 40, 10, 15, 30, 30], self: [10, 5, 30, 10, 15, 0, 30],
};

test("layout: children side by side from their parent's start", () => {
  const m = buildModel(small);
  assert.deepEqual([...m.start], [0, 0, 0, 0, 40, 60, 60]);
  assert.deepEqual([...m.width], [100, 60, 40, 10, 15, 30, 30]);
  assert.deepEqual([...m.parent], [-1, 0, 1, 2, 1, 0, 5]);
  assert.deepEqual([...m.end], [7, 5, 4, 4, 5, 7, 7]);
  assert.equal(m.rows, 4);
});

test("layout: columns that are no tree are refused", () => {
  const bad: [string, Partial<Columns>][] = [
    ["empty", { name: [], depth: [], value: [], self: [] }],
    ["lengths", { value: [1] }],
    ["a skipped depth", { depth: [0, 2, 2, 3, 2, 1, 2] }],
    ["a second root", { depth: [0, 1, 2, 3, 2, 0, 2] }],
    ["no root", { depth: [1, 1, 2, 3, 2, 1, 2] }],
  ];
  for (const [what, patch] of bad) assert.throws(() => buildModel({ ...small, ...patch }), /read flame graph/, what);
});

test("layout: in a diff a frame is as wide as both sides, scaled", () => {
  const m = buildModel({ ...small, base_value: [50, 0, 0, 0, 0, 50, 50], base_self: [0, 0, 0, 0, 0, 0, 50] }, { now: 0.01, base: 0.02 });
  assert.deepEqual([...m.width].map((x) => +x.toFixed(6)), [2, 0.6, 0.4, 0.1, 0.15, 1.3, 1.3]);
});

test("layout: every child lies within its parent in any tree", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const m = buildModel(randomTree(2000, seed));
    for (let i = 1; i < m.n; i++) {
      const p = m.parent[i];
      assert.ok(m.start[i] >= m.start[p] && m.start[i] + m.width[i] <= m.start[p] + m.width[p] + 1e-6);
      assert.ok(i < m.end[p] && m.end[i] <= m.end[p]);
    }
  }
});

test("zoom keys find the same path in newer data, and nothing where it is gone", () => {
  const m = buildModel(small);
  for (let i = 0; i < m.n; i++) assert.equal(findZoom(m, zoomKey(m, i)), i);
  const later = buildModel({ ...small, name: [0, 2, 3], depth: [0, 1, 2], value: [9, 9, 9], self: [0, 0, 9] });
  assert.equal(findZoom(later, zoomKey(m, 6)), 2);
  assert.equal(findZoom(later, zoomKey(m, 1)), 0);
  for (const bad of ["", "x", "1", "1-", "-", "NaN-zz"]) assert.equal(findZoom(m, bad), 0);
  assert.deepEqual(path(m, 3), [0, 1, 2, 3]);
});

test("hit test agrees with the layout", () => {
  const m = buildModel(randomTree(3000, 7));
  for (let i = 0; i < m.n; i++) if (m.width[i] > 0) assert.equal(nodeAt(m, m.depth[i], m.start[i] + m.width[i] / 2), i);
  assert.equal(nodeAt(m, 0, -1), -1);
  assert.equal(nodeAt(m, 0, m.width[0]), -1);
  assert.equal(nodeAt(buildModel(small), 1, 95), -1, "the root's own time has no child above it");
});

test("arrow keys walk the tree", () => {
  const m = buildModel(small);
  assert.equal(walk(m, 0, "child"), 1);
  assert.equal(walk(m, 1, "child"), 2);
  assert.equal(walk(m, 3, "child"), 3);
  assert.equal(walk(m, 2, "parent"), 1);
  assert.equal(walk(m, 0, "parent"), 0);
  assert.equal(walk(m, 2, "next"), 4);
  assert.equal(walk(m, 4, "next"), 6, "cousins follow");
  assert.equal(walk(m, 6, "next"), 6);
  assert.equal(walk(m, 6, "prev"), 4);
  assert.equal(walk(m, 4, "next", 1), 4, "not out of what is zoomed");
});

test("culling: no box is narrower than a pixel's share, none overlaps, none is outside", () => {
  for (const [seed, width] of [[1, 300], [2, 900], [3, 1400]]) {
    const m = buildModel(randomTree(20000, seed));
    const out = new Boxes();
    cull(m, { x0: 0, x1: m.width[0] }, width, 0, m.rows, out);
    const edge = new Float64Array(m.rows);
    for (let b = 0; b < out.n; b++) {
      assert.ok(out.x[b] >= -1e-3 && out.x[b] + out.w[b] <= width + 1.001);
      if (out.node[b] < 0) assert.equal(out.w[b], 1);
      else {
        assert.ok(out.w[b] >= minWidth - 1e-4);
        assert.ok(out.x[b] >= edge[out.row[b]] - 1e-2, "boxes of a row come from left to right");
        edge[out.row[b]] = out.x[b] + out.w[b];
      }
    }
  }
});

test("culling: the cost follows the pixels, not the nodes", () => {
  const m = buildModel(randomTree(100000, 5));
  const out = new Boxes();
  cull(m, { x0: 0, x1: m.width[0] }, 1000, 0, m.rows, out);
  assert.ok(out.visited < m.n / 2, `${out.visited} of ${m.n} nodes looked at`);
  const all = out.visited;
  cull(m, { x0: 0, x1: m.width[0] }, 1000, 0, 10, out);
  assert.ok(out.visited < all, "rows below the view are not looked at");
  for (let b = 0; b < out.n; b++) assert.ok(out.row[b] < 10);
});

test("culling: a zoomed frame fills the width, its ancestors too, its siblings are gone", () => {
  const m = buildModel(small);
  const out = new Boxes();
  cull(m, { x0: 60, x1: 90 }, 300, 0, 4, out);
  assert.deepEqual([...out.node.slice(0, out.n)], [0, 5, 6]);
  for (let b = 0; b < out.n; b++) assert.deepEqual([out.x[b], out.w[b]], [0, 300]);
});

test("culling: nothing to show is nothing, not a division by zero", () => {
  const m = buildModel({ ...small, name: [0], depth: [0], value: [0], self: [0] });
  const out = new Boxes();
  cull(m, { x0: 0, x1: 0 }, 300, 0, 4, out);
  assert.equal(out.n, 0);
});

test("search: a stack counts once, by its outermost match", () => {
  const m = buildModel(small);
  assert.deepEqual(matched(m, marks(m, (n) => n === "a")!), { value: 60, base: 0, frames: 1 });
  assert.deepEqual(matched(m, marks(m, (n) => n === "b" || n === "c")!), { value: 85, base: 0, frames: 3 });
  assert.deepEqual(matched(m, marks(m, (n) => n === "b")!, 1), { value: 40, base: 0, frames: 1 });
  assert.equal(matched(m, marks(m, () => true)!).value, 90, "the root is no function");
  assert.equal(marks(m, null), null);
});

test("table: self adds up to the whole, total counts a recursive stack once", () => {
  const rows = new Map(rowsOf(buildModel(small)).map((r) => [r.function, r]));
  assert.deepEqual([rows.get("a")!.self, rows.get("a")!.total], [15, 60]);
  assert.deepEqual([rows.get("b")!.self, rows.get("b")!.total], [30, 70]);
  assert.deepEqual([rows.get("c")!.self, rows.get("c")!.total], [45, 45]);
  const m = buildModel(randomTree(5000, 3));
  const sum = rowsOf(m).reduce((s, r) => s + r.self, m.self[0]);
  assert.equal(sum, m.value[0]);
  for (const r of rowsOf(m)) assert.ok(r.self <= r.total && r.total <= m.value[0]);
});
