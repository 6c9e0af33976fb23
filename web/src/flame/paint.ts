import { fitName } from "../names";
import { Boxes, cull, type Window } from "./cull";
import { dim, diffFill, kindFill, theMatchFill, theSliverFill, type Palette } from "./colour";
import type { Model } from "./model";

export const rowHeight = 18; // CSS pixels
const fontSize = 11.5;

/** Scene is all that decides what the canvas shows. */
export interface Scene {
  model: Model;
  palette: Palette;
  marks: Uint8Array | null; // per name: matched by the search
  window: Window;
  up: boolean; // root at the bottom
  selected: number; // node, or -1
  hovered: number; // node, or -1
  width: number; // CSS pixels
  height: number;
  scroll: number;
  contentHeight: number; // of all rows, at least height
  font: string;
}

/** rowTop is the y of a row on the canvas, scrolled. */
export function rowTop(s: Pick<Scene, "up" | "contentHeight" | "scroll">, row: number): number {
  const y = s.up ? s.contentHeight - (row + 1) * rowHeight : row * rowHeight;
  return y - s.scroll;
}

/** rowAt is the inverse of rowTop. */
export function rowAt(s: Pick<Scene, "up" | "contentHeight" | "scroll">, y: number): number {
  const at = y + s.scroll;
  return Math.floor((s.up ? s.contentHeight - at : at) / rowHeight);
}

function rows(s: Scene): [lo: number, hi: number] {
  const a = rowAt(s, 0), b = rowAt(s, s.height);
  return [Math.max(0, Math.min(a, b)), Math.max(a, b) + 1];
}

/** fillOf returns the palette index for node i. */
export function fillOf(s: Pick<Scene, "model" | "marks">, i: number): number {
  const m = s.model;
  const hit = s.marks !== null && s.marks[m.name[i]] === 1;
  let fill: number;
  if (m.base) fill = diffFill(m.value[i] * m.scale.now, m.base[i] * m.scale.base, m.width[0] / 2);
  else fill = hit ? theMatchFill : kindFill(m.kinds[m.name[i]], m.nameHash[m.name[i]]);
  return s.marks !== null && !hit ? dim(fill) : fill;
}

/** paint draws s: boxes fill by fill (setting the style is what costs), then the labels, then the outlines. */
export function paint(ctx: CanvasRenderingContext2D, s: Scene, boxes: Boxes): void {
  ctx.fillStyle = s.palette.background;
  ctx.fillRect(0, 0, s.width, s.height);
  const [lo, hi] = rows(s);
  cull(s.model, s.window, s.width, lo, hi, boxes);
  const fills = new Uint8Array(boxes.n);
  const buckets: number[][] = [];
  for (let b = 0; b < boxes.n; b++) {
    const i = boxes.node[b];
    const fill = i < 0 ? (s.marks ? dim(theSliverFill) : theSliverFill) : fillOf(s, i);
    fills[b] = fill;
    (buckets[fill] ??= []).push(b);
  }
  buckets.forEach((list, fill) => {
    ctx.fillStyle = s.palette.fills[fill];
    for (const b of list) {
      const gap = boxes.w[b] > 3 ? 1 : 0; // a hairline of background between frames
      ctx.fillRect(boxes.x[b], rowTop(s, boxes.row[b]), boxes.w[b] - gap, rowHeight - 1);
    }
  });
  labels(ctx, s, boxes, fills);
  outline(ctx, s, boxes);
}

function labels(ctx: CanvasRenderingContext2D, s: Scene, boxes: Boxes, fills: Uint8Array): void {
  ctx.font = `${fontSize}px ${s.font}`;
  ctx.textBaseline = "middle";
  const char = ctx.measureText("0").width;
  const texts: [string, number, number][] = [];
  const matches: [string, number, number][] = [];
  ctx.fillStyle = s.palette.grey;
  for (let b = 0; b < boxes.n; b++) {
    const i = boxes.node[b];
    if (i < 0 || boxes.w[b] < 4 * char) continue;
    const [grey, rest] = fitName(s.model.names[s.model.name[i]], Math.floor((boxes.w[b] - 7) / char));
    const y = rowTop(s, boxes.row[b]) + rowHeight / 2;
    const x = boxes.x[b] + 3;
    const match = fills[b] === theMatchFill;
    if (grey && !match) ctx.fillText(grey, x, y);
    (match ? matches : texts).push(match ? [grey + rest, x, y] : [rest, x + grey.length * char, y]);
  }
  ctx.fillStyle = s.palette.text;
  for (const [t, x, y] of texts) ctx.fillText(t, x, y);
  ctx.fillStyle = s.palette.onMatch;
  for (const [t, x, y] of matches) ctx.fillText(t, x, y);
}

function outline(ctx: CanvasRenderingContext2D, s: Scene, boxes: Boxes): void {
  ctx.strokeStyle = s.palette.select;
  for (let b = 0; b < boxes.n; b++) {
    const i = boxes.node[b];
    if (i < 0 || (i !== s.selected && i !== s.hovered)) continue;
    ctx.lineWidth = i === s.selected ? 2 : 1;
    const inset = ctx.lineWidth / 2;
    ctx.strokeRect(boxes.x[b] + inset, rowTop(s, boxes.row[b]) + inset, Math.max(boxes.w[b] - 1 - 2 * inset, 1), rowHeight - 1 - 2 * inset);
  }
}
