// One small chart on a canvas: lines over a grid of times. All charts share their times, so what moves (cursor, selection) lies over them and is not drawn here.

import { formatRate, formatShare, formatValue, trimZeros } from "../format";
import { clock, type Zone } from "../time";
import type { Unit } from "./queries";

/** The room for the axis on the left and the margin on the right, px; the overlay in runtime.css has the same. */
export const axisWidth = 72;
export const rightMargin = 24;

const cpu = { id: "", profile: "cpu", sample: "", unit: "nanoseconds", kind: "interval" } as const;

/** unitText writes a value of a chart; ref chooses the scale. */
export function unitText(v: number, unit: Unit, ref = v): string {
  const round = (x: number) => (Math.abs(x) < 1e6 ? Math.round(x * 100) / 100 : x);
  switch (unit) {
    case "cores": return formatRate(v * 1e9, cpu, ref * 1e9);
    case "bytes": return formatValue(v, "bytes", ref);
    case "bytes/s": return `${formatValue(v, "bytes", ref)}/s`;
    case "seconds": return formatValue(v * 1e9, "nanoseconds", ref * 1e9);
    case "share": return v === 0 ? "0 %" : formatShare(v, 1);
    case "/min": return `${formatValue(round(v), "count", ref)}/min`;
    default: return formatValue(round(v), "count", ref);
  }
}

/** levels are the round values at which a grid line is drawn, two to four of them, the last one at or above max. */
export function levels(max: number, unit: Unit): number[] {
  if (!(max > 0)) return [0, 1];
  const binary = unit === "bytes" || unit === "bytes/s";
  const base = binary ? 2 ** Math.floor(Math.log2(max / 2)) : 10 ** Math.floor(Math.log10(max / 2));
  const step = (binary ? [1, 2] : [1, 2, 5, 10]).map((k) => k * base).find((s) => max / s <= 3) ?? base * 2;
  return Array.from({ length: Math.ceil(max / step - 1e-9) + 1 }, (_, i) => i * step);
}

const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800].map((s) => s * 1000);

/** tickCount is how many times fit beside each other in a chart so wide (px). */
export const tickCount = (width: number) => Math.max(2, Math.floor(width / 80));

export interface Tick {
  at: number;
  text: string;
}

/** ticks are at most n round times of the zone in [from, to]. */
export function ticks(from: number, to: number, n: number, zone: Zone): Tick[] {
  const step = steps.find((s) => (to - from) / s <= n) ?? steps[steps.length - 1] * Math.ceil((to - from) / steps[steps.length - 1] / n);
  const shift = zone === "utc" ? 0 : new Date(from).getTimezoneOffset() * 6e4;
  const out: Tick[] = [];
  for (let t = Math.ceil((from - shift) / step) * step + shift; t <= to; t += step) {
    const midnight = clock(t, zone, "short") === "00:00";
    out.push({ at: t, text: step >= 864e5 || midnight ? clock(t, zone, "day") : clock(t, zone, step < 6e4 ? "time" : "short") });
  }
  return out;
}

/** Stroke is a line with how it is drawn. */
export interface Stroke {
  values: (number | null)[];
  colour: string;
  limit: boolean;
}

export interface Picture {
  from: number;
  to: number;
  start: number;
  step: number;
  unit: Unit;
  ticks: Tick[];
  strokes: Stroke[];
  grid: string;
  text: string;
  font: string;
}

/** top is the largest value to make room for: a limit counts where it is near what it limits. */
export function top(strokes: readonly Stroke[]): number {
  const most = (list: readonly Stroke[]) => Math.max(0, ...list.flatMap((s) => s.values.map((v) => v ?? 0)));
  const used = most(strokes.filter((s) => !s.limit)), limit = most(strokes.filter((s) => s.limit));
  return used === 0 || limit <= used * 3 ? Math.max(used, limit) : used;
}

/** draw paints p over the whole canvas. */
export function draw(canvas: HTMLCanvasElement, p: Picture): void {
  const width = canvas.clientWidth, height = canvas.clientHeight, dpr = devicePixelRatio;
  if (!width || !height) return;
  canvas.width = Math.round(width * dpr);
  canvas.height = Math.round(height * dpr);
  const ctx = canvas.getContext("2d")!;
  ctx.scale(dpr, dpr);
  const max = top(p.strokes), marks = levels(max * 1.02, p.unit), highest = marks[marks.length - 1];
  const left = axisWidth, right = width - rightMargin, low = height - 4, high = 8;
  const x = (t: number) => left + ((t - p.from) / (p.to - p.from)) * (right - left);
  const y = (v: number) => low - (v / highest) * (low - high);
  ctx.strokeStyle = p.grid;
  ctx.fillStyle = p.text;
  ctx.font = p.font;
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  ctx.beginPath();
  for (const m of marks) {
    const at = Math.round(y(m)) + 0.5;
    ctx.moveTo(left, at);
    ctx.lineTo(right, at);
    if (max > 0) ctx.fillText(m === 0 ? "0" : trimZeros(unitText(m, p.unit, highest)), left - 6, Math.min(at, height - 7));
  }
  for (const t of p.ticks) {
    const at = Math.round(x(t.at)) + 0.5;
    ctx.moveTo(at, high);
    ctx.lineTo(at, low);
  }
  ctx.stroke();
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, 0, right - left, height);
  ctx.clip();
  for (const s of [...p.strokes].reverse()) stroke(ctx, s, p, x, y); // the first line is the one to be seen
  ctx.restore();
  canvas.dataset.lines = String(p.strokes.length);
}

function stroke(ctx: CanvasRenderingContext2D, s: Stroke, p: Picture, x: (t: number) => number, y: (v: number) => number): void {
  ctx.strokeStyle = ctx.fillStyle = s.colour;
  ctx.lineWidth = 1.5;
  ctx.setLineDash(s.limit ? [4, 3] : []);
  ctx.lineJoin = "round";
  ctx.beginPath();
  let open = false;
  s.values.forEach((v, i) => {
    if (v === null) return void (open = false);
    const px = x(p.start + i * p.step), py = y(v);
    if (open) ctx.lineTo(px, py);
    else if (s.values[i + 1] === undefined || s.values[i + 1] === null) ctx.fillRect(px - 1, py - 1, 2.5, 2.5); // a value alone
    else ctx.moveTo(px, py);
    open = true;
  });
  ctx.stroke();
}
