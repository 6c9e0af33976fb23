// Times as a reader writes them: now-1h, RFC 3339, Unix seconds or milliseconds, or a plain date and time in the zone shown.

export type Zone = "utc" | "local";

const unitMs: Record<string, number> = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };

/** parseDuration returns the milliseconds of "15s", "1h30m" or "7d", or null. */
export function parseDuration(text: string): number | null {
  if (!/^(\d+(\.\d+)?(ms|[smhdw]))+$/.test(text)) return null;
  let sum = 0;
  for (const m of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g)) sum += Number(m[1]) * unitMs[m[2]];
  return sum;
}

/** formatDuration is the shortest exact way to write ms for parseDuration: 3600000 is "1h". */
export function formatDuration(ms: number): string {
  if (ms <= 0) return "0s";
  let out = "";
  for (const u of ["d", "h", "m", "s", "ms"]) {
    const n = Math.floor(ms / unitMs[u]);
    if (n > 0) out += n + u;
    ms -= n * unitMs[u];
  }
  return out;
}

/**
 * parseTime returns Unix milliseconds, or null where text is no time. A number below 10^11 is seconds, from there on milliseconds.
 * A date without a zone is read in zone.
 */
export function parseTime(text: string, now: number, zone: Zone = "utc"): number | null {
  const s = text.trim();
  if (s === "now") return now;
  const rel = /^now\s*([-+])\s*(\S+)$/.exec(s);
  if (rel) {
    const d = parseDuration(rel[2]);
    return d === null ? null : now + (rel[1] === "-" ? -d : d);
  }
  if (/^\d+(\.\d+)?$/.test(s)) {
    const n = Number(s);
    return Math.round(n < 1e11 ? n * 1000 : n);
  }
  const m = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(Z|[-+]\d{2}:\d{2})?)?$/i.exec(s);
  if (!m) return null;
  const iso = `${m[1]}T${m[2] ?? "00:00"}${m[3] ? m[3].toUpperCase() : zone === "utc" ? "Z" : ""}`;
  const t = Date.parse(iso);
  return Number.isNaN(t) ? null : t;
}

/** isRelative says whether a range that ends at text moves with the clock. */
export function isRelative(text: string): boolean {
  return text.trim().startsWith("now");
}

/** toParam writes an absolute time for a link: RFC 3339 in UTC, without milliseconds where there are none. */
export function toParam(ms: number): string {
  return new Date(ms).toISOString().replace(".000Z", "Z");
}

const pad = (n: number, w = 2) => String(n).padStart(w, "0");

/** clock formats ms in zone as "2026-11-21 09:03:10", or less where the parts are not asked for. */
export function clock(ms: number, zone: Zone, parts: "full" | "minute" | "time" | "short" | "day" = "full"): string {
  const d = zone === "utc" ? new Date(ms) : new Date(ms - new Date(ms).getTimezoneOffset() * 6e4);
  const day = `${d.getUTCFullYear()}-${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())}`;
  const hm = `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}`;
  if (parts === "day") return day.slice(5);
  if (parts === "short") return hm;
  if (parts === "time") return `${hm}:${pad(d.getUTCSeconds())}`;
  if (parts === "minute") return `${day} ${hm}`;
  return `${day} ${hm}:${pad(d.getUTCSeconds())}`;
}

/** The ranges that the time picker offers, each ending now. */
export const presets = ["5m", "15m", "30m", "1h", "3h", "6h", "12h", "1d", "2d", "7d"];

const longUnit: Record<string, string> = { s: "second", m: "minute", h: "hour", d: "day", w: "week" };

/** rangeLabel says a range as a reader would: "last 15 minutes", or its two ends; short leaves out that they are of today. */
export function rangeLabel(from: string, to: string, zone: Zone, now: number, short = false): string {
  const rel = /^now-(\d+)([smhdw])$/.exec(from);
  if (to === "now" && rel) {
    const n = Number(rel[1]);
    return n === 1 ? `last ${longUnit[rel[2]]}` : `last ${n} ${longUnit[rel[2]]}s`;
  }
  const a = parseTime(from, now, zone);
  const b = parseTime(to, now, zone);
  if (a === null || b === null) return `${from} to ${to}`;
  const end = to === "now" ? "now" : sameDay(a, b, zone) ? clock(b, zone, "time") : clock(b, zone);
  const today = short && sameDay(a, now, zone) && sameDay(b, now, zone);
  return `${clock(a, zone, today ? "time" : "full")} – ${end}`;
}

function sameDay(a: number, b: number, zone: Zone): boolean {
  return clock(a, zone).slice(0, 10) === clock(b, zone).slice(0, 10);
}
