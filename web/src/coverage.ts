// How much of a range the data covers.

import type { Stats } from "./api";

/** slack is how much of a range may be without data and not be worth a word: scraped CPU profiles come once a minute. */
const slack = (from: number, to: number) => Math.max(9e4, (to - from) / 20);

/** coverageOf says whether the data begins notably after the range, or ends notably before it (or before now). */
export function coverageOf(s: Stats, r: { from: number; to: number }, now: number): { late: boolean; early: boolean } {
  if (!s.first || !s.last) return { late: false, early: false };
  const least = slack(r.from, r.to);
  return { late: s.first - r.from > least, early: Math.min(r.to, now) - s.last > least };
}

/** profiledPart is the most of the time between the first and the last profile that a process can have been profiled: exact for one process, 1 where not known. */
export function profiledPart(s: Stats, r: { from: number; to: number }): number {
  const span = Math.min(s.last, r.to) - Math.max(s.first, r.from);
  return s.first && span > 6e4 ? Math.min(1, s.covered_ms / span) : 1;
}
