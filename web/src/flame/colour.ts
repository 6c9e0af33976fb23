// Colours of frames, from the tokens of theme.css. Nothing here names a colour.

/** RGB is a colour with channels from 0 to 255. */
export type RGB = readonly [number, number, number];

/** parseHex reads #rrggbb. */
export function parseHex(s: string): RGB {
  const m = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(s.trim());
  if (!m) throw new Error(`read colour: ${JSON.stringify(s)} is not #rrggbb`);
  return [parseInt(m[1], 16), parseInt(m[2], 16), parseInt(m[3], 16)];
}

/** mix goes from a to b as t goes from 0 to 1. */
export function mix(a: RGB, b: RGB, t: number): RGB {
  return [0, 1, 2].map((i) => Math.round(a[i] + (b[i] - a[i]) * t)) as unknown as RGB;
}

export const css = (c: RGB) => `rgb(${c[0]},${c[1]},${c[2]})`;

/** contrast is the WCAG 2 contrast ratio of two colours, 1 to 21. */
export function contrast(a: RGB, b: RGB): number {
  const lum = (c: RGB) => {
    const [r, g, b] = c.map((v) => {
      const s = v / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const x = lum(a), y = lum(b);
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}

export const kindNames = ["own", "dep", "std", "runtime", "other"] as const;

/** kindLabel says what a kind of module is. */
export const kindLabel: Record<string, string> = {
  own: "own module", dep: "dependency", std: "standard library", runtime: "runtime", other: "other",
};

/** Steps of the diff scale on each side of "same". */
export const diffSteps = 5;
const shades = 3;
const dimmed = 0.78; // how far a frame that the search leaves out goes towards the background

/** Palette is the list of fills that the painter works through; a fill's index is what the functions below return. */
export interface Palette {
  fills: string[];
  rgb: RGB[];
  text: string;
  grey: string; // the package path on a frame
  onMatch: string;
  select: string;
  background: string;
}

/** fillCount is how many fills stand before their dimmed twins. */
const kindFills = kindNames.length * shades;
const diffFills = 2 * diffSteps + 1;
const matchFill = kindFills + diffFills;
const sliverFill = matchFill + 1;
const plainFills = sliverFill + 1;

/** buildPalette makes the fills of one theme; token returns the value of a custom property. */
export function buildPalette(token: (name: string) => string): Palette {
  const bg = parseHex(token("--bg"));
  const rgb: RGB[] = [];
  for (const k of kindNames) {
    const base = parseHex(token(`--flame-${k}`));
    for (let s = 0; s < shades; s++) rgb.push(mix(base, bg, s * 0.1));
  }
  const less = parseHex(token("--diff-less")), same = parseHex(token("--diff-same")), more = parseHex(token("--diff-more"));
  for (let s = -diffSteps; s <= diffSteps; s++) rgb.push(s < 0 ? mix(same, less, -s / diffSteps) : mix(same, more, s / diffSteps));
  rgb.push(parseHex(token("--flame-match")), parseHex(token("--flame-sliver")));
  for (let i = 0; i < plainFills; i++) rgb.push(mix(rgb[i], bg, dimmed));
  return {
    rgb, fills: rgb.map(css), text: token("--flame-text"), grey: token("--flame-text-2"), onMatch: token("--flame-on-match"),
    select: token("--text"), background: token("--bg"),
  };
}

/** kindFill is the fill of a frame by its module; neighbours differ a little in shade. */
export function kindFill(kind: string, nameHash: number): number {
  const k = kindNames.indexOf(kind as (typeof kindNames)[number]);
  return (k < 0 ? kindNames.length - 1 : k) * shades + (nameHash % shades);
}

/**
 * diffFill is the fill of a frame by how much it changed: (now-base)/max, full colour at twice or half. Both sides are scaled. A change of less
 * than 0.1 % of all is no change: small frames are noise.
 */
export function diffFill(now: number, base: number, all: number): number {
  return kindFills + diffSteps + diffStep(now, base, all);
}

/** diffStep is the step on the scale, -diffSteps (gone or halved) to +diffSteps (new or doubled). */
export function diffStep(now: number, base: number, all: number): number {
  const d = now - base;
  if (Math.abs(d) < all * 0.001) return 0;
  const rel = (2 * d) / Math.max(now, base);
  const step = Math.max(-1, Math.min(1, rel)) * diffSteps;
  return step < 0 ? -Math.ceil(-step - 0.5) : Math.ceil(step - 0.5);
}

export const theMatchFill = matchFill;
export const theSliverFill = sliverFill;
export const dim = (fill: number) => fill + plainFills;
