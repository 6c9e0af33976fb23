// The GC's cycles as gctrace tells them, put together from their series: all samples of one time are one line.

import type { PromSeries } from "./prom";

/** Cycle is one line of gctrace; seconds and bytes. */
export interface Cycle {
  at: number; // Unix ms
  n: number;
  forced: boolean;
  pause: number; // both pauses
  concurrent: number;
  cpu: Record<string, number>; // by phase
  ratio: number; // of all CPU time since the program started
  start: number;
  end: number;
  live: number;
  goal: number;
  procs: number;
}

/** cyclesOf reads the samples of one process's gctrace series; newest first. */
export function cyclesOf(series: readonly PromSeries[]): Cycle[] {
  const found = new Map<number, Cycle>();
  for (const { metric, values } of series) {
    for (const [t, text] of values ?? []) {
      const at = Math.round(t * 1000);
      let c = found.get(at);
      if (!c) found.set(at, (c = { at, n: 0, forced: false, pause: 0, concurrent: 0, cpu: {}, ratio: 0, start: 0, end: 0, live: 0, goal: 0, procs: 0 }));
      put(c, metric, Number(text));
    }
  }
  return [...found.values()].filter((c) => c.n > 0).sort((a, b) => b.at - a.at);
}

function put(c: Cycle, m: Record<string, string>, v: number): void {
  switch (m.__name__) {
    case "gctrace_cycle": return void (c.n = v);
    case "gctrace_forced": return void (c.forced = v > 0);
    case "gctrace_pause_seconds": return void (c.pause += v);
    case "gctrace_concurrent_seconds": return void (c.concurrent = v);
    case "gctrace_cpu_seconds": return void (c.cpu[m.phase] = v);
    case "gctrace_cpu_ratio": return void (c.ratio = v);
    case "gctrace_goal_bytes": return void (c.goal = v);
    case "gctrace_procs": return void (c.procs = v);
    case "gctrace_heap_bytes":
      if (m.at === "start" || m.at === "end" || m.at === "live") c[m.at] = v;
  }
}

/** lastSteps finds the last steps that hold n together, or all there are; null where there is none. */
export function lastSteps(counts: readonly (number | null)[], n: number): { first: number; last: number; total: number } | null {
  const last = counts.findLastIndex((c) => c);
  let first = last, total = counts[last] ?? 0;
  while (first > 0 && total < n) total += counts[--first] ?? 0;
  return last < 0 ? null : { first, last, total };
}

/** quantile is of numbers in any order, by the nearest rank; 0 of none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] : 0;
}
