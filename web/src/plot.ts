import type uPlot from "uplot";
import uPlotClass from "uplot";
import type { Event, Series } from "./api";
import type { Range } from "./state";
import { css, mix, parseHex } from "./flame/colour";
import { trimZeros } from "./format";
import { clock, type Zone } from "./time";

/** PlotInput is all that the chart's options are made of. */
export interface PlotInput {
  data: Series;
  names: string[];
  colours: string[];
  marks: Event[];
  zone: Zone;
  stacked: boolean;
  width: number;
  height: number;
  range: Range;
  token: (name: string) => string;
  text: (v: number, ref?: number) => string; // of a value as plotted, in the scale that ref wants
  select: (from: number, to: number, base: boolean) => void; // Unix ms; base: Shift was held
}

// Round steps of a bytes axis: powers of two.
const binary = Array.from({ length: 60 }, (_, k) => 2 ** (k - 6));

/** plotOptions makes uPlot's options: steps, because a value stands for its whole step; a drag chooses a range. */
export function plotOptions(p: PlotInput): uPlot.Options {
  const line = p.token("--line"), text = p.token("--text-2"), font = `11px ${p.token("--sans")}`;
  const stepped = uPlotClass.paths.stepped!({ align: 1 });
  let shift = false;
  const axis = { stroke: text, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width: p.width, height: p.height, padding: [8, 8, 0, 0], legend: { show: false },
    cursor: {
      drag: { x: true, y: false, setScale: false },
      points: { show: false },
      bind: { mousedown: (_u, _el, handler) => (e: MouseEvent) => ((shift = e.shiftKey), handler(e)) },
    },
    scales: {
      x: { time: true, range: () => [p.data.from / 1000, p.data.to / 1000] },
      y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.18 : 1] },
    },
    axes: [
      { ...axis, size: 22, gap: 4, space: 70, values: (_u, splits) => splits.map((s) => tick(s * 1000, p)) },
      { ...axis, size: 84, gap: 6, space: 28, ...(p.data.type.unit === "bytes" ? { incrs: binary } : {}), values: (_u, splits) => splits.map((v) => trimZeros(p.text(v, splits[splits.length - 1]))) },
    ],
    series: [
      {},
      ...p.names.map((label, i) => ({
        label, paths: stepped, stroke: p.colours[i], width: p.stacked ? 1 : 1.5, points: { show: false },
        // Opaque, because each area lies over the ones before it: with alpha the colours would mix.
        fill: p.stacked ? css(mix(parseHex(p.colours[i]), parseHex(p.token("--bg")), 0.5)) : undefined,
      })),
    ],
    hooks: {
      drawClear: [(u) => shade(u, p, false)],
      draw: [(u) => shade(u, p, true), (u) => drawMarks(u, p)],
      setCursor: [(u) => readout(u, p)],
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < 4) return;
          const from = u.posToVal(left, "x") * 1000, to = u.posToVal(left + width, "x") * 1000;
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          if (to - from >= 1000) p.select(from, to, shift);
        },
      ],
    },
  };
}

function tick(ms: number, p: PlotInput): string {
  const length = p.data.to - p.data.from;
  if (length > 2 * 864e5 || clock(ms, p.zone, "short") === "00:00") return clock(ms, p.zone, "day");
  return clock(ms, p.zone, length < 10 * 6e4 ? "time" : "short");
}

/** shade marks the two ranges of a diff behind the lines; with names it writes what they are, above the lines. */
function shade(u: uPlot, p: PlotInput, names: boolean): void {
  const r = p.range;
  if (!r.base || (r.base[0] === r.from && r.base[1] === r.to)) return; // two selections of one range
  const ctx = u.ctx;
  const { left, top, width, height } = u.bbox;
  for (const [a, b, colour, label] of [[...r.base, "--diff-less", "baseline"], [r.from, r.to, "--diff-more", "now"]] as const) {
    const x0 = Math.max(left, u.valToPos(a / 1000, "x", true)), x1 = Math.min(left + width, u.valToPos(b / 1000, "x", true));
    if (x1 <= x0) continue;
    ctx.save();
    if (names) {
      ctx.fillStyle = p.token("--text");
      ctx.font = `${11 * devicePixelRatio}px ${p.token("--sans")}`;
      ctx.textBaseline = "top";
      ctx.textAlign = "left";
      ctx.fillText(label, x0 + 4 * devicePixelRatio, top + 2 * devicePixelRatio);
    } else {
      ctx.globalAlpha = 0.22;
      ctx.fillStyle = p.token(colour);
      ctx.fillRect(x0, top, x1 - x0, height);
    }
    ctx.restore();
  }
}

function drawMarks(u: uPlot, p: PlotInput): void {
  const { left, top, width, height } = u.bbox;
  const ctx = u.ctx;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = p.token("--text");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const e of p.marks) {
    const x = Math.round(u.valToPos(e.time / 1000, "x", true)) + 0.5;
    if (x < left || x > left + width) continue;
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    const s = 4 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x - s, top);
    ctx.lineTo(x + s, top);
    ctx.lineTo(x, top + 1.5 * s);
    ctx.fill();
  }
  ctx.restore();
}

/** readout shows the values under the pointer. */
function readout(u: uPlot, p: PlotInput): void {
  let tip = u.over.querySelector<HTMLDivElement>(".tip");
  const i = u.cursor.idx;
  if (i === null || i === undefined || (u.cursor.left ?? -1) < 0) {
    tip?.remove();
    return;
  }
  if (!tip) {
    tip = document.createElement("div");
    tip.className = "tip";
    u.over.append(tip);
  }
  const rows: (readonly [string, string, string])[] = p.names.map((name, k) => {
    const own = u.data[k + 1][i] ?? 0;
    const below = p.stacked && k + 2 < u.data.length ? (u.data[k + 2][i] ?? 0) : 0;
    return [name, p.text(own - below), p.colours[k]] as const;
  });
  if (p.stacked && rows.length > 1) rows.push(["sum", p.text(u.data[1][i] ?? 0), ""]);
  tip.replaceChildren(line(clock(u.data[0][i] * 1000, p.zone), "", ""), ...rows.map(([a, b, c]) => line(a, b, c)));
  const left = u.cursor.left ?? 0;
  const flip = left > u.over.clientWidth / 2;
  tip.style.left = flip ? "" : `${left + 12}px`;
  tip.style.right = flip ? `${u.over.clientWidth - left + 12}px` : "";
}

function line(name: string, value: string, colour: string): HTMLDivElement {
  const div = document.createElement("div");
  const swatch = document.createElement("i");
  swatch.className = "swatch";
  swatch.style.background = colour || "transparent";
  const label = document.createElement("span");
  label.textContent = name;
  const num = document.createElement("b");
  num.textContent = value;
  div.append(swatch, label, num);
  return div;
}
