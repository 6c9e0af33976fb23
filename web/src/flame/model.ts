// The flame graph as flat arrays: built once per answer in O(nodes), then drawn, searched and hit-tested without allocation.

/** Columns are the API's flame graph: nodes in depth-first pre-order, node 0 the root. The base columns are there in diffs. */
export interface Columns {
  names: string[];
  kinds: string[];
  files: string[];
  name: ArrayLike<number>;
  depth: ArrayLike<number>;
  value: ArrayLike<number>;
  self: ArrayLike<number>;
  base_value?: ArrayLike<number>;
  base_self?: ArrayLike<number>;
}

/** Scale says how the two sides of a diff are made comparable: each side's values are multiplied by its factor. */
export interface Scale {
  now: number;
  base: number;
}

/** Model is a laid-out flame graph. A frame's place is [start, start+width) in the root's unit; its row is its depth. */
export interface Model {
  n: number;
  names: string[];
  kinds: string[];
  files: string[];
  name: Int32Array;
  depth: Int32Array;
  parent: Int32Array; // -1 for the root
  end: Int32Array; // one past the last node of the subtree
  value: Float64Array; // as the API gave it
  self: Float64Array;
  base: Float64Array | null; // null where this is no diff
  baseSelf: Float64Array | null;
  start: Float64Array;
  width: Float64Array;
  hash: Uint32Array; // of the path of names from the root
  nameHash: Uint32Array; // parallel to names
  rows: number; // deepest depth + 1
  scale: Scale;
}

/** hashString is FNV-1a over UTF-16 code units. */
export function hashString(s: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < s.length; i++) h = Math.imul(h ^ s.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/**
 * buildModel lays c out. In a diff a frame is as wide as both sides together, scaled, so that what is gone is seen as well as what is new.
 * It throws where the columns are not a tree in pre-order: the answer is not what it claims to be.
 */
export function buildModel(c: Columns, scale: Scale = { now: 1, base: 1 }): Model {
  const n = c.name.length;
  if (n === 0 || c.depth.length !== n || c.value.length !== n || c.self.length !== n) {
    throw new Error(`read flame graph: columns of ${n}, ${c.depth.length}, ${c.value.length} and ${c.self.length} nodes`);
  }
  const m: Model = {
    n, names: c.names, kinds: c.kinds, files: c.files,
    name: Int32Array.from(c.name), depth: Int32Array.from(c.depth),
    parent: new Int32Array(n), end: new Int32Array(n).fill(n),
    value: Float64Array.from(c.value), self: Float64Array.from(c.self),
    base: c.base_value ? Float64Array.from(c.base_value) : null,
    baseSelf: c.base_self ? Float64Array.from(c.base_self) : null,
    start: new Float64Array(n), width: new Float64Array(n),
    hash: new Uint32Array(n), nameHash: Uint32Array.from(c.names, hashString),
    rows: 0, scale,
  };
  place(m);
  return m;
}

function place(m: Model): void {
  const at: number[] = []; // at[d]: the open node at depth d
  const cursor: number[] = []; // cursor[d]: where the next child of that node starts
  for (let i = 0; i < m.n; i++) {
    const d = m.depth[i];
    if (d > at.length || (d === 0) !== (i === 0)) throw new Error(`read flame graph: node ${i} has depth ${d} below depth ${at.length - 1}`);
    for (let k = d; k < at.length; k++) m.end[at[k]] = i;
    at.length = cursor.length = d;
    const p = d > 0 ? at[d - 1] : -1;
    m.parent[i] = p;
    m.width[i] = m.value[i] * m.scale.now + (m.base ? m.base[i] * m.scale.base : 0);
    m.start[i] = p < 0 ? 0 : cursor[d - 1];
    if (p >= 0) cursor[d - 1] += m.width[i];
    m.hash[i] = p < 0 ? 0x9e3779b9 : (Math.imul(m.hash[p] ^ m.nameHash[m.name[i]], 0x01000193) ^ (m.hash[p] >>> 15)) >>> 0;
    at.push(i);
    cursor.push(m.start[i]);
    if (d + 1 > m.rows) m.rows = d + 1;
  }
}

/** zoomKey names node i so that a link finds it again in newer data: its depth and the hash of its path. */
export function zoomKey(m: Model, i: number): string {
  return i === 0 ? "" : `${m.depth[i]}-${m.hash[i].toString(16)}`;
}

/** findZoom returns the node that key names, or 0 where there is none. */
export function findZoom(m: Model, key: string): number {
  const [d, h] = key.split("-");
  const depth = Number(d);
  const hash = parseInt(h ?? "", 16);
  if (!key || Number.isNaN(depth) || Number.isNaN(hash)) return 0;
  for (let i = 0; i < m.n; i++) if (m.hash[i] === hash && m.depth[i] === depth) return i;
  return 0;
}

/** path returns the nodes from the root to i, both included. */
export function path(m: Model, i: number): number[] {
  const out: number[] = [];
  for (let k = i; k >= 0; k = m.parent[k]) out.push(k);
  return out.reverse();
}

/** nodeAt returns the node of row depth at position x (in the root's unit) below the zoomed node's window, or -1. */
export function nodeAt(m: Model, depth: number, x: number): number {
  let i = 0;
  if (x < 0 || x >= m.width[0]) return -1;
  while (m.depth[i] < depth) {
    let next = -1;
    for (let c = i + 1; c < m.end[i]; c = m.end[c]) {
      if (x < m.start[c] + m.width[c]) {
        if (x >= m.start[c]) next = c;
        break;
      }
    }
    if (next < 0) return -1;
    i = next;
  }
  return i;
}

/** marks returns one byte per name: 1 where match says so. */
export function marks(m: Model, match: ((name: string) => boolean) | null): Uint8Array | null {
  if (!match) return null;
  const out = new Uint8Array(m.names.length);
  for (let i = 0; i < out.length; i++) if (i !== m.name[0] && match(m.names[i])) out[i] = 1;
  return out;
}

/** matched adds up what the marked frames stand for, each stack once (the outermost marked frame counts), within node root. */
export function matched(m: Model, marked: Uint8Array, root = 0): { value: number; base: number; frames: number } {
  let value = 0, base = 0, frames = 0;
  for (let i = root; i < m.end[root]; ) {
    if (marked[m.name[i]]) {
      value += m.value[i];
      base += m.base ? m.base[i] : 0;
      frames++;
      i = m.end[i];
    } else i++;
  }
  return { value, base, frames };
}

/** Step says where an arrow key leads in terms of the tree. */
export type Step = "parent" | "child" | "prev" | "next";

/** walk returns the node that step leads to from i, within the subtree of root; i itself where there is none. A child is the widest one. */
export function walk(m: Model, i: number, step: Step, root = 0): number {
  if (step === "parent") return m.parent[i] < 0 ? i : m.parent[i];
  if (step === "child") {
    let best = -1;
    for (let c = i + 1; c < m.end[i]; c = m.end[c]) if (best < 0 || m.width[c] > m.width[best]) best = c;
    return best < 0 ? i : best;
  }
  // The neighbour in the same row, cousins included.
  const d = m.depth[i];
  if (step === "next") {
    for (let k = m.end[i]; k < m.end[root]; k++) if (m.depth[k] === d) return k;
  } else {
    for (let k = i - 1; k > root; k--) if (m.depth[k] === d) return k;
  }
  return i;
}
