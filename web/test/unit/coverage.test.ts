import assert from "node:assert/strict";
import { test } from "node:test";
import type { Stats } from "../../src/api";
import { coverageOf, profiledPart } from "../../src/coverage";

const min = 6e4, hour = 36e5;
const stats = (first: number, last: number, covered_ms = 0): Stats => ({ profiles: 1, series: 1, samples: 1, blocks: 1, bytes_read: 1, covered_ms, first, last });
const r = { from: 10 * hour, to: 11 * hour };

test("data that begins notably late or ends notably early is told from a capture that is due", () => {
  for (const [first, last, now, want] of [
    [r.from + 30 * min, r.to, r.to, { late: true, early: false }],
    [r.from, r.from + 30 * min, r.to, { late: false, early: true }],
    [r.from + 2 * min, r.to - 2 * min, r.to, { late: false, early: false }],
    [r.from, r.from + 10 * min, r.from + 10 * min, { late: false, early: false }], // the rest of the range is not over yet
    [0, 0, r.to, { late: false, early: false }], // an older server does not say
  ] as const) assert.deepEqual(coverageOf(stats(first, last), r, now), want);
});

test("the profiled part is that of the time with data", () => {
  assert.equal(profiledPart(stats(r.from, r.to, 10 * min), r), 1 / 6);
  assert.equal(profiledPart(stats(r.to - 30 * min, r.to, 30 * min), r), 1);
  assert.equal(profiledPart(stats(r.from, r.to, 5 * hour), r), 1, "five replicas");
  assert.equal(profiledPart(stats(r.to - 20e3, r.to, 3e3), r), 1, "a first window says nothing");
  assert.equal(profiledPart(stats(0, 0, 5), r), 1);
});
