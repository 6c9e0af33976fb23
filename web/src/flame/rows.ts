import type { SortKey } from "../url";
import type { Columns, Model } from "./model";

/** Row is one function of the table. */
export interface Row {
  function: string;
  file: string;
  kind: string;
  self: number;
  total: number;
  base_self?: number;
  base_total?: number;
}

/** rowsOf adds up the functions below node root: self of each frame, total of the outermost frame on each stack. */
export function rowsOf(m: Model, root = 0): Row[] {
  const rows = new Map<number, Row>();
  const open = new Map<number, number>(); // name → end of the subtree of its outermost open frame
  for (let i = root; i < m.end[root]; i++) {
    if (i === 0) continue; // the root is no function
    const id = m.name[i];
    let r = rows.get(id);
    if (!r) {
      rows.set(id, (r = { function: m.names[id], file: m.files[id], kind: m.kinds[id], self: 0, total: 0 }));
      if (m.base) r.base_self = r.base_total = 0;
    }
    r.self += m.self[i];
    if (m.baseSelf) r.base_self! += m.baseSelf[i];
    if ((open.get(id) ?? 0) <= i) {
      open.set(id, m.end[i]);
      r.total += m.value[i];
      if (m.base) r.base_total! += m.base[i];
    }
  }
  return [...rows.values()];
}

/** Line is a row with its sides scaled. */
export interface Line extends Row {
  base: number; // total of the baseline, scaled
  now: number; // total, scaled
  delta: number;
  q?: number; // chance that the change is none
  p?: number; // the logarithm of the same for this function alone, by which they are ordered
}

/** sortLines orders lines; equal ones by name, so that nothing jumps between loads. */
export function sortLines(lines: Line[], key: SortKey, asc: boolean): Line[] {
  const by: Record<SortKey, (a: Line, b: Line) => number> = {
    name: (a, b) => (a.function < b.function ? -1 : a.function > b.function ? 1 : 0),
    self: (a, b) => b.self - a.self,
    total: (a, b) => b.total - a.total,
    base: (a, b) => b.base - a.base,
    delta: (a, b) => Math.abs(b.delta) - Math.abs(a.delta),
    sure: (a, b) => a.p! - b.p!,
  };
  const f = by[key];
  const sign = asc === (key === "name") ? 1 : -1;
  return [...lines].sort((a, b) => sign * f(a, b) || by.name(a, b));
}

/** One is a direct caller or callee; values are scaled. */
export interface One {
  name: string;
  kind: string;
  now: number;
  base: number;
}

/** direct lists the nodes below the root of f, the largest first. */
export function direct(f: Columns, now: number, base: number): One[] {
  const out: One[] = [];
  for (let i = 1; i < f.name.length; i++) {
    if (f.depth[i] !== 1) continue;
    const n = f.name[i];
    out.push({ name: f.names[n], kind: f.kinds[n], now: f.value[i] * now, base: (f.base_value?.[i] ?? 0) * base });
  }
  return out.sort((a, b) => Math.max(b.now, b.base) - Math.max(a.now, a.base));
}
