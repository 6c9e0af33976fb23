// The callers and callees of a function, cut out of a whole flame graph: what the server answers, for the tests that have no server.
import type { Columns, Model } from "../src/flame/model";

interface Node {
  name: number;
  value: number;
  self: number;
  base: number;
  baseSelf: number;
  children: Map<number, Node>;
}

const node = (name: number): Node => ({ name, value: 0, self: 0, base: 0, baseSelf: 0, children: new Map() });

function child(n: Node, name: number): Node {
  let c = n.children.get(name);
  if (!c) n.children.set(name, (c = node(name)));
  return c;
}

/** outermost returns the nodes of function name that are not below another of the same: together they are its total, each stack once. */
export function outermost(m: Model, name: string): number[] {
  const out: number[] = [];
  // One function may stand in names more than once: with another file in another build.
  const same = m.names.map((n) => n === name);
  for (let i = 0; i < m.n; ) {
    if (same[m.name[i]]) {
      out.push(i);
      i = m.end[i];
    } else i++;
  }
  return out;
}

/** callees returns one tree of all that function name calls, wherever it was called from. Null where it is not in m. */
export function callees(m: Model, name: string): Columns | null {
  const tops = outermost(m, name);
  if (!tops.length) return null;
  const root = node(m.name[tops[0]]);
  const open: Node[] = [];
  for (const top of tops) {
    for (let i = top; i < m.end[top]; i++) {
      const d = m.depth[i] - m.depth[top];
      const n = d === 0 ? root : child(open[d - 1], m.name[i]);
      open[d] = n;
      n.value += m.value[i];
      n.self += m.self[i];
      if (m.base) n.base += m.base[i];
      if (m.baseSelf) n.baseSelf += m.baseSelf[i];
    }
  }
  return emit(m, root);
}

/** callers returns the tree of who calls function name: the root is the function, a child its caller. Null where it is not in m. */
export function callers(m: Model, name: string): Columns | null {
  const tops = outermost(m, name);
  if (!tops.length) return null;
  const root = node(m.name[tops[0]]);
  for (const top of tops) {
    let n = root;
    const value = m.value[top], base = m.base ? m.base[top] : 0;
    n.value += value;
    n.base += base;
    for (let p = m.parent[top]; p > 0; p = m.parent[p]) {
      n = child(n, m.name[p]);
      n.value += value;
      n.base += base;
    }
    n.self += value;
    n.baseSelf += base;
  }
  return emit(m, root);
}

function emit(m: Model, root: Node): Columns {
  const name: number[] = [], depth: number[] = [], value: number[] = [], self: number[] = [], base: number[] = [], baseSelf: number[] = [];
  const stack: [Node, number][] = [[root, 0]];
  while (stack.length) {
    const [n, d] = stack.pop()!;
    name.push(n.name);
    depth.push(d);
    value.push(n.value);
    self.push(n.self);
    base.push(n.base);
    baseSelf.push(n.baseSelf);
    const kids = [...n.children.values()].sort((a, b) => (m.names[a.name] < m.names[b.name] ? 1 : -1));
    for (const k of kids) stack.push([k, d + 1]);
  }
  const c: Columns = { names: m.names, kinds: m.kinds, files: m.files, name, depth, value, self };
  return m.base ? { ...c, base_value: base, base_self: baseSelf } : c;
}
