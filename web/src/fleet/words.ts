// How the fleet's numbers and names are written.

import type { Process } from "./state";

/** span writes ms in its two largest units: "3d4h", "12m5s"; "" for none. */
export function span(ms: number): string {
  const s = Math.floor(ms / 1000);
  if (ms <= 0) return "";
  if (s >= 86400) return `${Math.floor(s / 86400)}d${Math.floor((s % 86400) / 3600)}h`;
  if (s >= 3600) return `${Math.floor(s / 3600)}h${Math.floor((s % 3600) / 60)}m`;
  if (s >= 60) return `${Math.floor(s / 60)}m${s % 60}s`;
  return `${s}s`;
}

/** count writes a whole number with its thousands separated. */
export function count(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** several is a count with its noun: "1 process", "12 processes". */
export const several = (n: number, one: string, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

/** percent is rounded down: 100 % says that there is no gap. */
export function percent(watched: number, expected: number): string {
  return expected ? `${Math.floor((100 * watched) / expected)} %` : "";
}

const quote = (s: string) => `"${s.replace(/\\/g, "\\\\").replace(/"/g, '\\"')}"`;
const literal = (s: string) => s.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

/** profilesOf links to the profiles of one process, under all ids that it is known by. */
export function profilesOf(p: Pick<Process, "service" | "instance" | "instances">): string {
  const ids = p.instances ?? [p.instance];
  const instance = ids.length > 1 ? `service_instance_id=~${quote(ids.map(literal).join("|"))}` : `service_instance_id=${quote(ids[0])}`;
  const service = p.service ? `service_name=${quote(p.service)},` : "";
  return `/?${new URLSearchParams({ query: `{${service}${instance}}` })}`;
}
