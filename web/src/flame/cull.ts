import type { Model } from "./model";

/** Window is the part of the root's width that is shown: a zoomed frame fills it. */
export interface Window {
  x0: number;
  x1: number;
}

/** Boxes is what there is to paint: parallel arrays of which the first n entries count. It is reused from frame to frame. */
export class Boxes {
  n = 0;
  node = new Int32Array(4096); // -1: a sliver that stands for frames narrower than a pixel
  row = new Int32Array(4096);
  x = new Float32Array(4096); // CSS pixels
  w = new Float32Array(4096);
  visited = 0; // nodes looked at, for the tests and the benchmark

  push(node: number, row: number, x: number, w: number): void {
    if (this.n === this.node.length) this.grow();
    this.node[this.n] = node;
    this.row[this.n] = row;
    this.x[this.n] = x;
    this.w[this.n] = w;
    this.n++;
  }

  private grow(): void {
    const size = this.node.length * 2;
    const copy = <T extends Int32Array | Float32Array>(from: T, to: T): T => (to.set(from as never), to);
    this.node = copy(this.node, new Int32Array(size));
    this.row = copy(this.row, new Int32Array(size));
    this.x = copy(this.x, new Float32Array(size));
    this.w = copy(this.w, new Float32Array(size));
  }
}

/** The narrowest frame that is drawn as itself, in CSS pixels. Narrower ones and all below them become slivers of one pixel. */
export const minWidth = 0.7;

/**
 * cull fills out with the frames of rows [rowLo, rowHi) that are seen through win on width CSS pixels. A subtree that is outside the window, below
 * the last row or narrower than a pixel is skipped as a whole, so the cost follows the pixels, not the nodes.
 */
export function cull(m: Model, win: Window, width: number, rowLo: number, rowHi: number, out: Boxes): void {
  out.n = 0;
  out.visited = 0;
  const scale = width / (win.x1 - win.x0);
  if (!Number.isFinite(scale) || scale <= 0) return;
  const sliver = new Int32Array(Math.max(rowHi, 0) + 1).fill(-2); // the last pixel column of each row that has a sliver
  let i = 0;
  while (i < m.n) {
    out.visited++;
    const s = m.start[i], e = s + m.width[i], row = m.depth[i];
    if (e <= win.x0 || s >= win.x1 || row >= rowHi) {
      i = m.end[i];
      continue;
    }
    const lo = s > win.x0 ? s : win.x0, hi = e < win.x1 ? e : win.x1;
    const x = (lo - win.x0) * scale, w = (hi - lo) * scale;
    if (w < minWidth) {
      const column = Math.floor(x);
      if (row >= rowLo && column > sliver[row]) {
        sliver[row] = column;
        out.push(-1, row, column, 1);
      }
      i = m.end[i];
      continue;
    }
    if (row >= rowLo) out.push(i, row, x, w);
    i++;
  }
}
