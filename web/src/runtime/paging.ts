// Pages of a range's lines, from its newest back: the address has "before:MS" or "after:MS" (Unix ms), and nothing for the newest.

import type { Params } from "../api";

const parts = (page: string) => /^(before|after):(\d{1,15})$/.exec(page);

/** pageIn is page where it lies in the range, else the newest. */
export function pageIn(page: string, r: { from: number; to: number }): string {
  const at = Number(parts(page)?.[2]);
  return at > r.from && at < r.to ? page : "";
}

/** pageOf is what a page asks of the API beside the range: which end of which part of it. */
export function pageOf(page: string): Params {
  const m = parts(page);
  return m?.[1] === "after" ? { order: "oldest", from: Number(m[2]) } : { order: "newest", ...(m ? { to: Number(m[2]) } : {}) };
}

/** turns are the pages before and after one, "" where there is none: each begins where this one ends, so that no line is left out. */
export function turns(page: string, d: { more: boolean; next?: number }): { older: string; newer: string } {
  const m = parts(page);
  if (m?.[1] === "after") return { older: `before:${m[2]}`, newer: d.more ? `after:${d.next}` : "" };
  return { older: d.more ? `before:${d.next}` : "", newer: m ? `after:${m[2]}` : "" };
}
