import assert from "node:assert/strict";
import { test } from "node:test";
import { clock, formatDuration, isRelative, parseDuration, parseTime, rangeLabel, toParam } from "../../src/time";

const now = Date.UTC(2026, 10, 21, 9, 3, 10);

test("parseTime reads what the API reads", () => {
  const want: [string, number | null][] = [
    ["now", now],
    ["now-1h", now - 3600e3],
    ["now-90m", now - 5400e3],
    ["now-1h30m", now - 5400e3],
    ["now-1.5h", now - 5400e3],
    ["now+5m", now + 300e3],
    ["now-500ms", now - 500],
    ["now-7d", now - 7 * 864e5],
    ["now-2w", now - 14 * 864e5],
    ["1795241460", 1795241460000],
    ["1795241460.25", 1795241460250],
    ["1795241460123", 1795241460123],
    ["99999999999", 99999999999000],
    ["100000000000", 100000000000],
    ["2026-11-21T09:03:10Z", now],
    ["2026-11-21T10:03:10+01:00", now],
    ["2026-11-21 09:03:10", now],
    ["2026-11-21 09:03", now - 10e3],
    ["2026-11-21", Date.UTC(2026, 10, 21)],
    ["  now-1h ", now - 3600e3],
    ["", null], ["yesterday", null], ["now-", null], ["now-1y", null], ["now-h", null], ["2026-13-41T00:00:00Z", null], ["-5", null],
  ];
  for (const [text, ms] of want) assert.equal(parseTime(text, now, "utc"), ms, JSON.stringify(text));
});

test("a duration written is read back", () => {
  for (const ms of [1, 999, 1000, 61_000, 3600e3, 5400e3, 864e5, 7 * 864e5 + 1]) assert.equal(parseDuration(formatDuration(ms)), ms);
  assert.equal(formatDuration(5400e3), "1h30m");
  assert.equal(formatDuration(0), "0s");
  for (const bad of ["", "1", "h", "1h ", "1x", "-1h"]) assert.equal(parseDuration(bad), null, bad);
});

test("toParam is read back to the millisecond and short where it can be", () => {
  assert.equal(toParam(now), "2026-11-21T09:03:10Z");
  assert.equal(parseTime(toParam(now + 7), 0), now + 7);
});

test("labels of ranges", () => {
  assert.equal(rangeLabel("now-15m", "now", "utc", now), "last 15 minutes");
  assert.equal(rangeLabel("now-1h", "now", "utc", now), "last hour");
  assert.equal(rangeLabel("2026-11-21T08:00:00Z", "2026-11-21T09:00:00Z", "utc", now), "2026-11-21 08:00:00 – 09:00:00");
  assert.equal(rangeLabel("2026-11-20T08:00:00Z", "2026-11-21T09:00:00Z", "utc", now), "2026-11-20 08:00:00 – 2026-11-21 09:00:00");
  assert.equal(rangeLabel("soon", "now", "utc", now), "soon to now");
  assert.equal(rangeLabel("2026-11-21T08:00:00Z", "2026-11-21T09:00:00Z", "utc", now, true), "08:00:00 – 09:00:00", "of today");
  assert.equal(rangeLabel("2026-11-20T08:00:00Z", "2026-11-20T09:00:00Z", "utc", now, true), "2026-11-20 08:00:00 – 09:00:00");
  assert.equal(rangeLabel("2025-11-21T08:00:00Z", "2026-11-21T09:00:00Z", "utc", now), "2025-11-21 08:00:00 – 2026-11-21 09:00:00", "the same day of another year");
});

test("only what follows the clock is relative", () => {
  assert.equal(isRelative("now"), true);
  assert.equal(isRelative("2026-11-21"), false);
});

test("clock in both zones", () => {
  assert.equal(clock(now, "utc"), "2026-11-21 09:03:10");
  assert.equal(clock(now, "utc", "short"), "09:03");
  const local = new Date(now);
  assert.equal(clock(now, "local", "short"), `${String(local.getHours()).padStart(2, "0")}:${String(local.getMinutes()).padStart(2, "0")}`);
});
