import type { Columns } from "../src/flame/model";

/** randomTree is a tree of n nodes in the API's form, the same for the same seed: wide, uneven and recursive as profiles are. */
export function randomTree(n: number, seed: number): Columns {
  let state = seed * 2654435761;
  const random = () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
  const names = ["total"], kinds = [""], files = [""];
  const all = ["own", "dep", "std", "runtime", "other"];
  for (let i = 1; i <= 800; i++) {
    names.push(`example.com/mod${i % 17}/pkg${i % 41}.(*Type${i % 7}).Method${i}`);
    kinds.push(all[i % 5]);
    files.push(`/src/mod${i % 17}/file${i}.go`);
  }
  const name = [0], depth = [0], self = [0];
  let d = 0;
  for (let i = 1; i < n; i++) {
    d = random() < 0.7 && d < 60 ? d + 1 : Math.max(1, d - Math.floor(random() * random() * 30));
    name.push(1 + Math.floor(random() * 800));
    depth.push(d);
    self.push(random() < 0.4 ? Math.floor(10 ** (random() * 5)) : 0);
  }
  const value = [...self];
  const open: number[] = [];
  for (let i = 0; i < n; i++) {
    open.length = depth[i];
    for (const p of open) value[p] += self[i];
    open.push(i);
  }
  return { names, kinds, files, name, depth, value, self };
}
