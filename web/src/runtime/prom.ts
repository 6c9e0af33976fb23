// Prometheus' HTTP API as Sonde serves it, and its answers as columns.

import { get } from "../api";

const root = "/prometheus/api/v1/";

export interface PromSeries {
  metric: Record<string, string>;
  value?: [number, string]; // seconds, number
  values?: [number, string][];
}

interface Answer {
  data: { resultType: string; result: PromSeries[] };
}

/** instant asks for the value of query at one time (Unix ms); a range selector answers with the samples as they are stored. */
export async function instant(query: string, at: number, stop?: AbortSignal): Promise<PromSeries[]> {
  return (await get<Answer>(`${root}query`, { query, time: at / 1000 }, stop)).data.result;
}

/** ranged asks for the values of query over a grid. */
export async function ranged(query: string, g: Grid, stop?: AbortSignal): Promise<PromSeries[]> {
  return (await get<Answer>(`${root}query_range`, { query, start: g.start / 1000, end: (g.start + (g.n - 1) * g.step) / 1000, step: g.step / 1000 }, stop)).data.result;
}

/** Grid are the times of a chart's values: n of them, step apart (ms), from start (Unix ms). A value stands for the step before its time. */
export interface Grid {
  start: number;
  step: number;
  n: number;
}

/** gridOf covers [from, to] with multiples of step. */
export function gridOf(from: number, to: number, step: number): Grid {
  const start = Math.ceil(from / step) * step;
  return { start, step, n: Math.max(1, Math.floor((to - start) / step) + 1) };
}

/** column puts the values of a series on the grid; null where there is none, and where it is no number. */
export function column(values: readonly [number, string][], g: Grid): (number | null)[] {
  const out: (number | null)[] = new Array(g.n).fill(null);
  for (const [t, text] of values) {
    const i = Math.round((t * 1000 - g.start) / g.step), v = Number(text);
    if (i >= 0 && i < g.n && Number.isFinite(v)) out[i] = v;
  }
  return out;
}

/** resample puts the steps of a profile's series on the grid, each value divided by div. Before the first profile and after the last one there is nothing, rather than zero: the next is on its way. */
export function resample(values: readonly number[], from: number, step: number, g: Grid, div: number): (number | null)[] {
  const first = values.findIndex((v) => v !== 0), last = values.findLastIndex((v) => v !== 0);
  return Array.from({ length: g.n }, (_, i) => {
    const k = Math.floor((g.start + i * g.step - 1 - from) / step);
    return first >= 0 && k >= first && k <= last ? values[k] / div : null;
  });
}

/** literal is text as a regular expression that matches only it. */
export const literal = (s: string) => s.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
