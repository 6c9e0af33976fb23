// How values are shown in the mode that is on: plain, per second, per process, or as a share of its side.

import { formatRate, formatShare, formatValue, signed, type TypeInfo } from "./format";
import { scale } from "./state";

/** scaledText writes a value that was multiplied by its side's factor. */
export function scaledText(v: number, type: TypeInfo): string {
  const { norm } = scale.value;
  if (norm === "share") return formatShare(v, 1);
  if (norm === "interval" && type.kind !== "gauge") return formatRate(v, type);
  const text = formatValue(Math.abs(v) < 1e6 && type.unit === "count" ? Math.round(v * 100) / 100 : v, type.unit);
  return norm === "cpu" && type.kind !== "gauge" ? `${text}/s` : text;
}

/** deltaText writes a difference with its sign. */
export function deltaText(v: number, type: TypeInfo): string {
  return signed(v, scaledText(v, type));
}

/** chartText writes the chart's values: per second for intervals, as they are for gauges. ref chooses the scale. */
export function chartText(v: number, type: TypeInfo, ref = v): string {
  if (type.kind === "gauge") return formatValue(type.unit === "count" ? Math.round(v * 100) / 100 : v, type.unit, ref);
  return formatRate(v, type, ref);
}
