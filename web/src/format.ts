// Numbers with units, three significant digits, as short as a table column wants them.

/** A profile's type as the API describes it. */
export interface TypeInfo {
  id: string;
  profile: string;
  sample: string;
  unit: string;
  kind: "interval" | "gauge";
  default?: boolean;
}

type Scale = readonly (readonly [number, string])[];

const nano: Scale = [[864e11, "d"], [36e11, "h"], [6e10, "min"], [1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
const bytes: Scale = [[2 ** 50, "PiB"], [2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];
const plain: Scale = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1, ""]];

/** digits writes a number with three significant digits and thousands separated: 1234 is "1,234", 0.01234 is "0.0123". */
export function digits(v: number): string {
  const a = Math.abs(v);
  if (a === 0) return "0";
  if (a >= 99.95) return Math.round(v).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  if (a >= 9.995) return v.toFixed(1);
  if (a >= 0.9995) return v.toFixed(2);
  return a >= 0.000001 ? v.toPrecision(3) : v.toExponential(1);
}

function scaled(v: number, scale: Scale, ref: number): string {
  const a = Math.abs(ref);
  for (let i = 0; i < scale.length; i++) {
    const [size, unit] = scale[i];
    // 999.7 ms reads as 1,000 ms after rounding: take the next larger unit.
    if (a >= size * 0.9995 || i === scale.length - 1) return unit ? `${digits(v / size)} ${unit}` : digits(v / size);
  }
  return digits(v);
}

/** formatValue writes v of the given pprof unit: 1500000 nanoseconds is "1.50 ms". ref is the value by whose size the scale is chosen: an axis has one for all. */
export function formatValue(v: number, unit: string, ref = v): string {
  switch (unit) {
    case "nanoseconds":
      return ref === 0 ? "0 s" : scaled(v, nano, ref);
    case "bytes":
      return scaled(v, bytes, ref);
    case "count":
    case "":
      return Math.abs(ref) < 1e6 && Number.isInteger(v) ? digits2(v) : scaled(v, plain, ref);
  }
  return `${scaled(v, plain, ref)} ${unit}`;
}

function digits2(v: number): string {
  return v.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** formatRate writes v per second: CPU time per time is a number of cores. */
export function formatRate(v: number, type: TypeInfo, ref = v): string {
  if (type.unit === "nanoseconds" && type.profile === "cpu") {
    if (ref === 0 || Math.abs(ref) >= 9.995e8) return `${digits(v / 1e9)} cores`;
    return `${digits(v / 1e6)} mcores`;
  }
  return `${formatValue(v, type.unit, ref)}/s`;
}

/** trimZeros takes the decimals away that say nothing: "50.0 MiB" is "50 MiB". For axes, whose values are round. */
export function trimZeros(text: string): string {
  return text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");
}

/** formatShare writes part of whole in percent: "12.3 %". Where there is no whole there is no share. */
export function formatShare(part: number, whole: number): string {
  if (!whole) return "–";
  const p = (100 * part) / whole;
  const a = Math.abs(p);
  if (a === 0) return "0 %";
  if (a < 0.01) return "<0.01 %";
  return `${a >= 99.95 ? p.toFixed(0) : a >= 9.995 ? p.toFixed(1) : p.toFixed(2)} %`;
}

/** formatChance writes a probability: "0.041", "3e-9"; below what a number holds log10 says how small it is. */
export function formatChance(p: number, log10: number): string {
  if (p >= 0.9995) return "1";
  if (p >= 0.001) return p.toFixed(3);
  return p > 0 ? p.toExponential(0) : `1e${Math.round(log10)}`;
}

/** formatChange writes how now differs from base: "+25 %", "new", "gone". */
export function formatChange(now: number, base: number): string {
  if (base === 0) return now === 0 ? "–" : "new";
  if (now === 0) return "gone";
  const p = (100 * (now - base)) / base;
  if (Math.abs(p) < 0.05) return "0 %";
  if (p >= 999.5) return `×${digits(now / base)}`;
  return `${p > 0 ? "+" : "−"}${Math.abs(p) >= 9.95 ? Math.abs(p).toFixed(0) : Math.abs(p).toFixed(1)} %`;
}

/** signed puts a sign in front of what text says of v. */
export function signed(v: number, text: string): string {
  if (v === 0) return text;
  return v > 0 ? `+${text}` : text.replace("-", "−");
}

/** typeTitle names a type for a reader: "heap in use, bytes". */
export function typeTitle(t: TypeInfo): string {
  return titles[t.id] ?? `${t.profile} ${t.sample.replace(/_/g, " ")}`;
}

const titles: Record<string, string> = {
  "cpu:cpu": "CPU time",
  "cpu:samples": "CPU samples",
  "heap:inuse_space": "heap in use",
  "heap:inuse_objects": "heap objects in use",
  "heap:alloc_space": "allocated bytes",
  "heap:alloc_objects": "allocated objects",
  "goroutine:goroutine": "goroutines",
  "mutex:delay": "mutex wait",
  "mutex:contentions": "mutex contentions",
  "block:delay": "blocked time",
  "block:contentions": "blocking events",
};
